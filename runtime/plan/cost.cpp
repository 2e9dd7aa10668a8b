#include "runtime/plan/cost.h"

#include <algorithm>
#include <functional>
#include <string_view>
#include <vector>

#include "base/nth.h"
#include "offload/flat_kernels.h"
#include "runtime/memory/unit_cost.h"
#include "runtime/plan/tensor_pieces.h"

namespace zerostep {
namespace {

constexpr int64_t kBytesPerToken = 2 * 8;  // tokens and labels of the micro-batch, int64
constexpr int64_t kMaskBytesPerToken = 1;  // where samples have lengths of their own

// What the visits of one load cost by themselves: each unit's, the objective's, and those of a visit that runs branches together.
struct VisitCosts {
  std::vector<ActivationCost> units;
  ActivationCost objective;
  std::function<ActivationCost(const Visit&)> joined;
  int64_t micro_batch_bytes = 0;
  int64_t coefficient_bytes = 0;  // of a branch: rows times the factor of a direction, while a product with a matrix begins
  bool with_workspace = false;
};

ActivationCost with_workspace(ActivationCost cost, const Workspace& workspace) {
  cost.inference_transient_bytes += workspace.inference_bytes;
  cost.forward_transient_bytes += workspace.forward_bytes;
  cost.backward_transient_bytes += workspace.backward_bytes;
  cost.accumulating_backward_transient_bytes += workspace.accumulating_backward_bytes;
  return cost;
}

// What LibTorch holds, followed over a step's visits of one load. Those of another come before or after them, with an agreement between at
// which a strategy holds nothing.
class ActivationWalk {
 public:
  ActivationWalk(const Plan& plan, const ModelLayout& layout, VisitCosts costs) : plan_(plan), layout_(layout), own_(std::move(costs)) {
    held_.assign(costs_.size(), false);
    checkpoint_.assign(costs_.size(), false);
  }

  void run(const StepLoads& loads, const StepLoads::Load& load, PlanCost& out) {
    out_ = &out;
    for (const Action& a : plan_.actions) {
      if (a.kind == ActionKind::Visit && &loads.load_of(plan_.visit(a.visit)) == &load) visit(plan_.visit(a.visit), writes_fresh(a));
      if (a.kind == ActionKind::Drop) drop_output(static_cast<size_t>(a.chunk.index) - 1);
    }
  }

 private:
  // Whether a backward is the first to write the gradients of its unit's own parameters.
  bool writes_fresh(const Action& a) const {
    const int unit = plan_.visit(a.visit).unit;
    return std::all_of(a.gradients.begin(), a.gradients.end(),
                       [&](const GradientUse& use) { return use.fresh || layout_.group(use.group).unit != unit; });
  }

  void visit(const Visit& at, bool fresh) {
    const size_t u = static_cast<size_t>(at.unit);
    const ActivationCost& cost = costs_[u];
    const bool last = u + 1 == costs_.size();
    switch (at.kind) {
      case VisitKind::ForwardOnly:
        forward_only(at, cost, last);
        break;
      case VisitKind::Forward:
      case VisitKind::Recompute:
        if (hidden_ > 0) hold_output(u - 1);  // the graph has it now
        peak(at,
             cost.saved_bytes + cost.output_bytes + std::max(cost.forward_transient_bytes, last ? objective_.forward_transient_bytes : 0));
        kept_ += cost.saved_bytes + (last ? objective_.saved_bytes : 0);
        hidden_ = cost.output_bytes;
        if (last) hold_output(u);
        break;
      case VisitKind::Backward: {
        if (hidden_ > 0) hold_output(u);
        gradient_ = 0;  // the unit's own cost counts what comes in and what goes out
        const bool direct = plan_.options.contiguous_gradients;
        const int64_t transient = (fresh || !direct ? cost.backward_transient_bytes : cost.accumulating_backward_transient_bytes) +
                                  (direct ? 0 : own_gradient_bytes(at.unit));
        // The logits are gone once their gradient is there; the loss and its gradient stay.
        peak(at,
             last ? 2 * objective_.output_bytes + std::max(objective_.backward_transient_bytes, transient - cost.output_bytes) : transient);
        kept_ -= cost.saved_bytes + (last ? objective_.saved_bytes : 0);
        drop_output(u);
        if (checkpoint_[u]) drop_output(u - 1);
        gradient_ = u > 0 ? costs_[u - 1].output_bytes : 0;
        break;
      }
    }
  }

