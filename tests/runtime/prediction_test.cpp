#include "runtime/engine/prediction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/nth.h"
#include "base/trace.h"
#include "runtime/report/plan_report.h"
#include "runtime/report/prediction_report.h"
#include "tests/runtime/support/machines.h"
#include "tests/runtime/support/zeroth_order_case.h"
#include "tests/support/scratch_folder.h"

// What actions take on a machine of which all figures but one take no time, worked out from the model's sizes.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

struct Planned {
  explicit Planned(Mode mode, int ranks, const std::function<void(ZerothOrderCase&)>& change = {})
      : test(ZerothOrderCase::tiny(mode)), world(ranks) {
    test.config.data.sequence_length = test.config.step.query_sequence_length = test.sequence;
    if (change) change(test);
    test.share_over(ranks);
    test.config.batch.train_batch_size = test.global_batch;
    model = make_gpt2(test.model);
    objective = make_cross_entropy();
    plan.emplace(plan_training(test.config, *model, *objective, ranks));
  }
  Prediction on(const Machine& machine) const { return predict_training(test.config, *plan, *model, *objective, machine); }
  // Seconds of the actions of the first kind of step that `counts` looks at.
  double seconds_of(const Machine& machine, const std::function<bool(const Plan&, const Action&)>& counts, size_t step = 0) const {
    const StepLoads loads(test.config, *model, *objective);
    const Plan& p = plan->steps[step].plan;
    const std::vector<double> seconds = action_seconds(test.config, plan->layout, *model, loads, p, machine);
    double sum = 0;
    for (int i = 0; i < std::ssize(p.actions); ++i)
      if (counts(p, p.action(i))) sum += nth(seconds, i);
    return sum;
  }
  double seconds_of(const Machine& machine, ActionKind kind, size_t step = 0) const {
    return seconds_of(
        machine, [=](const Plan&, const Action& a) { return a.kind == kind; }, step);
  }
  // Sum over the actions of the first kind of step.
  double sum(const std::function<double(const Action&)>& value) const {
    double out = 0;
    for (const Action& a : plan->any_step().actions) out += value(a);
    return out;
  }
  double bytes(ActionKind kind) const {
    return sum([=](const Action& a) { return a.kind == kind ? static_cast<double>(a.bytes) : 0; });
  }
  double calls(ActionKind kind) const {
    return sum([=](const Action& a) { return a.kind == kind ? 1 : 0; });
  }
  // Of all trained groups, padded.
  double trained(bool shards) const {
    double out = 0;
    for (const FlatGroup& g : plan->layout.groups)
      if (g.trainable) out += static_cast<double>(shards ? g.shard_elements() : g.full_elements());
    return out;
  }

  ZerothOrderCase test;
  int world;
  std::unique_ptr<ModelDefinition> model;
  std::unique_ptr<Objective> objective;
  std::optional<TrainingPlan> plan;
};

void at_stage(ZerothOrderCase& test, int stage) {
  test.config.zero.stage = stage;
  test.config.zero.overlap_comm = stage == 3;
}

constexpr double kRelative = 1e-9;
void expect_near(double found, double expected) { EXPECT_NEAR(found, expected, kRelative * expected); }

TEST(ActionSeconds, ProductsGoAtTheRateOfTheirRowsAndWidth) {
  const Planned p(Mode::FirstOrder, 1);
  Machine m = instant_machine();
  m.gemm = {{DType::F32, 1, 1, 1e6}};
  expect_near(p.seconds_of(m, ActionKind::Visit), p.plan->any_step().flops / 1e6);
  // Rows are the tokens of a micro-batch; low-rank branches run as one batch.
  m.gemm = {{DType::F32, 1, 16, 1.0}, {DType::F32, 1 << 20, 16, 1 << 20}};  // as many operations a second as there are rows
  const double rows = static_cast<double>(ZerothOrderCase::kMicroBatch * p.test.sequence);
  expect_near(p.seconds_of(m, ActionKind::Visit), p.plan->any_step().flops / rows);
  const Planned joined(Mode::ZerothOrder, 1, [](ZerothOrderCase& c) {
    c.config.step.perturbation = StepConfig::Perturbation::LowRank;
    c.config.step.queries_per_pass = 2;
  });
  expect_near(joined.seconds_of(m, ActionKind::Visit), joined.plan->any_step().flops / (4 * rows));
  const Planned tiled(Mode::ZerothOrder, 1);
  expect_near(tiled.seconds_of(m, ActionKind::Visit), tiled.plan->any_step().flops / rows);
}

