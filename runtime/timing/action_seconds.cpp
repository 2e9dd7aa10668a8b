#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "base/error.h"
#include "base/nth.h"
#include "runtime/timing/simulation.h"

// What each action takes alone: its products at the rate of their shape, everything else by the bytes that it moves.

namespace zerostep {
namespace {

class ActionTimes {
 public:
  ActionTimes(const Config& config, const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads, const Plan& plan,
              const Machine& machine)
      : config_(config), layout_(layout), model_(model), loads_(loads), plan_(plan), machine_(machine), world_(plan.options.world) {
    bool reads_gradient = false, has_backward = false;
    for (const Visit& visit : plan.visits) {
      reads_gradient |= visit.reads_gradient;
      has_backward |= visit.kind == VisitKind::Backward;
    }
    drops_ = has_backward;
    // The update follows an estimate where there is no gradient, or where directions are made of it.
    follows_estimate_ = config.step.uses_queries() && (!has_backward || reads_gradient);
  }

  double seconds(const Action& a) {
    switch (a.kind) {
      case ActionKind::Begin:
      case ActionKind::Release:
      case ActionKind::Drop:
      case ActionKind::End:
        return 0;
      case ActionKind::Visit:
        return visit(a);
      case ActionKind::Gather:
        if (a.has_shard) return gathered(static_cast<double>(a.bytes));
        return gather(layout_.group(a.group), a.bytes, layout_.group(a.group).type, layout_.group(a.group).tier);
      case ActionKind::BringShard:
      case ActionKind::ReturnShard:
        return crossed(a.kind == ActionKind::BringShard, static_cast<double>(a.bytes));
      case ActionKind::GatherGradient:
        return gather(layout_.group(a.group), a.bytes, DType::F32, plan_.options.gradient_tier);
      case ActionKind::GatherUpdated:
      case ActionKind::GatherMatrices:
      case ActionKind::ScatterMatrixUpdates:
        return gathered(static_cast<double>(a.bytes));
      case ActionKind::Reduce:
        return reduce(a);
      case ActionKind::Agree:
        return agree(a.agreement);
      case ActionKind::MakeMatrixUpdates:
        return a.flops / gemm_flops_per_second(machine_, DType::F32, matrix_width(a.round), matrix_width(a.round)) +
               static_cast<double>(a.bytes) / machine_.update_bytes_per_second;
      case ActionKind::ApplyMatrixUpdates:
        return static_cast<double>(a.bytes) / machine_.update_bytes_per_second;
      case ActionKind::Update:
        return update(a);
      case ActionKind::Load:
        if (a.lane == Lane::HostToDevice) return checkpoint(true, static_cast<double>(a.bytes));
        return transferred(machine_.file_read, "file_read", static_cast<double>(a.bytes));
      case ActionKind::Store:
        if (a.lane == Lane::DeviceToHost) return checkpoint(false, static_cast<double>(a.bytes));
        return transferred(machine_.file_write, "file_write", static_cast<double>(a.bytes));
    }
    return 0;
  }

 private:
  bool crosses_hosts() const { return world_ > machine_.ranks_per_host; }
  double transferred(const Link& link, const char* name, double bytes) const {
    if (!link.is_known()) fail_input("the machine {} has no {}, which this plan uses", machine_.name, name);
    return link.seconds(bytes);
  }
  double gathered(double bytes) const {
    if (bytes <= 0) return 0;
    return crosses_hosts() ? transferred(machine_.gather_across_hosts, "gather_across_hosts", bytes)
                           : transferred(machine_.gather_in_host, "gather_in_host", bytes);
  }
  double reduced(double bytes) const {
    return crosses_hosts() ? transferred(machine_.reduce_across_hosts, "reduce_across_hosts", bytes)
                           : transferred(machine_.reduce_in_host, "reduce_in_host", bytes);
  }
  double moved(double bytes) const { return bytes / machine_.memory_bytes_per_second; }
  double noise(double elements) const { return elements / machine_.noise_elements_per_second; }
  // Between host and device, where these are two.
  double crossed(bool up, double bytes) const {
    if (machine_.host_is_device || bytes <= 0) return 0;
    return up ? transferred(machine_.host_to_device, "host_to_device", bytes)
              : transferred(machine_.device_to_host, "device_to_host", bytes);
  }

  // Of a run of a unit.
  struct UnitWork {
    ActivationCost::Work other;  // than products
    double attention_share = 0;  // of its operations
    double heads = 0;            // of all samples
  };
  const UnitWork& unit_work(const Visit& v) {
    const StepLoads::Load& load = loads_.load_of(v);
    const bool backward = v.kind == VisitKind::Backward;
    const auto [work, is_new] = unit_works_.try_emplace({&load, v.unit, v.branches_together, backward});
    if (!is_new) return work->second;
    const ActivationCost cost = model_.activation_cost(
        v.unit, {load.batch * v.branches_together, load.sequence, layout_.options.compute_type, drops_ && !v.probes});
    work->second.other = backward ? cost.backward_work : cost.forward_work;
    if (cost.forward_flops > 0) work->second.attention_share = cost.attention_flops / cost.forward_flops;
    work->second.heads = static_cast<double>(cost.attention_heads);
    return work->second;
  }