  // Gradients that a backward makes for its parameters, in their types, where they are not written straight into a flat buffer. All of them
  // are there when the last of the unit's functions has run: an upper bound of the moment of the peak.
  int64_t own_gradient_bytes(int unit) const {
    int64_t bytes = 0;
    for (int g : layout_.used_by(unit)) {
      const FlatGroup& group = layout_.group(g);
      if (!group.trainable) continue;
      for (int i = 0; i < group.layout.num_parameters(); ++i) bytes += num_bytes(group.layout.size(i), group.type);
    }
    return bytes;
  }

  void forward_only(const Visit& at, const ActivationCost& cost, bool last) {
    const int64_t runs = int64_t{at.branches} * at.micro_batches;
    const bool shared_input = runs > hidden_count_ && hidden_ > 0;
    if (shared_input) {
      kept_ += hidden_;
      hidden_ = 0;
    }
    const int64_t output = last ? 0 : cost.output_bytes;
    if (at.tiled)
      tiled_peak(at, output, last, shared_input);
    else if (at.branches_together > 1)
      joined_peak(at, output, last, shared_input);
    else
      single_peak(at, cost, output, last);
    joined_ = at.branches_together > 1 && !at.tiled && !last;
    tiled_ = at.tiled;
    if (at.keep_input) {
      hold_output(static_cast<size_t>(at.unit) - 1);
      nth(checkpoint_, at.unit) = true;
    }
    hidden_ = runs * output;
    hidden_count_ = last ? 0 : runs;
  }

  // Branches one after the other: each frees its input when its output is there, unless the input serves several. The parts of a joined
  // input go together, with the last of them.
  void single_peak(const Visit& at, const ActivationCost& cost, int64_t output, bool last) {
    const int64_t runs = int64_t{at.branches} * at.micro_batches, input = hidden_count_ > 0 ? hidden_ / runs : 0;
    const int64_t one = cost.output_bytes + std::max(cost.inference_transient_bytes, last ? objective_.inference_transient_bytes : 0) +
                        (at.token_batches - 1) * own_.micro_batch_bytes;
    const int64_t before = joined_ ? (runs - at.micro_batches) * output : (runs - 1) * (output - input);
    peak(at, one + std::max<int64_t>(0, before));
  }

  // Both signs of a direction after those of another. They come as one tensor from a unit that ran so, otherwise they are put into one.
  void tiled_peak(const Visit& at, int64_t output, bool last, bool shared_input) {
    const int64_t together = at.branches_together, groups = int64_t{at.branches} / together * at.micro_batches;
    const ActivationCost joined = own_.joined(at);
    const int64_t input = at.unit > 0 ? together * costs_[static_cast<size_t>(at.unit) - 1].output_bytes : 0;
    const int64_t copied = together > 1 && !tiled_ ? input : 0;
    const int64_t one = joined.output_bytes + std::max({joined.inference_transient_bytes,
                                                        own_.with_workspace ? joined.inference_product_bytes + at.tile_bytes : 0,
                                                        last ? objective_.inference_transient_bytes : 0});
    const int64_t each = (at.token_batches - 1) * own_.micro_batch_bytes + at.perturbation_bytes + copied + one, made = together * output;
    if (!joined_) return peak(at, each + std::max<int64_t>(0, (groups - 1) * (made - (shared_input ? 0 : input))));
    // A tensor of all branches of a micro-batch goes when the last of them has been copied.
    const int64_t others = groups - at.micro_batches;
    if (others > 0) peak(at, each + (others - 1) * made);
    for (int64_t m = 1; m <= at.micro_batches; ++m) peak(at, each + (others + m - 1) * made - hidden_ * m / at.micro_batches);
  }

  // Branches of a micro-batch as one batch, micro-batch by micro-batch. What comes in apart is copied into one tensor first.
  void joined_peak(const Visit& at, int64_t output, bool last, bool shared_input) {
    const ActivationCost joined = own_.joined(at);
    const int64_t input = at.unit > 0 ? at.branches * costs_[static_cast<size_t>(at.unit) - 1].output_bytes : 0;
    const int64_t apart = (at.token_batches - 1) * own_.micro_batch_bytes + at.perturbation_bytes;
    if (!shared_input && !joined_ && hidden_ > 0) peak(at, apart + input);
    const int64_t copied = shared_input ? input : 0;
    const int64_t coefficients = at.perturbation_bytes > 0 ? at.branches_together * own_.coefficient_bytes : 0;
    const int64_t one = joined.output_bytes + std::max({joined.inference_transient_bytes, joined.inference_product_bytes + coefficients,
                                                        last ? objective_.inference_transient_bytes : 0});
    const int64_t more = (at.micro_batches - 1) * (at.branches * output - (shared_input ? 0 : input));
    peak(at, apart + copied + one + std::max<int64_t>(0, more));
  }