// Attention has a rate of its own, where the machine says it.
TEST(ActionSeconds, AttentionGoesAtItsOwnRate) {
  const Planned p(Mode::FirstOrder, 1);
  Machine m = instant_machine();
  m.elementwise = {{DType::F32, 1e300, 1e3}};
  // Scores of each token with itself and those before, and what they weigh: a forward, and a backward of twice its operations.
  const auto width = static_cast<double>(p.test.model.n_embd), length = static_cast<double>(p.test.sequence);
  const double pairs = static_cast<double>(p.test.global_batch) * length * (length + 1) / 2;
  expect_near(p.seconds_of(m, ActionKind::Visit), p.test.model.n_layer * 3 * 2 * 2 * width * pairs / 1e3);
}

// Products wait for their weights or for their operations, whichever takes longer; gradients come on top.
TEST(ActionSeconds, VisitsMoveTheirWeightsAndGradients) {
  const Planned p(Mode::FirstOrder, 1, [](ZerothOrderCase& c) { c.model.tie_word_embeddings = false; });
  ASSERT_EQ(p.test.config.batch.accumulation_steps, 4);
  // The first micro-batch writes gradients, the others add to them. The embedding looks up rows alone.
  double gradients = 0, weights = 0;
  for (const FlatGroup& g : p.plan->layout.groups) {
    gradients += (4 + 3 * 8) * static_cast<double>(g.full_elements());
    if (g.unit > 0) weights += 4 * 2 * 4 * static_cast<double>(g.full_elements());
  }
  Machine m = instant_machine();
  m.memory_bytes_per_second = 1e6;
  expect_near(p.seconds_of(m, ActionKind::Visit), (weights + gradients) / 1e6);
  m.gemm = {{DType::F32, 1, 1, 1e3}};
  expect_near(p.seconds_of(m, ActionKind::Visit), p.plan->any_step().flops / 1e3 + gradients / 1e6);
}

// What the operations of a block write beside its products, told by hand, in elements of a sample of T tokens.
TEST(ActionSeconds, ABlockWritesWhatItsOperationsSay) {
  const Planned p(Mode::FirstOrder, 1);
  const int64_t samples = ZerothOrderCase::kMicroBatch, length = p.test.sequence, width = p.test.model.n_embd, inner = p.test.model.n_inner,
                heads = p.test.model.n_head;
  const int64_t rows = samples * length * width * 4, wide = samples * length * inner * 4, statistics = samples * length * 2 * 4,
                gain_and_offset = 2 * width * 4;
  const ActivationCost cost = p.model->activation_cost(1, samples, length, DType::F32, false);
  // Forward: two norms, what attention gives and its sums, GELU.
  EXPECT_EQ(cost.forward_work.written_bytes, 2 * (rows + statistics) + rows + samples * length * heads * 4 + wide);
  EXPECT_EQ(cost.forward_work.operations, 2 + 2 + 1 + 4);
  // Backward: GELU's overwrites two; the sums of four biases read what they sum; both norms again, their gradients, and the sums where
  // two ways meet; attention gives three gradients.
  const int64_t biases = rows + wide + rows + 3 * rows, norms = 2 * (rows + statistics + rows + gain_and_offset), sums = 2 * rows;
  EXPECT_EQ(cost.backward_work.written_bytes, 2 * wide + biases + norms + sums + 3 * rows);
  Machine m = instant_machine();
  m.elementwise = {{DType::F32, 1e6}};
  m.operation_seconds = 1;
  const auto of_block = [&](VisitKind kind) {
    return p.seconds_of(m, [=](const Plan& plan, const Action& a) {
      return a.kind == ActionKind::Visit && plan.visit(a.visit).unit == 1 && plan.visit(a.visit).kind == kind;
    });
  };
  const auto micro_batches = static_cast<double>(p.test.config.batch.accumulation_steps);
  const auto seconds = [](const ActivationCost::Work& work) {
    return static_cast<double>(work.written_bytes) / 1e6 + static_cast<double>(work.operations);
  };
  expect_near(of_block(VisitKind::Forward), micro_batches * seconds(cost.forward_work));
  expect_near(of_block(VisitKind::Backward), micro_batches * seconds(cost.backward_work));
}

