// Speed of forward-only steps: each line a ratio of two things measured in turns in this run, and the figure to reach. Run by hand:
//   zeroth_order_bench [--threads 2] [--rounds 9] [--only NAME] [--clock wall|processor]
// Beside other work: OMP_WAIT_POLICY=passive zeroth_order_bench --clock processor compares processor time (of the slower rank, where
// there are two), which neighbours disturb least; waiting does not count then, nor do threads that are unevenly busy.
// GPT-2 of 8 layers, 512 wide, 25.6 M parameters, fp32, SGD, central differences. The bound is the time of 2q plain LibTorch forwards: the
// model over torch::nn, inference mode, LibTorch's own allocator. Takes about 6 minutes on a quiet machine and 1 GB.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>

#include "base/error.h"
#include "runtime/engine/engine.h"
#include "sharding/local_ranks.h"
#include "sharding/mpi_session.h"
#include "tests/support/plain_gpt2.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;
using Perturbation = StepConfig::Perturbation;
using Work = std::function<void()>;
using testing::median;
using testing::median_ratio;
using testing::seconds_of;

// Seconds of each work in each round; the works take turns, and each round begins with another one.
std::vector<std::vector<double>> in_turns(const std::vector<Work>& works, int rounds, clockid_t clock) {
  std::vector<std::vector<double>> out(works.size());
  for (int round = -1; round < rounds; ++round)
    for (size_t i = 0; i < works.size(); ++i) {
      const size_t work = (i + static_cast<size_t>(round + 1)) % works.size();
      const double seconds = seconds_of(works[work], clock);
      if (round >= 0) out[work].push_back(seconds);
    }
  return out;
}

struct Shape {
  int64_t samples, tokens;  // tokens a sample
};
constexpr Shape kShort{1, 64}, kLong{4, 256}, kTiny{1, 8};

Batch random_batch(const Shape& shape) {
  const int64_t vocabulary = testing::benchmark_gpt2().vocab_size;
  Batch batch;
  batch.tokens = at::randint(vocabulary, {shape.samples, shape.tokens}, at::kLong);
  batch.labels = at::randint(vocabulary, {shape.samples, shape.tokens}, at::kLong);
  for (int64_t i = 0; i < shape.samples; ++i) batch.sample_ids.push_back(i);
  batch.valid_tokens = batch.global_valid_tokens = shape.samples * shape.tokens;
  return batch;
}

// LibTorch's own allocator in this scope, as a user of LibTorch has it.
class PlainAllocator {
 public:
  PlainAllocator() : before_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(c10::GetDefaultCPUAllocator(), kPriority); }
  ~PlainAllocator() { c10::SetCPUAllocator(before_, kPriority); }
  PlainAllocator(const PlainAllocator&) = delete;
  PlainAllocator& operator=(const PlainAllocator&) = delete;

 private:
  static constexpr uint8_t kPriority = 200;
  c10::Allocator* before_;
};

class PlainForwards {
 public:
  explicit PlainForwards(const Shape& shape) : batch_(random_batch(shape)), model_(make()) {}
  void run(int64_t count) {
    const PlainAllocator allocator;
    const c10::InferenceMode inference;
    double sum = 0;
    for (int64_t i = 0; i < count; ++i)
      sum += at::cross_entropy_loss(model_->logits(batch_.tokens).flatten(0, 1), batch_.labels.flatten()).item<double>();
    if (!(sum > 0)) fail_run("benchmark: the plain model's loss is {}", sum);
  }

 private:
  static std::unique_ptr<testing::PlainGpt2> make() {
    const PlainAllocator allocator;
    return std::make_unique<testing::PlainGpt2>(testing::benchmark_gpt2());
  }
  Batch batch_;
  std::unique_ptr<testing::PlainGpt2> model_;
};

struct StepShape {
  Perturbation perturbation;
  Shape shape;
  int64_t queries;
  int stage = 0;
};

// Steps of this project on one rank of `world`, which share the directions out.
class Steps {
 public:
  Steps(const StepShape& step, Communicator world)
      : batch_(random_batch(step.shape)), model_(make_gpt2(testing::benchmark_gpt2())), objective_(make_cross_entropy()) {
    Config config;
    config.gradient_clipping = 0;
    config.optimizer.type = OptimizerConfig::Type::SGD;
    config.optimizer.type_name = "SGD";
    config.optimizer.lr = 1e-6;
    config.zero.stage = step.stage;
    config.batch = {step.shape.samples, step.shape.samples, 1};
    config.data.sequence_length = step.shape.tokens;
    config.step.mode = StepConfig::Mode::ZerothOrder;
    config.step.mode_name = "zo";
    config.step.perturbation = step.perturbation;
    config.step.queries = step.queries;
    config.step.direction_parallel = world.size();
    config.step.query_batch = config.batch;
    config.step.query_sequence_length = step.shape.tokens;
    const auto initial = [](const ParameterInfo& info, int64_t begin, int64_t count, float* out) {
      initial_values(info, 1, begin, count, out);
    };
    const TrainingPlan plan = plan_training(config, *model_, *objective_, world.size());
    engine_ = std::make_unique<Engine>(config, *model_, *objective_, plan, initial, world);
  }
  void run() {
    const StepResult result = engine_->train_step(step_++, {{}, [&](int64_t, int64_t) { return batch_; }});
    if (result.skipped) fail_run("benchmark: step {} was skipped", step_ - 1);
  }

