#pragma once
#include <vector>

#include "models/objective.h"
#include "models/unit.h"
#include "runtime/plan/plan.h"

namespace zerostep {

// What a strategy sees of one visit: the unit, gathered, and the micro-batch it runs.
struct VisitContext {
  const Visit& visit;
  bool first_unit, last_unit;
  Unit& unit;
  const Batch& batch;
  ForwardContext forward;
};

// Turns batches into an update. A strategy says before the step in which order it visits units and what it does there; the planner makes
// the plan of it, and the engine gathers, calls visit() and releases. It never sees ranks, shards or slots. First order visits U0..Un,
// Un..U0 with one branch; a forward-only strategy visits U0..Un once and runs several branches through a unit while it is there. One object
// serves one rank; calls come from that rank's thread in the order of visits().
class StepStrategy {
 public:
  virtual ~StepStrategy() = default;
  virtual std::vector<Visit> visits(int micro_batches) const = 0;
  // `seed`: gradient of the summed loss (loss scale, averaging and token count in one factor).
  virtual void begin_step(double seed) = 0;
  virtual void visit(const VisitContext& context) = 0;
  // Sum of the objective over this rank's micro-batches since begin_step().
  virtual double loss_sum() const = 0;
  // Drops what a failed or finished step still holds.
  virtual void reset() = 0;
};

}  // namespace zerostep