TEST(ActionSeconds, TheObjectiveIsWorkOfTheLastUnit) {
  const Planned p(Mode::ZerothOrder, 1);
  Machine m = instant_machine();
  m.elementwise = {{DType::F32, 1e6}};
  const int64_t samples = ZerothOrderCase::kMicroBatch, tokens = samples * p.test.sequence;
  const int last = static_cast<int>(p.plan->layout.units.size()) - 1;
  const double found =
      p.seconds_of(m, [=](const Plan& plan, const Action& a) { return a.kind == ActionKind::Visit && plan.visit(a.visit).unit == last; });
  // Both signs of two directions; log-probabilities of 61 words in fp32 each, and the head's norm, of both signs at once.
  const double runs = 4.0 * static_cast<double>(p.test.config.step.query_batch.accumulation_steps);
  const int64_t head = tokens * (p.test.model.n_embd + 2) * 4, objective = tokens * p.test.model.vocab_size * 4;
  expect_near(found, runs * static_cast<double>(head + objective) / 1e6);
}

TEST(ActionSeconds, RandomNumbersAreDrawnForVisitsAndForUpdates) {
  struct Case {
    const char* name;
    Mode mode;
    std::function<void(ZerothOrderCase&)> change;
    double drawn;  // times the trained elements, of visits
  };
  const auto forward = [](ZerothOrderCase& c) { c.config.step.estimator = StepConfig::Estimator::Forward; };
  const double micro_batches = 2;  // of the queries below
  const std::vector<Case> cases = {
      {"tiles are made for each micro-batch", Mode::ZerothOrder, {}, 2 * micro_batches},
      {"one-sided tiles", Mode::ZerothOrder, forward, 2 * micro_batches},
      {"copies serve all micro-batches", Mode::ZerothOrder, [](ZerothOrderCase& c) { c.config.precision.compute = DType::BF16; }, 2},
      {"backprop draws none", Mode::FirstOrder, {}, 0}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const Planned p(c.mode, 1, [&](ZerothOrderCase& test) {
      test.global_batch = 2 * ZerothOrderCase::kMicroBatch;
      if (c.change) c.change(test);
    });
    Machine m = instant_machine();
    m.noise_elements_per_second = 1e3;
    // A tied head reads the embedding's group too.
    double elements = 0;
    for (int u = 0; u < std::ssize(p.plan->layout.units); ++u)
      for (const int g : p.plan->layout.used_by(u)) elements += static_cast<double>(p.plan->layout.group(g).full_elements());
    EXPECT_NEAR(p.seconds_of(m, ActionKind::Visit), c.drawn * elements / 1e3, 1e-9 * elements);
    EXPECT_NEAR(p.seconds_of(m, ActionKind::Update), (c.mode == Mode::FirstOrder ? 0 : 2) * p.trained(true) / 1e3, 1e-9 * elements);
  }
}

