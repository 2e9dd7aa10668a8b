// Predicted against measured step times, and what tiers cost. Run by hand on a quiet machine, after `zerostep bench machine` with as many
// ranks:
//   OMP_NUM_THREADS=1 mpirun -np 2 --bind-to none build/tests/prediction_bench [--machine FILE] [--rounds 5] [--only TEXT] [--folder DIR]
//     [--detail]
// GPT-2 of 8 layers, 512 wide, and a Llama of 8 layers, 512 wide; AdamW; stage 3 with overlap where it says no stage. "over none" is a step
// over that of the line without tiers, which is clipped; "over limit", of lines in files, over the longer of that step and of what the disk
// needs for the step's bytes at the rates in the machine's file. --only: lines whose name has TEXT, and those without tiers that they are
// compared with. --folder: where files rest. --detail: what each kind of work took in the last step, beside what was predicted.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/nth.h"
#include "base/trace.h"
#include "models/llama/llama.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/prediction.h"
#include "sharding/mpi_session.h"
#include "tests/support/benchmark_gpt2.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;

struct Case {
  std::string name;
  bool is_llama = false, makes_queries = false;
  int64_t samples = 1, tokens = 64;
  DType type = DType::F32;
  int stage = 3;
  Tier tier = Tier::Device;
  bool clips = true;  // of backprop: its gradient; else updates stand in the backward where state rests elsewhere
};

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const bool queries : {false, true})
    for (const int64_t samples : {1, 4})
      for (const DType type : {DType::F32, DType::BF16}) {
        const int64_t tokens = samples == 1 ? 64 : 256;
        const std::string what = std::string(queries ? "zo " : "fo ") + std::to_string(samples * tokens) + " tokens " + name_of(type);
        for (const Tier tier : {Tier::Device, Tier::Host, Tier::File})
          out.push_back({"gpt2  " + what + (tier == Tier::Device ? "" : std::string(" in ") + name_of(tier)), false, queries, samples,
                         tokens, type, 3, tier});
        if (!queries)
          out.push_back({"gpt2  " + what + " in file, not clipped", false, queries, samples, tokens, type, 3, Tier::File, false});
        out.push_back({"gpt2  " + what + " stage 1", false, queries, samples, tokens, type, 1});
        out.push_back({"llama " + what, true, queries, samples, tokens, type});
      }
  return out;
}

std::unique_ptr<ModelDefinition> model_of(const Case& c) {
  if (!c.is_llama) return make_gpt2(testing::benchmark_gpt2());
  LlamaOptions o;
  o.num_hidden_layers = 8, o.hidden_size = 512, o.num_attention_heads = 8, o.num_key_value_heads = 4, o.intermediate_size = 1376;
  o.max_position_embeddings = 256, o.vocab_size = 257;
  return make_llama(o);
}

Config config_of(const Case& c, int world, const std::string& folder) {
  Config config;
  config.run.trace = true;
  config.gradient_clipping = c.clips ? 1 : 0;
  config.precision.check_overflow = c.clips;
  config.precision.compute = c.type;
  config.zero.stage = c.stage;
  config.zero.overlap_comm = c.stage == 3;
  config.zero.offload_param.tier = config.zero.offload_optimizer.tier = c.tier;
  config.zero.offload_param.nvme_paths = config.zero.offload_optimizer.nvme_paths = {folder};
  config.batch = {c.samples * world, c.samples, 1};
  config.data.sequence_length = c.tokens;
  if (!c.makes_queries) return config;
  config.gradient_clipping = 0;
  config.step.mode = StepConfig::Mode::ZerothOrder;
  config.step.mode_name = "zo";
  config.step.queries = 2;
  config.step.query_batch = config.batch;
  config.step.query_sequence_length = c.tokens;
  return config;
}

// The name of the line without tiers.
std::string name_without_tiers(const Case& c) { return c.tier == Tier::Device ? c.name : c.name.substr(0, c.name.find(" in ")); }

// Seconds by lane and first word of what was done.
using Breakdown = std::map<std::string, double>;
void add_to(Breakdown& out, const char* row, const std::string& name, double seconds) {
  out[std::string(row) + ": " + name.substr(0, name.find(' '))] += seconds;
}

struct Result {
  double predicted = 0, measured = 0;
  double disk_seconds = 0;  // for what a rank's files read and wrote in the step, each rank at the rates of one; 0: nothing rests there
  Breakdown predicted_parts, measured_parts;
};

// Whether the prediction says which of two configurations is the faster one, over all pairs that were measured 5 % apart or more.
void print_order(const std::vector<Result>& results) {
  int pairs = 0, right = 0;
  for (size_t i = 0; i < results.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const Result &a = results[i], &b = results[j];
      if (std::max(a.measured, b.measured) < 1.05 * std::min(a.measured, b.measured)) continue;
      ++pairs;
      right += (a.measured < b.measured) == (a.predicted < b.predicted) ? 1 : 0;
    }
  std::printf("order: %d of %d pairs that lie 5 %% apart or more are predicted in their order\n", right, pairs);
}

