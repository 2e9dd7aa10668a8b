#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/runtime/support/zeroth_order_case.h"
#include "tests/support/scratch_folder.h"

// Steps of backprop whose state rests on the host or in files, and what somebody finds between them.
namespace zerostep::testing {

struct Rest {
  Tier parameters, state;
  int64_t buffers = 4;
};

inline void put(Config& config, const Rest& rest, const ScratchFolder& folder) {
  ZeroConfig& zero = config.zero;
  zero.offload_param.tier = zero.stage == 3 ? rest.parameters : Tier::Device;
  zero.offload_optimizer.tier = rest.state;
  zero.offload_param.buffer_count = zero.offload_optimizer.buffer_count = rest.buffers;
  zero.offload_param.nvme_paths = zero.offload_optimizer.nvme_paths = {folder.path("files")};
}

inline ZerothOrderCase case_of(int stage, DType type, int64_t accumulation) {
  ZerothOrderCase test = ZerothOrderCase::tiny(StepConfig::Mode::FirstOrder);
  test.global_batch = 4 * accumulation;
  test.config.zero.stage = stage;
  test.config.zero.overlap_comm = true;
  test.config.zero.stage3_prefetch_bucket_size = 2000;
  test.config.zero.stage3_param_persistence_threshold = 20;  // some groups stay whole
  test.config.zero.allgather_bucket_size = 1000;
  test.config.zero.sub_group_size = 700;
  test.config.gradient_clipping = 0.1;
  test.config.precision.compute = type;
  test.config.precision.initial_scale_power = 20;  // the first steps of fp16 overflow
  test.config.precision.hysteresis = 1;
  test.steps = 5;
  return test;
}

// What somebody finds between two steps: a parameter, all of the state, or the loss of an evaluation.
struct Seen {
  std::vector<float> parameter;
  std::map<std::pair<std::string, int>, std::vector<std::byte>> state;  // by parameter and array
  double loss = 0;
  bool operator==(const Seen&) const = default;
};
enum class Look : uint8_t { No, Read, Save, Evaluate };

inline Seen look_at(Engine& engine, Look how, const ZerothOrderCase& test, int ranks) {
  Seen out;
  if (how == Look::Read) engine.read_parameter(2, 3, out.parameter);
  if (how == Look::Evaluate)
    out.loss = engine.evaluate(1, [&](int64_t) { return Engine::EvaluationBatch{test.batch(9, 0, engine.rank(), ranks), true}; }).loss;
  if (how != Look::Save) return out;
  // Element by element: how the state is cut into pieces depends on where it rests.
  const std::vector<StatePiece> pieces = owned_state(engine.plan(), engine.rank());
  std::vector<std::byte*> targets;
  for (const StatePiece& s : pieces) {
    std::vector<std::byte>& array = out.state[{s.parameter->name, s.array}];
    array.resize(static_cast<size_t>(num_bytes(s.parameter->num_elements(), s.type)));
    targets.push_back(array.data() + num_bytes(s.begin, s.type));
  }
  engine.copy_state(targets);
  return out;
}

struct Outcome {
  ZerothOrderOutcome run;
  std::vector<Seen> seen;  // per rank
};

inline Outcome run(const ZerothOrderCase& test, int ranks, std::optional<Updates> updates, Look how, int64_t before_step) {
  Outcome out;
  out.seen.resize(static_cast<size_t>(ranks));
  const auto look = [&](int64_t step, Engine& engine) {
    if (step == before_step) nth(out.seen, engine.rank()) = look_at(engine, how, test, ranks);
  };
  out.run = run_zeroth_order_threads(test, ranks, {.before_step = look, .updates = updates});
  for (double& norm : out.run.norms)
    if (std::isnan(norm)) norm = -1;  // of a skipped step: equal to itself
  return out;
}

inline TrainingPlan plan_of(const Config& config, int ranks, std::optional<Updates> updates = {}) {
  return plan_training(config, *make_gpt2(TrainingCase::tiny().model), *make_cross_entropy(), ranks, updates);
}

// What a step does before its agreement.
inline std::vector<Action> before_agreement(const Plan& step) { return {step.actions.begin(), step.actions.begin() + step.agreement}; }
inline int64_t count(const std::vector<Action>& actions, ActionKind kind) {
  return std::count_if(actions.begin(), actions.end(), [&](const Action& a) { return a.kind == kind; });
}

}  // namespace zerostep::testing