TEST(ActionSeconds, UpdatesMoveTheirBytesAtTheRateOfTheirTier) {
  for (const bool on_host : {false, true}) {
    const Planned p(Mode::FirstOrder, 2, [&](ZerothOrderCase& c) {
      at_stage(c, 2);
      if (on_host) c.config.zero.offload_optimizer.tier = Tier::Host;
    });
    Machine m = instant_machine();
    (on_host ? m.host_update_bytes_per_second : m.update_bytes_per_second) = 1e6;
    expect_near(p.seconds_of(m, ActionKind::Update), p.bytes(ActionKind::Update) / 1e6);
    // Where the host is another memory, updated parameters go to the device and gradients come from there.
    m = instant_machine();
    m.host_is_device = m.lanes_share_cores = false;
    m.host_to_device = {0.25, 1e6};
    m.device_to_host = {0.5, 1e6};
    EXPECT_NEAR(p.seconds_of(m, ActionKind::Update), on_host ? 0.25 * p.calls(ActionKind::Update) + 4 * p.trained(true) / 1e6 : 0, 1e-9);
    const double reduced = p.test.config.batch.accumulation_steps * p.trained(true);
    EXPECT_NEAR(p.seconds_of(m, ActionKind::Reduce), on_host ? 0.5 * p.calls(ActionKind::Reduce) + 4 * reduced / 1e6 : 0, 1e-9);
  }
}

TEST(ActionSeconds, CollectivesTakeTheirLink) {
  for (const bool crosses : {false, true}) {
    const Planned p(Mode::FirstOrder, 4, [](ZerothOrderCase& c) { at_stage(c, 3); });
    Machine m = instant_machine();
    m.ranks_per_host = crosses ? 2 : 4;
    (crosses ? m.gather_across_hosts : m.gather_in_host) = {0.5, 1e6};
    (crosses ? m.reduce_across_hosts : m.reduce_in_host) = {0.25, 2e6};
    m.agreement_seconds = 2;
    expect_near(p.seconds_of(m, ActionKind::Gather), 0.5 * p.calls(ActionKind::Gather) + p.bytes(ActionKind::Gather) / 1e6);
    expect_near(p.seconds_of(m, ActionKind::Reduce), 0.25 * p.calls(ActionKind::Reduce) + p.bytes(ActionKind::Reduce) / 2e6);
    // Sums, then maxima.
    expect_near(p.seconds_of(m, ActionKind::Agree), 2 * (2 + (crosses ? 0.25 : 0)));
  }
  // A machine that does not say how fast its hosts are connected.
  const Planned p(Mode::FirstOrder, 4, [](ZerothOrderCase& c) { at_stage(c, 3); });
  Machine m = instant_machine();
  m.ranks_per_host = 2;
  m.gather_across_hosts = {};
  EXPECT_THROW(p.on(m), InputError);
}

TEST(ActionSeconds, FilesTakeTheirLink) {
  const ScratchFolder folder;
  const Planned p(Mode::FirstOrder, 2, [&](ZerothOrderCase& c) {
    at_stage(c, 3);
    c.config.zero.offload_param.tier = c.config.zero.offload_optimizer.tier = Tier::File;
    c.config.zero.offload_param.nvme_paths = c.config.zero.offload_optimizer.nvme_paths = {folder.folder().string()};
  });
  Machine m = instant_machine();
  m.file_read = {0.5, 1e6};
  m.file_write = {0.25, 2e6};
  EXPECT_GT(p.calls(ActionKind::Load), 0);
  expect_near(p.seconds_of(m, ActionKind::Load), 0.5 * p.calls(ActionKind::Load) + p.bytes(ActionKind::Load) / 1e6);
  expect_near(p.seconds_of(m, ActionKind::Store), 0.25 * p.calls(ActionKind::Store) + p.bytes(ActionKind::Store) / 2e6);
}

