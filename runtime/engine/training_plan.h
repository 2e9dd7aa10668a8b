#pragma once
#include <optional>
#include <vector>

#include "models/model.h"
#include "models/objective.h"
#include "runtime/config/config.h"
#include "runtime/plan/lane_streams.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/verify.h"
#include "runtime/strategy/step_kind.h"

namespace zerostep {

// What a configuration asks of a model on `world` data-parallel ranks, as data: nothing is allocated.
struct TrainingPlan {
  ModelLayout layout;
  // Every kind of step that the mode makes: all of its actions in one list.
  struct Step {
    StepKind kind;
    Plan plan;
  };
  std::vector<Step> steps;
  Plan evaluate;                  // in the memory of the steps
  Plan update;                    // the updates of a step alone: of a pending one, or of one that another run made
  int64_t queries_per_pass = 0;   // given, or chosen by memory
  int64_t device_peak_bytes = 0;  // of a rank, as training_cost() says, for errors that tell it; 0: not worked out

  const Plan& step(const StepKind& kind) const;
  // All of them, named.
  std::vector<NamedPlan> plans() const;
  // Any of the steps, for what they have in common: limits, rings, buffers, assigned matrices, and options but those of their agreement.
  const Plan& any_step() const { return steps.front().plan; }
  // What runs beside the compute stream. The host's updates always do beside a GPU; a processor has the same cores for both, and they do
  // where they work beside visits.
  StreamsApart streams_apart(bool host_is_device) const;
};

// When parameters are updated: at the end of each step, or in the next step, each group before its first use, or in the backward, each
// group when its gradient is complete. All give the same bits.
// Matrix optimizers exchange whole matrices among the ranks, and a clipped estimate is measured over the whole model before it is used:
// these are always immediate. In the backward nothing is known of the whole gradient: only steps of backprop alone can be updated there, if
// no norm clips them and no step is skipped because of a gradient that is not finite (it ends the run, which in fp32 it does anyway).
enum class Updates : uint8_t { Immediate, Deferred, InBackward };
// Where `updates` is not given, those that follow a backprop gradient stand in the backward, or are deferred where they may not, where the
// optimizer's state rests on the host or in files, which the host then works on under the backward or the next forward; and those of a run
// of queries alone are deferred where parameters rest in files, so that each byte of them is read and written once a step.
TrainingPlan plan_training(const Config& config, const ModelDefinition& model, const Objective& objective, int world,
                           std::optional<Updates> updates = {});

}  // namespace zerostep