 private:
  Batch batch_;
  std::unique_ptr<ModelDefinition> model_;
  std::unique_ptr<Objective> objective_;
  std::unique_ptr<Engine> engine_;
  int64_t step_ = 0;
};

// What low-rank directions cannot do without: the products of all rows of all branches with each plain matrix, and one update of it by the
// step's factors.
class BareProducts {
 public:
  BareProducts(const Shape& shape, int64_t queries, int64_t rank) {
    const Gpt2Options o = testing::benchmark_gpt2();
    const int64_t rows = 2 * queries * shape.samples * shape.tokens;
    const auto add = [&](int64_t in, int64_t out) {
      products_.push_back(
          {at::randn({rows, in}), 0.02 * at::randn({in, out}), at::randn({in, queries * rank}), at::randn({queries * rank, out})});
    };
    for (int64_t i = 0; i < o.n_layer; ++i) {
      add(o.n_embd, 3 * o.n_embd);
      add(o.n_embd, o.n_embd);
      add(o.n_embd, 4 * o.n_embd);
      add(4 * o.n_embd, o.n_embd);
    }
    add(o.n_embd, o.vocab_size);
  }
  void run() {
    const c10::InferenceMode inference;
    for (Product& p : products_) at::mm(p.rows, p.weight);
    for (Product& p : products_) p.weight.addmm_(p.left, p.right, 1, 1e-9);
  }

 private:
  struct Product {
    at::Tensor rows, weight, left, right;
  };
  std::vector<Product> products_;
};

// What lines are measured with: one rank, and how.
struct Setting {
  Communicator alone;
  int rounds;
  bool processor_time;
  clockid_t clock() const { return processor_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC; }
  clockid_t clock_of_a_rank() const { return processor_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC; }
};

struct Found {
  double ratio;
  std::string note = {};
};
struct Line {
  std::string name, what;
  double reach;
  bool at_least;
  std::function<Found()> measure;
};

Found step_over_bound(const StepShape& step, const Setting& setting) {
  PlainForwards plain(step.shape);
  Steps steps(step, setting.alone);
  const auto seconds = in_turns({[&] { plain.run(2 * step.queries); }, [&] { steps.run(); }}, setting.rounds, setting.clock());
  return {median_ratio(seconds[1], seconds[0]),
          fmt::format("{:.0f} ms over {:.0f} ms", 1e3 * median(seconds[1]), 1e3 * median(seconds[0]))};
}

Found eight_over_one(const StepShape& eight, const Setting& setting) {
  StepShape one = eight;
  one.queries = 1;
  Steps of_eight(eight, setting.alone), of_one(one, setting.alone);
  const auto of_one_eight_times = [&] {
    for (int i = 0; i < 8; ++i) of_one.run();
  };
  const auto seconds = in_turns({[&] { of_eight.run(); }, of_one_eight_times}, setting.rounds, setting.clock());
  return {median_ratio(seconds[0], seconds[1])};
}

// The same at few tokens, where the weights' own traffic is what queries share, over what bare products and updates gain.
Found eight_over_one_over_bare(const Setting& setting) {
  const int64_t rank = StepConfig().rank;
  Steps of_eight({Perturbation::LowRank, kTiny, 8}, setting.alone), of_one({Perturbation::LowRank, kTiny, 1}, setting.alone);
  BareProducts bare_of_eight(kTiny, 8, rank), bare_of_one(kTiny, 1, rank);
  const auto eight_times = [](auto& of_one_direction) {
    for (int i = 0; i < 8; ++i) of_one_direction.run();
  };
  const auto seconds =
      in_turns({[&] { of_eight.run(); }, [&] { eight_times(of_one); }, [&] { bare_of_eight.run(); }, [&] { eight_times(bare_of_one); }},
               setting.rounds, setting.clock());
  const double ours = median_ratio(seconds[0], seconds[1]), bare = median_ratio(seconds[2], seconds[3]);
  return {ours / bare, fmt::format("{:.2f} over {:.2f}; a step of 8 is {:.2f} x its bare products and update", ours, bare,
                                   median_ratio(seconds[0], seconds[2]))};
}