TEST(ActionSeconds, CheckpointsAreCopiedOrTakeTheirLink) {
  const Planned p(Mode::FirstOrder, 1, [](ZerothOrderCase& c) {
    c.config.number_checkpoints = -1;
    c.config.cpu_checkpointing = true;
  });
  Machine m = instant_machine();
  m.memory_bytes_per_second = 1e6;
  // Of the blocks all but the last begin with one. Each of up to four tensors begins at a boundary.
  const ZerothOrderCase& c = p.test;
  const int64_t input = num_bytes(ZerothOrderCase::kMicroBatch * c.sequence * c.model.n_embd, DType::F32),
                planned = input + 4 * kAlignmentBytes;
  const double bytes = static_cast<double>((c.model.n_layer - 1) * c.config.batch.accumulation_steps * planned);
  EXPECT_EQ(input % kAlignmentBytes, 0);
  for (const ActionKind kind : {ActionKind::Store, ActionKind::Load}) {
    EXPECT_EQ(p.bytes(kind), bytes);
    expect_near(p.seconds_of(m, kind), 2 * bytes / 1e6);
  }
  m = instant_machine();
  m.host_is_device = m.lanes_share_cores = false;
  m.device_to_host = {0.5, 1e6};
  m.host_to_device = {0.25, 2e6};
  expect_near(p.seconds_of(m, ActionKind::Store), 0.5 * p.calls(ActionKind::Store) + bytes / 1e6);
  expect_near(p.seconds_of(m, ActionKind::Load), 0.25 * p.calls(ActionKind::Load) + bytes / 2e6);
}

// A rank alone gathers by copying, and takes the norm of its gradient where the ranks would agree.
TEST(ActionSeconds, ARankAloneCopies) {
  const Planned p(Mode::FirstOrder, 1, [](ZerothOrderCase& c) {
    at_stage(c, 3);
    c.config.zero.offload_param.tier = Tier::Host;
  });
  Machine m = instant_machine();
  m.memory_bytes_per_second = 1e6;
  const double gathered = p.sum([&](const Action& a) {
    return a.kind == ActionKind::Gather ? 2 * 4 * static_cast<double>(p.plan->layout.group(a.group).full_elements()) : 0;
  });
  EXPECT_GT(gathered, 0);
  expect_near(p.seconds_of(m, ActionKind::Gather), gathered / 1e6);
  expect_near(p.seconds_of(m, ActionKind::Agree), 4 * p.trained(true) / 1e6);
}

TEST(ActionSeconds, MatricesAreMadeOfProducts) {
  const Planned p(Mode::FirstOrder, 2, [](ZerothOrderCase& c) { c.config.optimizer.type = OptimizerConfig::Type::Muon; });
  Machine m = instant_machine();
  m.gemm = {{DType::F32, 1, 1, 1e6}};
  const double flops = p.sum([](const Action& a) { return a.kind == ActionKind::MakeMatrixUpdates ? a.flops : 0; });
  EXPECT_GT(flops, 0);
  expect_near(p.seconds_of(m, ActionKind::MakeMatrixUpdates), flops / 1e6);
}

// An agreement on instructed directions draws all of them, and one on the blended estimate does again.
TEST(ActionSeconds, InstructionDrawsItsDirections) {
  const Planned p(Mode::Instruct, 1);
  Machine m = instant_machine();
  m.noise_elements_per_second = 1e3;
  const size_t instructed = p.plan->steps[0].kind.instructed ? 0 : 1;
  expect_near(p.seconds_of(m, ActionKind::Agree, instructed), 2 * 2 * p.trained(true) / 1e3);
  expect_near(p.seconds_of(m, ActionKind::Update, instructed), 2 * p.trained(true) / 1e3);
}