  // Of one micro-batch of one branch.
  ActivationCost::Work objective_work(const Visit& v) {
    const ActivationCost cost = objective_cost(loads_.load_of(v), model_, layout_.options.compute_type, loads_.backend);
    return v.kind == VisitKind::Backward ? cost.backward_work : cost.forward_work;
  }

  double elementwise(const ActivationCost::Work& work) const {
    return static_cast<double>(work.written_bytes) / elementwise_bytes_per_second(machine_, layout_.options.compute_type) +
           static_cast<double>(work.operations) * machine_.operation_seconds;
  }

  double product_rate(const Visit& v, int64_t rows) {
    const auto [rate, is_new] = rates_.try_emplace({v.unit, rows}, 0.0);
    if (is_new) rate->second = gemm_flops_per_second(machine_, layout_.options.compute_type, static_cast<double>(rows), width(v.unit));
    return rate->second;
  }

  // Of a square matrix as large as those of the unit, the larger ones counting more.
  double width(int unit) const {
    double elements = 0, squares = 0;
    for (const int g : layout_.used_by(unit))
      for (const int p : layout_.group(g).parameters) {
        const ParameterInfo& info = nth(layout_.unit(layout_.group(g).unit).parameters, p);
        if (info.shape.size() != 2) continue;
        const auto n = static_cast<double>(info.num_elements());
        elements += n, squares += n * n;
      }
    return elements > 0 ? std::sqrt(squares / elements) : 1;
  }
  double matrix_width(int round) const {
    double elements = 0;
    const std::vector<int> matrices = plan_.matrices.parameters_in(round);
    for (const int index : matrices) elements += static_cast<double>(nth(plan_.matrices.parameters, index).num_elements());
    return std::sqrt(std::max(1.0, elements / static_cast<double>(std::max<size_t>(1, matrices.size()))));
  }

  double visit(const Action& a) {
    const Visit& v = plan_.visit(a.visit);
    const StepLoads::Load& load = loads_.load_of(v);
    const bool backward = v.kind == VisitKind::Backward, is_last = v.unit + 1 == static_cast<int>(layout_.units.size());
    const auto forwards = static_cast<double>(forwards_of(v));
    double weights = 0, trained = 0;
    for (const GroupSlot& p : a.parameters) {
      const FlatGroup& g = layout_.group(p.group);
      weights += static_cast<double>(num_bytes(g.full_elements(), g.compute_type));
      if (g.trainable) trained += static_cast<double>(g.full_elements());
    }
    // Products read their weights while they multiply. Where these are made in tiles each branch has products of its own.
    const int64_t rows = load.batch * load.sequence * (v.tiled ? 1 : v.branches_together);
    const UnitWork& work = unit_work(v);
    double out = forwards * elementwise(work.other);
    const double rate = product_rate(v, rows), attention = a.flops * work.attention_share;
    const AttentionRate attending = attention_rate(machine_, layout_.options.compute_type, backward);
    if (a.flops > 0) out += std::max((a.flops - attention) / rate, moved(forwards * weights));  // an embedding reads rows alone
    out += attending.flops_per_second > 0 ? attending.seconds(attention, forwards * work.heads) : attention / rate;
    if (is_last) out += (backward ? 1 : v.branches * v.micro_batches) * elementwise(objective_work(v));
    return out + visit_noise(v, trained) + moved(static_cast<double>(a.bytes) - forwards * weights);
  }

  double visit_noise(const Visit& v, double trained) const {
    const double of_copies = machine_.noise_16bit_elements_per_second;
    const bool makes_16bit = v.copied_branches > 0 && is_16bit(layout_.options.compute_type) && of_copies > 0;
    const double elements = noise_elements(v, trained);
    return makes_16bit ? elements / of_copies : noise(elements);
  }

  // Random numbers of a visit of queries. Each serves both signs of its direction.
  double noise_elements(const Visit& v, double trained) const {
    if (v.copied_branches > 0) return trained * v.copied_branches / v.weight_copies;
    if (v.tiled) return trained * (v.branches - plain_branches(v)) / v.branches_together * v.micro_batches;
    const auto of_branch = static_cast<double>(v.perturbation_bytes) / v.branches_together / static_cast<double>(size_of(DType::F32));
    const bool both_signs =
        config_.step.estimator == StepConfig::Estimator::Central && config_.step.direction_parallel <= config_.step.queries;
    return of_branch * (v.branches - plain_branches(v)) / (both_signs ? 2 : 1);
  }
  // Branches on the weights as they are.
  int plain_branches(const Visit& v) const {
    if (config_.step.estimator != StepConfig::Estimator::Forward) return 0;
    if (config_.step.independent_data) return v.token_batches / v.micro_batches;
    return v.pass == 0 ? 1 : 0;
  }

