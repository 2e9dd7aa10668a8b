#include "runtime/plan/cost.h"

#include <algorithm>

namespace zerostep {
namespace {

constexpr int64_t kBytesPerToken = 2 * 8;  // tokens and labels of the micro-batch, int64

// What LibTorch holds, followed over the visits of a step.
class ActivationWalk {
 public:
  ActivationWalk(const Plan& plan, const ModelLayout& layout, const ModelDefinition& model, const Objective& objective, int64_t batch,
                 int64_t sequence)
      : plan_(plan), layout_(layout), micro_batch_bytes_(batch * sequence * kBytesPerToken) {
    const DType type = layout.options.compute_type;
    for (size_t u = 0; u < layout.units.size(); ++u)
      costs_.push_back(model.activation_cost(static_cast<int>(u), batch, sequence, type, plan.options.update));
    held_.assign(costs_.size(), false);
    checkpoint_.assign(costs_.size(), false);
    objective_ = objective.activation_cost(batch, sequence, model.vocabulary_size(), type);
  }

  void run(PlanCost& out) {
    out_ = &out;
    std::vector<bool> fresh(plan_.visits.size(), true);
    for (const Action& a : plan_.actions)
      for (const GradientUse& use : a.gradients)
        if (!use.fresh && layout_.groups[static_cast<size_t>(use.group)].unit == plan_.visits[static_cast<size_t>(a.visit)].unit)
          fresh[static_cast<size_t>(a.visit)] = false;
    for (size_t v = 0; v < plan_.visits.size(); ++v) visit(plan_.visits[v], fresh[v]);
  }

 private:
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
        out_->flops += cost.forward_flops + (last ? objective_.forward_flops : 0);
        break;
      case VisitKind::Backward: {
        if (hidden_ > 0) hold_output(u);
        gradient_ = 0;  // the unit's own cost counts what comes in and what goes out
        const bool direct = plan_.options.contiguous_gradients;
        const int64_t transient = (fresh || !direct ? cost.backward_transient_bytes : cost.accumulating_backward_transient_bytes) +
                                  (direct ? 0 : own_gradient_bytes(at.unit));
        // The logits are gone once their gradient is there.
        peak(at, last ? std::max(objective_.backward_transient_bytes, transient - cost.output_bytes) : transient);
        kept_ -= cost.saved_bytes + (last ? objective_.saved_bytes : 0);
        drop_output(u);
        if (checkpoint_[u]) drop_output(u - 1);
        gradient_ = u > 0 ? costs_[u - 1].output_bytes : 0;
        out_->flops += 2 * cost.forward_flops;
        break;
      }
    }
  }

  // Gradients that a backward makes for its parameters, in their types, where they are not written straight into a flat buffer. All of them
  // are there when the last of the unit's functions has run: an upper bound of the moment of the peak.
  int64_t own_gradient_bytes(int unit) const {
    int64_t bytes = 0;
    for (int g : layout_.used_by(unit)) {
      const FlatGroup& group = layout_.groups[static_cast<size_t>(g)];
      if (!group.trainable) continue;
      for (int i = 0; i < group.layout.num_parameters(); ++i) bytes += num_bytes(group.layout.size(i), group.type);
    }
    return bytes;
  }

  // Branches one after the other: each frees its input when its output is there, unless the input serves several.
  void forward_only(const Visit& at, const ActivationCost& cost, bool last) {
    const int64_t runs = int64_t{at.branches} * at.micro_batches;
    if (runs > hidden_count_ && hidden_ > 0) {
      kept_ += hidden_;
      hidden_ = 0;
    }
    const int64_t input = hidden_count_ > 0 ? hidden_ / runs : 0, output = last ? 0 : cost.output_bytes;
    const int64_t one = cost.output_bytes + std::max(cost.inference_transient_bytes, last ? objective_.inference_transient_bytes : 0) +
                        (at.token_batches - 1) * micro_batch_bytes_;
    peak(at, one + std::max<int64_t>(0, (runs - 1) * (output - input)));
    if (at.keep_input) {
      hold_output(static_cast<size_t>(at.unit) - 1);
      checkpoint_[static_cast<size_t>(at.unit)] = true;
    }
    hidden_ = runs * output;
    hidden_count_ = last ? 0 : runs;
    out_->flops += static_cast<double>(runs) * cost.forward_flops;
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
    const int64_t bytes = micro_batch_bytes_ + kept_ + hidden_ + gradient_ + extra;
    if (bytes <= out_->activation_peak_bytes) return;
    out_->activation_peak_bytes = bytes;
    out_->peak_at = std::string(name_of(at.kind)) + " " + layout_.units[static_cast<size_t>(at.unit)].name;
  }

  const Plan& plan_;
  const ModelLayout& layout_;
  int64_t micro_batch_bytes_;
  std::vector<ActivationCost> costs_;
  ActivationCost objective_;
  PlanCost* out_ = nullptr;
  std::vector<bool> held_, checkpoint_;  // per unit: its output is counted in kept_; its input is a checkpoint
  int64_t kept_ = 0;                     // by graphs and checkpoints
  int64_t hidden_ = 0, gradient_ = 0;    // on the way to the next visit
  int64_t hidden_count_ = 0;             // tensors that hidden_ is made of, in forward-only visits
};

}  // namespace

PlanCost estimate_cost(const Plan& plan, const ModelLayout& layout, const ModelDefinition& model, const Objective& objective, int64_t batch,
                       int64_t sequence) {
  PlanCost out;
  out.arena_bytes = plan.device_arena_bytes;
  out.elements_gathered = plan.elements_gathered;
  out.elements_reduced = plan.elements_reduced;
  ActivationWalk(plan, layout, model, objective, batch, sequence).run(out);
  out.device_peak_bytes = out.arena_bytes + out.activation_peak_bytes;
  return out;
}

}  // namespace zerostep