TEST(Prediction, LanesAndChainsAddUp) {
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct, Mode::Alternating})
    for (const int stage : {0, 3})
      for (const bool shares : {false, true}) {
        const Planned p(mode, 2, [&](ZerothOrderCase& c) { at_stage(c, stage); });
        Machine m = small_machine();
        m.lanes_share_cores = shares;
        const Prediction prediction = p.on(m);
        ASSERT_EQ(prediction.steps.size(), p.plan->steps.size());
        double shares_of_steps = 0;
        for (size_t i = 0; i < prediction.steps.size(); ++i) {
          const Simulation& s = prediction.steps[i].simulation;
          shares_of_steps += prediction.steps[i].share;
          double chain = 0;
          std::array<double, kLanes> busy = {};
          for (const double seconds : s.bound_seconds) chain += seconds;
          for (int a = 0; a < std::ssize(s.actions); ++a)
            nth(busy, p.plan->steps[i].plan.action(a).lane) += nth(s.actions, a).end - nth(s.actions, a).begin;
          expect_near(chain, s.seconds);
          for (int lane = 0; lane < kLanes; ++lane) {
            EXPECT_DOUBLE_EQ(nth(s.lane_seconds, lane), nth(busy, lane));
            EXPECT_LE(nth(s.bound_seconds, lane), nth(s.lane_seconds, lane) * (1 + kRelative));
          }
        }
        EXPECT_DOUBLE_EQ(shares_of_steps, 1);
      }
}

// More of anything is never slower, where lanes do not take cores or the disk from one another.
TEST(Prediction, AFasterMachineIsNeverSlower) {
  const ScratchFolder folder;
  Machine slow = small_machine();
  slow.lanes_share_cores = false;
  const std::vector<std::pair<const char*, std::function<void(Machine&)>>> changes = {
      {"products",
       [](Machine& m) {
         for (GemmRate& r : m.gemm) r.flops_per_second *= 2;
       }},
      {"elementwise",
       [](Machine& m) {
         for (ElementwiseRate& r : m.elementwise) r.bytes_per_second *= 2;
       }},
      {"operations", [](Machine& m) { m.operation_seconds /= 2; }},
      {"memory", [](Machine& m) { m.memory_bytes_per_second *= 2; }},
      {"noise", [](Machine& m) { m.noise_elements_per_second *= 2; }},
      {"updates", [](Machine& m) { m.update_bytes_per_second *= 2, m.host_update_bytes_per_second *= 2; }},
      {"gathers", [](Machine& m) { m.gather_in_host.bytes_per_second *= 2; }},
      {"reductions", [](Machine& m) { m.reduce_in_host.latency_seconds /= 2; }},
      {"reads", [](Machine& m) { m.file_read.bytes_per_second *= 2; }},
      {"writes", [](Machine& m) { m.file_write.bytes_per_second *= 2; }},
      {"agreements", [](Machine& m) { m.agreement_seconds /= 2; }}};
  std::map<std::string, int> faster;
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder})
    for (const Tier tier : {Tier::Device, Tier::Host, Tier::File}) {
      const Planned p(mode, 2, [&](ZerothOrderCase& c) {
        at_stage(c, 3);
        c.config.zero.offload_param.tier = c.config.zero.offload_optimizer.tier = tier;
        c.config.zero.offload_param.nvme_paths = c.config.zero.offload_optimizer.nvme_paths = {folder.folder().string()};
      });
      const double before = p.on(slow).step_seconds;
      for (const auto& [name, change] : changes) {
        Machine m = slow;
        change(m);
        const double after = p.on(m).step_seconds;
        EXPECT_LE(after, before * (1 + kRelative)) << name;
        faster[name] += after < before * (1 - kRelative) ? 1 : 0;
      }
    }
  for (const auto& [name, change] : changes) EXPECT_GT(faster[name], 0) << name;
}

