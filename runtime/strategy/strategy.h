#pragma once
#include <functional>
#include <span>
#include <vector>

#include "models/branches.h"
#include "models/unit.h"
#include "runtime/plan/plan.h"

namespace zerostep {

enum class Sign : uint8_t { Plus, Minus };

// What one branch of a pass probes: the weights as they are, or theta +- epsilon z of a direction.
struct ProbeBranch {
  int64_t direction;
  enum class Weights : uint8_t { Plain, Plus, Minus } weights;
};

// The weights of the unit that is being visited, as its branches see them: at first as they are.
class BranchWeights {
 public:
  virtual ~BranchWeights() = default;
  // What the unit computes with from here on: the weights as they are, again.
  virtual void use_plain() = 0;
  // Makes perturbed copies along a direction of this step, theta + epsilon z and theta - epsilon z (z is drawn once for both), ...
  virtual void perturb(int64_t direction, bool plus, bool minus) = 0;
  // ... and lets the unit compute with one of them.
  virtual void use(Sign sign) = 0;
  // Low-rank directions: what the branches add to the plain weights, for Unit::forward_branches().
  virtual BranchPerturbation low_rank(std::span<const ProbeBranch> branches) = 0;
  // Other random directions, without copies: the signs of one direction as branches of Unit::forward_branches(), plus before minus.
  virtual BranchPerturbation tiled(int64_t direction, bool plus, bool minus) = 0;
};

// Micro-batch `micro_batch` of what a direction is probed on.
using QueryBatches = std::function<Batch(int64_t direction, int64_t micro_batch)>;
// [batch of the pass][micro-batch], on the device.
using PassBatches = std::vector<std::vector<Batch>>;

// What a strategy sees of one visit: the unit, gathered, and what it runs.
struct VisitContext {
  const Visit& visit;
  bool last_unit;
  Unit& unit;
  const Batch& batch;      // first order and evaluation: the micro-batch of the visit
  ForwardContext forward;  // with `batch`
  BranchWeights& weights;
  const PassBatches& pass_batches;  // of queries: those of the visit's pass; none where the first pass's serve all
  // Where the visit adds what the last unit finds, fp64 on the device: the sum of the objective, [1] (undefined: it is not wanted); of
  // queries ZerothOrder::Sums of all directions, end to end.
  at::Tensor sums;
};

// Turns batches into an update. A strategy says before the step in which order it visits units and what it does there; the planner makes
// the plan of it, and the engine gathers, calls visit() and releases. It never sees ranks, shards or slots. First order visits U0..Un,
// Un..U0 with one branch; a forward-only strategy visits U0..Un once a pass and runs several branches through a unit while it is there. One
// object serves one rank: visit() runs on the compute stream in the order of visits(); begin_step(), reset() and visits() are called by
// the rank's thread while nothing of the step is under way there.
class StepStrategy {
 public:
  virtual ~StepStrategy() = default;
  virtual std::vector<Visit> visits(int micro_batches) const = 0;
  // `seed`: gradient of the summed loss (loss scale, averaging and token count in one factor).
  virtual void begin_step(double seed) = 0;
  virtual void visit(const VisitContext& context) = 0;
  // Drops what a failed or finished step still holds.
  virtual void reset() = 0;
};

}  // namespace zerostep
