#pragma once
#include <vector>

#include "models/objective.h"
#include "runtime/config/config.h"
#include "runtime/plan/model_layout.h"
#include "runtime/strategy/branch_states.h"
#include "runtime/strategy/strategy.h"

namespace zerostep {

// The share of a step's queries that one rank runs: the directions of its group, and which signs of them.
struct QueryShare {
  int64_t first_direction = 0, num_directions = 1;
  bool plus = true, minus = true;     // with two groups a direction each runs one sign
  int data_rank = 0, data_ranks = 1;  // the samples are split over the ranks of the group
};
QueryShare query_share(const StepConfig& config, int rank, int world);

// Forward passes alone: probes the loss along random directions. A unit is gathered once a pass, and all branches of the pass (both signs
// of its directions, every micro-batch) go through it. Units before the first perturbed one run once for all branches that share their
// batch. Branches that share their weights run as one batch: those of units without perturbed weights, and, with low-rank directions, all.
// In fp32, with few rows and on a processor, perturbed matrices of full rank are made in tiles as their products go, both signs of a
// direction together; otherwise each sign runs on a perturbed copy of the unit.
class ZerothOrder final : public StepStrategy {
 public:
  // Sums of the objective at one direction's probes over this rank's samples, and their valid tokens; zeros for directions of other groups.
  // `minus`: at the unperturbed weights, for one-sided differences.
  struct Sums {
    double plus = 0, minus = 0, tokens = 0;
  };

  ZerothOrder(const StepConfig& config, const Objective& objective, const ModelLayout& layout, const QueryShare& share,
              bool makes_tiles = true);
  std::vector<Visit> visits(int micro_batches) const override;
  // Of a step whose directions are made of the backprop gradient, and so have full rank: perturbed units run on copies, from which the
  // gradient is read.
  std::vector<Visit> instructed_visits(int micro_batches) const;
  // Asks for the batches of the pass that a visit belongs to, in their order; for none where the first pass's serve all.
  PassBatches read_batches(const Visit& visit, const QueryBatches& queries) const;
  void begin_step(double seed) override;
  void visit(const VisitContext& context) override;
  void reset() override;

 private:
  using Weights = ProbeBranch::Weights;
  std::vector<ProbeBranch> branches_of(int pass) const;
  int64_t passes() const;
  bool low_rank() const { return config_.perturbation == StepConfig::Perturbation::LowRank; }
  std::vector<Visit> visits(int micro_batches, bool copies) const;
  bool joins(int unit) const;  // whether branches of this unit run as one batch
  int64_t branches_together(int unit, int64_t branches) const;
  bool central() const { return config_.estimator == StepConfig::Estimator::Central; }
  bool both_signs() const { return central() && share_.plus && share_.minus; }
  void begin_pass(const VisitContext& context);
  void take_batches(const PassBatches& batches);
  void run_shared(const VisitContext& context);
  void run_branches(const VisitContext& context);
  void run_branch(const VisitContext& context, size_t branch);
  void run_tiled(const VisitContext& context);
  // Branches [begin, end) as one batch.
  void run_joined(const VisitContext& context, size_t begin, size_t end);
  TensorList forward_joined(const VisitContext& context, const TensorList& inputs, size_t begin, size_t end, size_t micro_batch,
                            BranchPerturbation* perturbation);
  // What the unit made of branches [begin, end): to the next unit, or of the last one to the sums.
  void hand_on(const VisitContext& context, size_t begin, size_t end, size_t micro_batch, TensorList out);
  void record(const VisitContext& context, const ProbeBranch& branch, const at::Tensor& sum, const Batch& batch) const;
  const Batch& batch_of(size_t branch, size_t micro_batch) const { return batches_[states_.batch_of(branch)][micro_batch]; }

  StepConfig config_;
  const Objective& objective_;
  int num_units_, first_perturbed_;
  bool tiled_;
  std::vector<bool> perturbed_;                // per unit
  std::vector<int64_t> elements_of_a_branch_;  // per unit: factors and vectors of a low-rank perturbation, vectors alone where tiled
  std::vector<int64_t> tile_bytes_;            // per unit: scratch of its products, where tiled
  QueryShare share_;
  int64_t per_pass_;
  // Of the pass under way.
  int pass_ = -1;
  size_t micro_batches_ = 1;
  std::vector<ProbeBranch> branches_;
  PassBatches batches_;
  BranchStates states_;  // between two units; shared: those of the units before the first perturbed one
};

}  // namespace zerostep