// The mean over a long run, counted step by step.
TEST(Prediction, StepsCountAsOftenAsTheyCome) {
  const std::vector<std::pair<Mode, std::function<void(StepConfig&)>>> cases = {
      {Mode::FirstOrder, [](StepConfig&) {}},
      {Mode::ZerothOrder, [](StepConfig&) {}},
      {Mode::Calibrate, [](StepConfig& s) { s.bp_interval = 3, s.monitor_interval = 2; }},
      {Mode::Calibrate, [](StepConfig& s) { s.bp_interval = 1, s.monitor_interval = 1; }},
      {Mode::Calibrate, [](StepConfig& s) { s.bp_interval = 4, s.monitor_interval = 0; }},
      {Mode::Instruct, [](StepConfig& s) { s.bp_interval = 3; }},
      {Mode::Instruct, [](StepConfig& s) { s.bp_interval = 1; }},
      {Mode::Alternating, [](StepConfig& s) { s.zo_steps = 5; }}};
  for (const auto& [mode, change] : cases) {
    const Planned p(mode, 1, [&, change = change](ZerothOrderCase& c) { change(c.config.step); });
    const Prediction prediction = p.on(small_machine());
    constexpr int kSteps = 12;  // several of each cycle
    double seconds = 0, tokens = 0;
    for (int step = 0; step < kSteps; ++step) {
      const StepKind kind = step_kind(p.test.config.step, step);
      const auto of_kind = std::find_if(prediction.steps.begin(), prediction.steps.end(), [&](const auto& s) { return s.kind == kind; });
      ASSERT_NE(of_kind, prediction.steps.end());
      seconds += of_kind->simulation.seconds;
      tokens +=
          static_cast<double>(p.test.sequence * (kind.backprop ? p.test.config.batch.train_batch_size : p.test.config.samples_of_step()));
    }
    expect_near(prediction.step_seconds, seconds / kSteps);
    expect_near(prediction.tokens_per_second, tokens / seconds);
  }
}

TEST(PredictionReport, SaysTimeBoundAndLanes) {
  const Planned p(Mode::FirstOrder, 2, [](ZerothOrderCase& c) { at_stage(c, 3); });
  const Prediction prediction = p.on(small_machine());
  const PlanCost cost;
  const PlanReport without{p.test.config, *p.plan, cost, {1, "the test"}};
  EXPECT_EQ(plan_text(without).find("Time of a step"), std::string::npos);
  for (const char* key : {"step_seconds", "tokens_per_second", "bound_by", "lane_seconds"}) EXPECT_FALSE(plan_json(without).contains(key));

  const PlanReport report{p.test.config, *p.plan, cost, {1, "the test"}, &prediction};
  const auto json = plan_json(report);
  EXPECT_EQ(json["step_seconds"].get<double>(), prediction.step_seconds);
  EXPECT_EQ(json["tokens_per_second"].get<double>(), prediction.tokens_per_second);
  EXPECT_EQ(json["bound_by"].get<std::string>(), name_of(prediction.bound_by));
  EXPECT_EQ(json["lane_seconds"]["gather"].get<double>(), nth(prediction.lane_seconds, Lane::Gather));
  EXPECT_FALSE(json["lane_seconds"].contains("read"));
  EXPECT_EQ(json["steps"][0]["step_seconds"].get<double>(), prediction.step_seconds);
  const std::string text = plan_text(report);
  EXPECT_EQ(text.find("zerostep bench machine"), std::string::npos);
  EXPECT_FALSE(json["machine_is_unsteady"].get<bool>());
  Machine busy = small_machine();
  busy.is_unsteady = true;
  const Prediction unsteady = p.on(busy);
  const PlanReport doubtful{p.test.config, *p.plan, cost, {1, "the test"}, &unsteady};
  EXPECT_NE(plan_text(doubtful).find("predicted for small, measured on a busy machine: run `zerostep bench machine` again\n"),
            std::string::npos)
      << plan_text(doubtful);
  EXPECT_TRUE(plan_json(doubtful)["machine_is_unsteady"].get<bool>());
  EXPECT_NE(text.find("predicted for small"), std::string::npos) << text;
  // Each used lane is a line of the same width.
  std::vector<std::string> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.find('|') != std::string::npos) rows.push_back(line);
  ASSERT_EQ(rows.size(), 3u) << text;
  for (const std::string& row : rows) {
    EXPECT_EQ(row.size(), rows.front().size()) << text;
    EXPECT_LE(row.size(), 80u);
  }
  EXPECT_TRUE(rows[0].starts_with("  compute |")) << text;
  for (const char letter : {'B', 'U'}) EXPECT_NE(rows[0].find(letter), std::string::npos) << text;
}