  // Where host and device are one it is a copy.
  double checkpoint(bool up, double bytes) const { return machine_.host_is_device ? moved(2 * bytes) : crossed(up, bytes); }

  // This rank's part of what is gathered may lie on the host; a rank alone copies it.
  double gather(const FlatGroup& g, int64_t bytes, DType type, Tier tier) const {
    const auto shard = static_cast<double>(num_bytes(g.shard_elements(), type));
    const double up = tier == Tier::Device ? 0 : crossed(true, shard);
    if (bytes > 0) return up + gathered(static_cast<double>(bytes));
    return machine_.host_is_device || tier == Tier::Device ? moved(2 * shard) : up;
  }

  double reduce(const Action& a) const {
    double shard = 0;
    for (const CollectivePart& part : a.parts)
      for (int s = part.slice_begin; s < part.slice_end; ++s)
        shard += static_cast<double>(layout_.group(part.group).layout.slice(s).per_rank);
    double out = a.bytes > 0 ? reduced(static_cast<double>(a.bytes)) : moved(8 * shard);
    if (is_16bit(plan_.options.communication_type)) out += moved(6 * shard * world_);
    if (a.final_reduction) out += moved(4 * shard);  // of their norm
    if (plan_.options.gradient_tier != Tier::Device) out += crossed(false, 4 * shard);
    return out;
  }

  double agree(Agreement agreement) const {
    double owned = 0;
    for (const FlatGroup& g : layout_.groups)
      if (g.trainable) owned += static_cast<double>(g.shard_elements());
    const bool adds_maxima = agreement == Agreement::Gradient || agreement == Agreement::Losses;
    double out = 0;
    if (world_ > 1)
      out = (adds_maxima ? 2 : 1) * (machine_.agreement_seconds + (crosses_hosts() ? machine_.reduce_across_hosts.latency_seconds : 0));
    const double drawn = noise(owned * static_cast<double>(config_.step.queries)) + moved(4 * owned);
    const bool measures_norm = config_.step.exact_norm || drops_;
    if (agreement == Agreement::Gradient && world_ == 1) out += moved(4 * owned);
    if (agreement == Agreement::Instruction) out += drawn + (config_.step.instruct.energy ? 2 * moved(4 * owned) : 0);
    if (agreement == Agreement::Estimate) return measures_norm ? out + drawn : 0;
    return out;
  }

  double update(const Action& a) const {
    const FlatGroup& g = layout_.group(a.group);
    const auto elements = static_cast<double>(a.end - a.begin);
    const bool on_host = updates_on_host(g, plan_) || (machine_.host_is_device && g.tier != Tier::Device);
    double out = static_cast<double>(a.bytes) / (on_host ? machine_.host_update_bytes_per_second : machine_.update_bytes_per_second);
    if (follows_estimate_) out += noise(elements * static_cast<double>(config_.step.queries));
    if (!on_host && g.tier != Tier::Device && a.slot < 0) {  // a GPU reads and writes memory of the host
      const double bytes = elements * static_cast<double>(size_of(g.type));
      out = std::max({out, crossed(true, bytes), crossed(false, bytes)});
    }
    if (on_host && g.tier == Tier::Device) {  // what is read comes, and what is changed goes, beside the updates
      const bool reads_values = g.type == DType::F32 || !has_masters(g, plan_.options);
      const bool reads_gradient = a.reads_gradient && keeps_gradients_whole(plan_.options);
      const auto value_bytes = static_cast<double>(size_of(g.type));
      out = std::max({out, crossed(false, elements * ((reads_values ? value_bytes : 0) + (reads_gradient ? 4 : 0))),
                      crossed(true, elements * value_bytes)});
    }
    return out;
  }

  const Config& config_;
  const ModelLayout& layout_;
  const ModelDefinition& model_;
  const StepLoads& loads_;
  const Plan& plan_;
  const Machine& machine_;
  const int world_;
  bool drops_ = false, follows_estimate_ = false;
  std::map<std::tuple<const StepLoads::Load*, int, int, bool>, UnitWork> unit_works_;
  std::map<std::pair<int, int64_t>, double> rates_;  // of products, by unit and rows
};

}  // namespace

std::vector<double> action_seconds(const Config& config, const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads,
                                   const Plan& plan, const Machine& machine) {
  ActionTimes times(config, layout, model, loads, plan, machine);
  std::vector<double> out;
  out.reserve(plan.actions.size());
  for (const Action& a : plan.actions) out.push_back(times.seconds(a));
  return out;
}

}  // namespace zerostep