// Two ranks are two threads, each with one LibTorch thread; so has the rank that runs alone.
Found two_ranks_over_one(const StepShape& step, const Setting& setting) {
  Found found{0};
  run_local_ranks(2, {}, [&](Communicator world) {
    at::set_num_threads(1);
    Stream stream = Stream::inline_stream("benchmark");
    const auto together = [&] { world.barrier(stream, "benchmark").wait(); };
    Steps shared(step, world);
    std::optional<Steps> solo;
    if (world.rank() == 0) solo.emplace(step, setting.alone);
    auto seconds = in_turns({[&] {
                               if (solo) solo->run();
                               together();
                             },
                             [&] {
                               shared.run();
                               together();
                             }},
                            setting.rounds, setting.clock_of_a_rank());
    world.all_reduce_scalars(seconds[1], ReduceOp::Max, "seconds of the slower rank");
    if (solo) found.ratio = median_ratio(seconds[0], seconds[1]);
  });
  return found;
}

std::vector<Line> lines(const Setting& setting, int threads) {
  struct Distribution {
    Perturbation kind;
    const char* name;
    double reach;
  };
  const Distribution distributions[] = {
      {Perturbation::Gaussian, "gaussian", 1.5}, {Perturbation::Rademacher, "rademacher", 1.25}, {Perturbation::LowRank, "low_rank", 1.05}};
  Setting of_long = setting;
  of_long.rounds = std::min(setting.rounds, 3);
  std::vector<Line> out;
  for (const auto& d : distributions)
    out.push_back({d.name, "ZO step over 2q plain forwards, 64 tokens, q = 8", d.reach, false, [=] {
                     return step_over_bound({d.kind, kShort, 8}, setting);
                   }});
  for (const auto& d : distributions)
    out.push_back({fmt::format("{}_1024", d.name), "the same, 1,024 tokens", 1.05, false, [=] {
                     return step_over_bound({d.kind, kLong, 8}, of_long);
                   }});
  for (const auto& d : distributions)
    out.push_back({fmt::format("{}_queries", d.name), "q = 8 over q = 1, seconds a direction, 64 tokens", 0.9, false, [=] {
                     return eight_over_one({d.kind, kShort, 8}, setting);
                   }});
  out.push_back({"low_rank_queries_8", "the same, 8 tokens, over that of bare products and updates", 1.15, false,
                 [=] { return eight_over_one_over_bare(setting); }});
  if (threads < 2) return out;
  for (const bool many : {false, true})
    for (const int stage : {0, 1}) {
      const StepShape step{Perturbation::Gaussian, many ? kLong : kShort, 8, stage};
      out.push_back({fmt::format("ranks_stage_{}{}", stage, many ? "_1024" : ""),
                     fmt::format("2 ranks over 1, direction_parallel 2, stage {}, gaussian, {}", stage,
                                 many ? "1,024 tokens, q = 8" : "64 tokens, q = 8"),
                     1.9, true, [=] { return two_ranks_over_one(step, many ? of_long : setting); }});
    }
  return out;
}

int number_of(const std::string& option, const char* text) {
  int value = 0;
  const std::string_view given = text == nullptr ? "" : text;
  const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), value);
  if (error != std::errc() || end != given.data() + given.size() || value < 1)
    fail_input("{}: expected a positive number, found \"{}\"", option, given);
  return value;
}

void run(int argc, char** argv) {
  int threads = 2, rounds = 9;
  std::string only;
  bool processor_time = false;
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (option == "--threads")
      threads = number_of(option, value);
    else if (option == "--rounds")
      rounds = number_of(option, value);
    else if (option == "--only" && value != nullptr)
      only = value;
    else if (option == "--clock" && value != nullptr && (std::string_view(value) == "wall" || std::string_view(value) == "processor"))
      processor_time = std::string_view(value) == "processor";
    else
      fail_input("expected [--threads N] [--rounds N] [--only NAME] [--clock wall|processor], found \"{} {}\"", option,
                 value == nullptr ? "" : value);
  }
  MpiSession session(&argc, &argv);
  const Setting setting{make_mpi_communicator(session, {}), rounds, processor_time};
  install_metered_allocator();
  fmt::print("GPT-2 8 x 512, 25.6 M parameters, {} threads, medians of {} rounds (3 at 1,024 tokens), {}\n", threads, rounds,
             processor_time ? "processor time" : "wall time");
  std::string names;
  bool any = false;
  for (const Line& line : lines(setting, threads)) {
    names += (names.empty() ? "" : ", ") + line.name;
    if (!only.empty() && only != line.name) continue;
    any = true;
    at::set_num_threads(threads);
    const Found found = line.measure();
    fmt::print("{:<20} {:<75} {:>5.2f}  to reach: {} {:.2f}  {}\n", line.name, line.what, found.ratio,
               line.at_least ? ">=" : "<=", line.reach, found.note);
    std::fflush(stdout);
  }
  if (!any) fail_input("--only {}: expected one of {}", only, names);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "zeroth_order_bench: {}\n", error.what());
    return 1;
  }
}