// Rows, names and the ends of a row's last event.
struct TraceContent {
  std::set<std::string> names;
  std::map<std::string, double> ends;
  // In order, none over another of its row.
  void add(const std::string& row, const std::string& name, double begin, double end) {
    EXPECT_GE(begin, ends[row] - 1e-9) << name;
    ends[row] = end;
    names.insert(row + ": " + name);
  }
};

TraceContent simulated_trace(const Planned& p, const Machine& machine) {
  const ScratchFolder traces;
  const std::string file = traces.path("trace.json");
  write_simulated_trace(file, *p.plan, p.on(machine));
  std::ifstream in(file);
  TraceContent out;
  const nlohmann::json written = nlohmann::json::parse(in);
  for (const auto& event : written["traceEvents"]) {
    const double begin = 1e-6 * event["ts"].get<double>();
    out.add(event["tid"], event["name"], begin, begin + 1e-6 * event["dur"].get<double>());
  }
  return out;
}

// Of the steps before the last one, without what waits.
TraceContent measured_trace(ZerothOrderCase test, int ranks, int steps) {
  test.steps = steps;
  TraceContent out;
  EngineSetup setup;
  setup.updates = std::nullopt;
  setup.before_step = [&](int64_t step, Engine& engine) {
    if (step + 1 < steps || engine.rank() != 0) return;
    std::vector<Trace::Interval> all = engine.trace()->intervals();
    std::stable_sort(all.begin(), all.end(), [](const Trace::Interval& a, const Trace::Interval& b) { return a.begin < b.begin; });
    for (const Trace::Interval& at : all)
      if (!at.name.starts_with("wait for")) out.add(at.row, at.name, at.begin, at.end);
  };
  run_zeroth_order_threads(test, ranks, setup);
  return out;
}

// A simulated trace looks like a measured one.
TEST(PredictionReport, TheTraceHasTheRowsAndNamesOfARun) {
  const ScratchFolder folder;
  const Planned p(Mode::FirstOrder, 1, [&](ZerothOrderCase& c) {
    at_stage(c, 3);
    c.config.run.trace = true;
    c.config.number_checkpoints = -1;
    c.config.cpu_checkpointing = true;
    c.config.zero.offload_param.tier = c.config.zero.offload_optimizer.tier = Tier::File;
    c.config.zero.offload_param.nvme_paths = c.config.zero.offload_optimizer.nvme_paths = {folder.folder().string()};
  });
  const TraceContent simulated = simulated_trace(p, small_machine());
  EXPECT_EQ(simulated.ends.size(), 7u);
  EXPECT_TRUE(simulated.names.contains("computation: agree on loss and gradient"));
  EXPECT_EQ(simulated.names, measured_trace(p.test, 1, 3).names);
}

// Whatever the ranks agree on, and where one rank agrees with itself.
TEST(PredictionReport, TheTraceHasTheAgreementsOfARun) {
  std::set<std::string> all;
  for (const Mode mode : {Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct})
    for (const int ranks : {1, 2}) {
      const Planned p(mode, ranks, [](ZerothOrderCase& c) { c.config.run.trace = true; });
      const auto agreements = [](const TraceContent& trace) {
        std::set<std::string> out;
        for (const std::string& name : trace.names)
          if (name.find(": agree on ") != std::string::npos) out.insert(name);
        return out;
      };
      const std::set<std::string> simulated = agreements(simulated_trace(p, small_machine()));
      EXPECT_FALSE(simulated.empty());
      EXPECT_EQ(simulated, agreements(measured_trace(p.test, ranks, 7))) << static_cast<int>(mode) << " on " << ranks;
      all.insert(simulated.begin(), simulated.end());
    }
  EXPECT_EQ(all.size(), 4u);  // each Agreement
}

}  // namespace
}  // namespace zerostep::testing