  void hold_output(size_t u) {
    kept_ += costs_[u].output_bytes;
    held_[u] = true;
    hidden_ = 0;
  }
  void drop_output(size_t u) {
    if (held_[u]) kept_ -= costs_[u].output_bytes;
    held_[u] = false;
  }

  void peak(const Visit& at, int64_t extra) {
    const int64_t bytes = own_.micro_batch_bytes + kept_ + hidden_ + gradient_ + extra;
    if (bytes <= out_->activation_peak_bytes) return;
    out_->activation_peak_bytes = bytes;
    out_->peak_at = std::string(name_of(at.kind)) + " " + layout_.unit(at.unit).name;
  }

  const Plan& plan_;
  const ModelLayout& layout_;
  VisitCosts own_;
  const std::vector<ActivationCost>& costs_ = own_.units;
  const ActivationCost& objective_ = own_.objective;
  PlanCost* out_ = nullptr;
  std::vector<bool> held_, checkpoint_;  // per unit: its output is counted in kept_; its input is a checkpoint
  int64_t kept_ = 0;                     // by graphs and checkpoints
  int64_t hidden_ = 0, gradient_ = 0;    // on the way to the next visit
  int64_t hidden_count_ = 0;             // branches and micro-batches that hidden_ is made of, in forward-only visits
  bool joined_ = false, tiled_ = false;  // those of a micro-batch, or of a direction, lie in one tensor
};

// Adds what a plan's visits of one load hold.
void add_load(const Plan& plan, const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads,
              const StepLoads::Load& load, WorkspaceMeter* meter, PlanCost& out) {
  const DType type = layout.options.compute_type;
  const int num_units = static_cast<int>(layout.units.size());
  const auto any = [&](auto... kinds) {
    return std::any_of(plan.visits.begin(), plan.visits.end(),
                       [&](const Visit& at) { return &loads.load_of(at) == &load && ((at.kind == kinds) || ...); });
  };
  const bool graph = any(VisitKind::Forward, VisitKind::Recompute);
  if (!graph && !any(VisitKind::ForwardOnly)) return;
  // Dropout is on where there is a backward.
  const bool drops = plan.options.update && any(VisitKind::Backward), classifies = model.num_classes() > 0;
  VisitCosts tensors;
  for (int u = 0; u < num_units; ++u)
    tensors.units.push_back(model.activation_cost(u, {load.batch, load.sequence, type, drops, loads.backend, loads.multiprocessors}));
  if (load.takes_factors) tensors.units.back() = model.factors_cost({load.batch, load.sequence, type, drops, loads.backend}).value();
  tensors.objective = objective_cost(load, model, type, loads.backend);
  tensors.joined = [&](const Visit& at) {
    return model.activation_cost(at.unit, {load.batch * at.branches_together, load.sequence, type, false, loads.backend});
  };
  tensors.coefficient_bytes = num_bytes(load.batch * load.sequence * loads.rank, DType::F32);
  tensors.micro_batch_bytes = load.batch * load.sequence * (kBytesPerToken + (classifies ? kMaskBytesPerToken : 0));

  PlanCost alone;
  ActivationWalk(plan, layout, tensors).run(loads, load, alone);
  out.tensor_peak_bytes = std::max(out.tensor_peak_bytes, alone.activation_peak_bytes);
  if (loads.backend == Backend::Cuda)
    out.piece_bytes = std::max(out.piece_bytes, most_beside_tensors(alone.activation_peak_bytes, tensors.units.front().output_bytes));
  VisitCosts whole = tensors;
  if (meter != nullptr) {
    const Workspaces& spaces =
        meter->workspaces_of(model, load.objective, {load.batch, load.sequence, type, graph, drops, loads.backend, load.takes_factors});
    out.workspace_known &= spaces.is_known;
    const auto space_of = [&out](const Workspaces& all, int unit) -> const Workspace& {
      const Workspace& found = nth(all.units, unit);
      if (!found.is_measured) out.unmeasured_units.insert(unit);
      return found;
    };
    whole.with_workspace = true;
    for (int u = 0; u < num_units; ++u) nth(whole.units, u) = with_workspace(nth(whole.units, u), space_of(spaces, u));
    whole.objective = with_workspace(whole.objective, spaces.objective);
    whole.joined = [&, space_of](const Visit& at) {
      const WorkspaceShape shape{load.batch * at.branches_together, load.sequence, type, false, false, loads.backend};
      return with_workspace(tensors.joined(at), space_of(meter->workspaces_of(model, load.objective, shape), at.unit));
    };
  }
  ActivationWalk(plan, layout, whole).run(loads, load, out);
}

}  // namespace

std::unique_ptr<Objective> make_query_objective(const StepConfig& config, const ModelDefinition& model) {
  return config.is_accuracy ? make_accuracy(model.num_classes() > 0 ? Labelled::Samples : Labelled::Tokens) : nullptr;
}

namespace {

// Whether a step's squares of gradients are summed on the stream of reductions, and that is not the compute lane's.
bool squares_apart(const PlanOptions& options) { return options.overlap && !(options.world == 1 && keeps_gradients_whole(options)); }

KernelScratch kernel_scratch(const Config& config, bool squares_apart) {
  KernelScratch out;
  if (config.run.device != "cuda") return out;
  const StepConfig& step = config.step;
  const bool draws_parts = step.uses_queries() &&
                           (step.perturbation == StepConfig::Perturbation::LowRank || step.queries > FlatKernels::kMostDirectionsTogether);
  out.parts = draws_parts || config.optimizer.orthogonal();
  // Norms of estimates, what they have in common with gradients, and the share of 16-bit weights that epsilon leaves unchanged.
  const bool sums_of_queries = step.uses_queries() && (step.uses_backprop() || step.exact_norm || is_16bit(config.precision.compute));
  out.sums = out.parts || sums_of_queries || (step.uses_backprop() && !squares_apart);
  // Estimates move shards where they are gathered, if these rest elsewhere.
  const bool updates_shards = !step.uses_backprop() && config.zero.overlap_comm && config.zero.offload_param.tier != Tier::Device;
  out.communication_parts = draws_parts && updates_shards;
  out.communication_sums = out.communication_parts || (step.uses_backprop() && squares_apart);
  return out;
}

}  // namespace

KernelScratch kernel_scratch(const Config& config, const PlanOptions& options) { return kernel_scratch(config, squares_apart(options)); }

int64_t KernelScratch::num_bytes() const {
  return ((sums ? 1 : 0) + (communication_sums ? 1 : 0)) * FlatKernels::kSumScratchBytes +
         ((parts ? 1 : 0) + (communication_parts ? 1 : 0)) * FlatKernels::kPartScratchBytes;
}

int64_t StepLoads::kernel_bytes(const PlanOptions& options) const { return kernel_bytes_[squares_apart(options) ? 1 : 0]; }

StepLoads::StepLoads(const Config& config, const ModelDefinition& model, const Objective& objective, int64_t multiprocessors)
    : backend(config.run.device == "cuda" ? Backend::Cuda : Backend::Cpu),
      rank(config.step.uses_queries() && config.step.perturbation == StepConfig::Perturbation::LowRank ? config.step.rank : 0),
      multiprocessors(backend == Backend::Cuda && config.run.deterministic ? multiprocessors : 0),
      kernel_bytes_{kernel_scratch(config, false).num_bytes(), kernel_scratch(config, true).num_bytes()},
      query_objective_(make_query_objective(config.step, model)),
      backprop_{objective, config.batch.micro_batch_size, config.data.sequence_length,
                objective.takes_factors() && model.factors_cost({1, 1}).has_value()},
      queries_{query_objective_ ? *query_objective_ : objective, config.step.query_batch.micro_batch_size,
               config.step.query_sequence_length} {}

ActivationCost objective_cost(const StepLoads::Load& load, const ModelDefinition& model, DType compute_type, Backend backend) {
  return cost_of_objective(model, load.objective,
                           {load.batch, load.sequence, compute_type, /*graph=*/false, /*training=*/false, backend, load.takes_factors});
}

PlanCost estimate_cost(const Plan& plan, const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads,
                       WorkspaceMeter* meter) {
  PlanCost out;
  out.arena_bytes = plan.device_arena_bytes() + loads.kernel_bytes(plan.options);
  for (const StepLoads::Load* load : loads.all()) add_load(plan, layout, model, loads, *load, meter, out);
  out.workspace_estimated = meter != nullptr && meter->extrapolated();
  out.device_peak_bytes = out.arena_bytes + out.activation_peak_bytes;
  return out;
}

}  // namespace zerostep
