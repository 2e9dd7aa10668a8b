#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/nth.h"
#include "runtime/engine/prediction.h"
#include "tests/runtime/support/machines.h"
#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep::testing {

// A small run, planned, for what its steps take on a machine.
struct Planned {
  using Mode = StepConfig::Mode;
  explicit Planned(Mode mode, int ranks, const std::function<void(ZerothOrderCase&)>& change = {}, std::optional<Updates> updates = {})
      : test(ZerothOrderCase::tiny(mode)), world(ranks) {
    test.config.data.sequence_length = test.config.step.query_sequence_length = test.sequence;
    if (change) change(test);
    test.share_over(ranks);
    test.config.batch.train_batch_size = test.global_batch;
    model = make_gpt2(test.model);
    objective = make_cross_entropy();
    plan.emplace(plan_training(test.config, *model, *objective, ranks, updates));
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

inline void at_stage(ZerothOrderCase& test, int stage) {
  test.config.zero.stage = stage;
  test.config.zero.overlap_comm = stage == 3;
}

inline constexpr double kRelative = 1e-9;
inline void expect_near(double found, double expected) { EXPECT_NEAR(found, expected, kRelative * expected); }

}  // namespace zerostep::testing