Result run(const Case& c, const Communicator& world, const Machine& machine, int rounds, const std::string& folder) {
  const auto model = model_of(c);
  const auto objective = make_cross_entropy();
  const Config config = config_of(c, world.size(), folder);
  TrainingPlan plan = plan_training(config, *model, *objective, world.size());
  const Prediction prediction = predict_training(config, plan, *model, *objective, machine);
  Result out;
  out.predicted = prediction.step_seconds;
  const Plan step_plan = plan.any_step();
  const std::vector<SimulatedAction>& simulated = prediction.steps.front().simulation.actions;
  for (int i = 0; i < std::ssize(simulated); ++i) {
    const Action& a = step_plan.action(i);
    const SimulatedAction& at = nth(simulated, i);
    if (at.end > at.begin) add_to(out.predicted_parts, stream_name(a.lane), trace_name(plan.layout, step_plan, a), at.end - at.begin);
  }
  Batch batch;
  batch.tokens = at::randint(257, {c.samples, c.tokens}, at::kLong);
  batch.labels = at::randint(257, {c.samples, c.tokens}, at::kLong);
  for (int64_t i = 0; i < c.samples; ++i) batch.sample_ids.push_back(i);
  batch.valid_tokens = c.samples * c.tokens;
  batch.global_valid_tokens = batch.valid_tokens * world.size();
  Engine engine(
      config, *model, *objective, std::move(plan),
      [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) { initial_values(info, 1, begin, count, values); },
      world);
  const StepBatches batches{[&](int64_t) { return batch; }, [&](int64_t, int64_t) { return batch; }};
  double best_begin = 0;
  for (int round = -1; round < rounds; ++round) {
    const double begin = engine.trace()->now();
    StepResult step;
    const double seconds = testing::seconds_of([&] { step = engine.train_step(round + 1, batches); });
    if (round < 0 || (out.measured > 0 && seconds >= out.measured)) continue;
    out.measured = seconds;
    // The disk serves reads and writes in turn.
    out.disk_seconds = 0;
    if (step.file_bytes_read > 0) out.disk_seconds += static_cast<double>(step.file_bytes_read) / machine.file_read.bytes_per_second;
    if (step.file_bytes_written > 0) out.disk_seconds += static_cast<double>(step.file_bytes_written) / machine.file_write.bytes_per_second;
    best_begin = begin;
  }
  for (const Trace::Interval& at : engine.trace()->intervals())
    if (at.begin >= best_begin && at.end <= best_begin + out.measured + 1e-3)
      add_to(out.measured_parts, at.row, at.name, at.end - at.begin);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  MpiSession session(&argc, &argv);
  Communicator world = make_mpi_communicator(session, {});
  std::string file, only, folder = std::filesystem::temp_directory_path().string();
  int rounds = 5;
  bool detail = false;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string(); };
    if (option == "--machine") file = value();
    if (option == "--only") only = value();
    if (option == "--folder") folder = value();
    if (option == "--rounds") rounds = std::atoi(value().c_str());
    if (option == "--detail") detail = true;
  }
  at::set_num_threads(std::getenv("OMP_NUM_THREADS") != nullptr ? std::atoi(std::getenv("OMP_NUM_THREADS")) : 1);
  std::optional<Machine> machine;
  if (!file.empty()) machine = read_machine(file);
  if (!machine) machine = measured_machine(world.size(), at::get_num_threads());
  if (!machine) {
    if (world.rank() == 0) std::fprintf(stderr, "this machine was not measured: zerostep bench machine\n");
    return 2;
  }
  install_metered_allocator();
  if (world.rank() == 0)
    std::printf("%s, %d ranks x %d threads, best of %d steps\n%-42s %12s %12s %18s %9s %10s\n", machine->name.c_str(), world.size(),
                at::get_num_threads(), rounds, "", "predicted ms", "measured ms", "predicted/measured", "over none", "over limit");
  std::set<std::string> chosen;
  for (const Case& c : cases())
    if (c.name.find(only) != std::string::npos) chosen.insert({c.name, name_without_tiers(c)});
  std::vector<Result> results;
  std::map<std::string, double> without_tiers;  // seconds of a step, by the name of the line
  for (const Case& c : cases()) {
    if (!chosen.contains(c.name)) continue;
    const Result result = run(c, world, *machine, rounds, folder);
    if (world.rank() != 0) continue;
    results.push_back(result);
    std::string over_none, over_limit;
    if (c.tier == Tier::Device) {
      without_tiers[c.name] = result.measured;
    } else {
      const double none = without_tiers.at(name_without_tiers(c));
      over_none = fmt::format("{:.2f}", result.measured / none);
      if (result.disk_seconds > 0) over_limit = fmt::format("{:.2f}", result.measured / std::max(result.disk_seconds, none));
    }
    std::printf("%-42s %12.1f %12.1f %18.2f %9s %10s\n", c.name.c_str(), 1e3 * result.predicted, 1e3 * result.measured,
                result.predicted / result.measured, over_none.c_str(), over_limit.c_str());
    if (!detail) continue;
    Breakdown names = result.measured_parts;
    names.insert(result.predicted_parts.begin(), result.predicted_parts.end());
    const auto ms_of = [](const Breakdown& parts, const std::string& name) { return parts.contains(name) ? 1e3 * parts.at(name) : 0; };
    for (const auto& [name, seconds] : names)
      std::printf("    %-38s %12.1f %12.1f\n", name.c_str(), ms_of(result.predicted_parts, name), ms_of(result.measured_parts, name));
  }
  if (world.rank() == 0) print_order(results);
  return 0;
}
