#pragma once
#include <array>
#include <memory>
#include <set>
#include <string>

#include "models/model.h"
#include "models/objective.h"
#include "runtime/config/config.h"
#include "runtime/memory/workspace.h"
#include "runtime/plan/plan.h"

namespace zerostep {

// The objective that queries probe, where it is another one than backprop's; else nullptr.
std::unique_ptr<Objective> make_query_objective(const StepConfig& config, const ModelDefinition& model);

// What a GPU's kernels keep (FlatKernels::take_scratch) for the stream of the compute lane, and for that of communication where that is
// another one and squares of gradients are summed or shards are updated there; nothing on a processor.
struct KernelScratch {
  bool sums = false, parts = false, communication_sums = false, communication_parts = false;
  int64_t num_bytes() const;
};
KernelScratch kernel_scratch(const Config& config, const PlanOptions& options);

// What the visits of a configuration's steps run on. `objective` must outlive it. `multiprocessors`: of a GPU on which what libraries take
// is not measured; 0: measured, or not asked for.
class StepLoads {
 public:
  StepLoads(const Config& config, const ModelDefinition& model, const Objective& objective, int64_t multiprocessors = 0);
  // A micro-batch: samples of `sequence` tokens, and what is taken of their outputs.
  struct Load {
    const Objective& objective;
    int64_t batch = 0, sequence = 0;
    bool takes_factors = false;  // the last unit hands on factors of the logits
  };
  const Load& load_of(const Visit& visit) const { return visit.probes ? queries_ : backprop_; }
  std::array<const Load*, 2> all() const { return {&queries_, &backprop_}; }
  const Backend backend;
  const int64_t rank;             // of directions of low rank; else 0
  const int64_t multiprocessors;  // ActivationShape::multiprocessors of visits with a graph
  // Of kernels, for a plan with these options.
  int64_t kernel_bytes(const PlanOptions& options) const;
  StepLoads(const StepLoads&) = delete;
  StepLoads& operator=(const StepLoads&) = delete;

 private:
  std::array<int64_t, 2> kernel_bytes_;  // where squares of gradients are summed on the compute lane, and where not
  std::unique_ptr<Objective> query_objective_;
  Load backprop_;  // and of evaluations
  Load queries_;
};

// What the objective costs beside the last unit's outputs, of a micro-batch.
ActivationCost objective_cost(const StepLoads::Load& load, const ModelDefinition& model, DType compute_type, Backend backend);

// Runs of a visit's unit: branches that run together have one forward for each micro-batch; a backward is one.
int64_t forwards_of(const Visit& visit);

// Fills in the bytes and the floating-point operations of a plan's actions, and their sum.
void count_work(const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads, Plan& plan);

// What steps cost one rank: the busiest, which at equal shards is every one. Worked out; only the workspace of libraries is measured.
struct PlanCost {
  int64_t device_peak_bytes = 0, host_peak_bytes = 0, file_peak_bytes = 0;
  int64_t arena_bytes = 0;            // of device_peak_bytes: the runtime's own arenas, and the scratch of a GPU's kernels
  int64_t activation_peak_bytes = 0;  // of device_peak_bytes: what LibTorch holds at the worst moment
  int64_t tensor_peak_bytes = 0;      // the same without what libraries take for themselves
  int64_t blas_bytes = 0;             // of device_peak_bytes: what cuBLAS keeps on a GPU (base/blas_workspace.h)
  // Beside device_peak_bytes: what LibTorch's pieces of a GPU's memory may hold that is in no tensor (tensor_pieces.h). A bound, and no
  // part of what a run measures.
  int64_t piece_bytes = 0;
  // The workspace was not measured at the shapes of this plan, or not on its machine.
  bool workspace_estimated = false;
  bool workspace_known = true;     // false: of a described machine, or of a GPU that is not here, so that it counts 0
  std::set<int> unmeasured_units;  // whose workspace could not be measured and counts nothing here (Workspace::is_measured)
  std::string peak_at;             // the visit of that moment: "backward h.3"
  int64_t elements_gathered = 0, elements_reduced = 0;
  // What must be there for the device.
  int64_t device_needed_bytes() const { return device_peak_bytes + piece_bytes; }
  int64_t workspace_bytes() const { return activation_peak_bytes - tensor_peak_bytes; }
  double flops = 0;  // Plan::flops
};

// The device memory of a plan. `meter` measures the workspace of libraries where it is not known yet; without one the cost is that of
// tensors alone, the same on every machine.
PlanCost estimate_cost(const Plan& plan, const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads,
                       WorkspaceMeter* meter = nullptr);

}  // namespace zerostep
