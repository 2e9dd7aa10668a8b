#include <map>
#include <set>

#include "base/dtype.h"
#include "base/error.h"
#include "base/nth.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/state_chunks.h"

// On which lane each action of a plan runs, and what it reads and writes.

namespace zerostep {
namespace {

class Uses {
 public:
  Uses(const ModelLayout& layout, const Plan& plan) : layout_(layout), plan_(plan) {
    for (const Visit& visit : plan.visits)
      if (visit.keep_input) kept_.insert(visit.unit);
    for (const PlannedBuffer& b : plan.buffers)
      if (b.staging_ring >= 0) staged_[{b.id.kind, b.id.index}] = &b;
    for (const Action& a : plan.actions) is_instructed_ |= a.kind == ActionKind::Agree && a.agreement == Agreement::Instruction;
    for (const Action& a : plan.actions)
      if (a.final_reduction)
        for (const CollectivePart& part : a.parts) reduced_.insert(part.group);
      else
        for (const GradientUse& use : a.gradients) summed_.insert(use.group);
  }

  std::vector<BufferUse> uses_of(const Action& a) {
    out_.clear();
    switch (a.kind) {
      case ActionKind::Begin:
      case ActionKind::End:
        break;
      case ActionKind::Gather:
        if (a.has_shard) {
          change(parameter_slot(a.group, a.slot), a.group);
        } else {
          read({BufferKind::Parameters, a.group});
          write(parameter_slot(a.group, a.slot), a.group);
        }
        communicate();
        break;
      case ActionKind::BringShard:
        read({BufferKind::Parameters, a.group});
        write(parameter_slot(a.group, a.slot), a.group);
        break;
      case ActionKind::ReturnShard:
        read(parameter_slot(a.group, a.slot), a.group);
        write({BufferKind::Parameters, a.group});
        break;
      case ActionKind::Release:
        write(parameter_slot(a.group, a.slot), -1);
        break;
      case ActionKind::GatherGradient:
        if (a.slot < 0) {
          change({BufferKind::Gradients, a.group});
        } else {
          read({BufferKind::Gradients, a.group});
          write(gradient_slot(a.group, a.slot), a.group);
        }
        communicate();
        break;
      case ActionKind::Visit:
        visit(a);
        break;
      case ActionKind::Reduce:
        reduce(a);
        break;
      case ActionKind::Agree:
        agree(a.agreement);
        break;
      case ActionKind::GatherMatrices:
        for (const int g : groups_of_matrices(a)) read({BufferKind::Gradients, g});
        write({BufferKind::WholeMatrices, kMatrixWork});
        communicate();
        break;
      case ActionKind::MakeMatrixUpdates:
        make_matrix_updates(a);
        break;
      case ActionKind::ScatterMatrixUpdates:
        read({BufferKind::WholeMatrices, kMatrixWork});
        write({BufferKind::WholeMatrices, kMatrixResults});
        communicate();
        break;
      case ActionKind::ApplyMatrixUpdates:
        read({BufferKind::Scalars});
        read({BufferKind::WholeMatrices, kMatrixWork});
        if (layout_.options.shard_ranks > 1) read({BufferKind::WholeMatrices, kMatrixResults});
        for (const int g : groups_of_matrices(a)) update(a, g, 0);
        break;
      case ActionKind::Update:
        read({BufferKind::Scalars});
        update(a, a.group, a.begin);
        break;
      case ActionKind::GatherUpdated:
        for (const CollectivePart& part : a.parts) change({BufferKind::Parameters, part.group});
        communicate();
        break;
      case ActionKind::Load:
        if (a.chunk.kind == BufferKind::Checkpoint) {
          read(a.chunk);
          use_checkpoint_slot(a.chunk.index, false);
          break;
        }
        out_.push_back({a.chunk, true, false});
        write(a.chunk);
        break;
      case ActionKind::Store:
        if (a.chunk.kind == BufferKind::Checkpoint) {
          read({BufferKind::Activation, a.chunk.index});
          write(a.chunk);
          break;
        }
        read(a.chunk);
        out_.push_back({a.chunk, false, true});
        break;
      case ActionKind::Drop:
        write(a.chunk);
        break;
    }
    return std::move(out_);
  }

 private:
  const FlatGroup& group(int g) const { return layout_.group(g); }
  Buffer parameter_slot(int g, int slot) const { return {BufferKind::ParameterSlot, nth(plan_.parameter_ring_of, g), slot}; }
  Buffer gradient_slot(int g, int slot) const {
    return slot < 0 ? Buffer{BufferKind::Gradients, g} : Buffer{BufferKind::GradientSlot, nth(plan_.gradient_ring_of, g), slot};
  }
  void use_checkpoint_slot(int unit, bool reads) {
    out_.push_back({{BufferKind::CheckpointSlot, 0, checkpoint_slot(plan_.options, unit)}, reads, !reads, -1, unit});
  }
  void add(const Buffer& chunk, bool reads, bool writes, int group_inside) {
    Buffer buffer = chunk;
    if (const auto staged = staged_.find({chunk.kind, chunk.index}); staged != staged_.end()) {
      const PlannedBuffer& b = *staged->second;
      group_inside = chunk.index;
      buffer = {BufferKind::StagingSlot, b.staging_ring, (b.first_slot + chunk.chunk) % nth(plan_.staging_rings, b.staging_ring).num_slots};
    }
    for (BufferUse& use : out_)
      if (use.buffer == buffer) {
        if (buffer.kind == BufferKind::StagingSlot && (use.group != group_inside || use.chunk != chunk.chunk))
          fail_protocol("[plan] an action uses two chunks of {} in one slot", nth(plan_.staging_rings, buffer.index).name);
        use.reads |= reads && !use.writes;  // of what this action has written itself
        use.writes |= writes;
        return;
      }
    out_.push_back({buffer, reads, writes, group_inside, buffer.kind == BufferKind::StagingSlot ? chunk.chunk : 0});
  }
  void read(const Buffer& buffer, int group_inside = -1) { add(buffer, true, false, group_inside); }
  void write(const Buffer& buffer, int group_inside = -1) { add(buffer, false, true, group_inside); }
  void change(const Buffer& buffer, int group_inside = -1) { add(buffer, true, true, group_inside); }
  // Beside other collectives, whose order is that of the communicator's stream, and not beside scalars.
  void communicate() { read({BufferKind::Communicator}); }

  void visit(const Action& a) {
    const Visit& visit = plan_.visit(a.visit);
    for (const GroupSlot& p : a.parameters)
      read(p.slot < 0 ? Buffer{BufferKind::Parameters, p.group} : parameter_slot(p.group, p.slot), p.group);
    for (const GroupSlot& g : a.summed_gradients) read(gradient_slot(g.group, g.slot), g.group);
    for (const GradientUse& use : a.gradients) add(gradient_slot(use.group, use.slot), !use.fresh, true, use.group);
    if (visit.weight_copies > 0) write({BufferKind::WeightCopies});
    activation(visit);
    if (visit.unit + 1 == static_cast<int>(layout_.units.size()) && visit.kind != VisitKind::Backward) change({BufferKind::Scalars});
  }

  void activation(const Visit& visit) {
    const Buffer input{BufferKind::Activation, visit.unit};
    const bool begins_segment = visit.kind == VisitKind::Recompute && kept_.contains(visit.unit);
    const bool is_loaded = checkpoint_slot(plan_.options, visit.unit) >= 0;
    if (visit.kind == VisitKind::Backward || (begins_segment && !is_loaded)) read(input);
    if (is_loaded && (visit.kind == VisitKind::Backward || begins_segment)) use_checkpoint_slot(visit.unit, true);
    if (visit.kind == VisitKind::Forward || visit.kind == VisitKind::Recompute || visit.keep_input) write(input);
  }

  void reduce(const Action& a) {
    const bool sixteen_bit = is_16bit(plan_.options.communication_type);
    for (const CollectivePart& part : a.parts) {
      // Sums that arrive in their source's place, or that are multiplied there before they travel.
      const bool is_in_place = part.slot < 0 || sixteen_bit || all_reduces_gradients(plan_.options) || !plan_.options.reduce_scatter;
      add(gradient_slot(part.group, part.slot), true, is_in_place, part.group);
      if (part.slot >= 0) add({BufferKind::Gradients, part.group}, a.accumulate, true, -1);
      if (a.final_reduction) write({BufferKind::SquaredNorm, part.group});
    }
    if (sixteen_bit) write({BufferKind::Message});
    if (plan_.rank_values_bytes > 0) write({BufferKind::RankValues});
    communicate();
  }

  void agree(Agreement agreement) {
    const bool sums_gradient = agreement == Agreement::Gradient;
    // A single rank's sums need no reduction: their norm is taken here. Products with directions that are made of the gradient are taken
    // beside the norm, and the other agreements read the gradients themselves, if there are any.
    for (const int g : summed_) {
      const bool has_norm = sums_gradient && reduced_.contains(g);
      if (has_norm) read({BufferKind::SquaredNorm, g});
      if (!has_norm || is_instructed_) read({BufferKind::Gradients, g});
    }
    change({BufferKind::Scalars});
    change({BufferKind::Communicator});
  }

  // This rank's part of a group's parameters, `first` on.
  void update(const Action& a, int g, int64_t first) {
    const StateChunks chunks = state_chunks(group(g), plan_);
    if (a.reads_gradient) {
      read({BufferKind::Gradients, g});
      const bool is_last = plan_.updates_in_backward && a.end == chunks.part;
      for (BufferUse& use : out_) use.is_last |= is_last && use.buffer.kind == BufferKind::StagingSlot;
    }
    if (chunks.count > 0) change({BufferKind::UpdateState, g, chunks.chunk_of(first)});
    if (updates_copies(group(g), plan_)) write({BufferKind::HostOperands});
    if (a.slot >= 0)
      change(parameter_slot(g, a.slot), g);
    else
      change({BufferKind::Parameters, g});
  }

  std::set<int> groups_of_matrices(const Action& a) const {
    std::set<int> out;
    for (const int index : plan_.matrices.parameters_in(a.round, a.wave)) out.insert(nth(plan_.matrices.parameters, index).group);
    return out;
  }

  void make_matrix_updates(const Action& a) {
    read({BufferKind::Scalars});
    if (a.reads_gradient && updates_whole(plan_.options))
      for (const int g : groups_of_matrices(a)) read({BufferKind::Gradients, g});
    add({BufferKind::WholeMatrices, kMatrixWork}, a.reads_gradient && !updates_whole(plan_.options), true, -1);
    write({BufferKind::WholeMatrices, kMatrixScratch});
    change({BufferKind::MatrixState});
  }

  const ModelLayout& layout_;
  const Plan& plan_;
  std::set<int> summed_, reduced_;                                     // groups
  bool is_instructed_ = false;                                         // directions are made of the gradient
  std::set<int> kept_;                                                 // units whose input waits for their recomputation
  std::map<std::pair<BufferKind, int>, const PlannedBuffer*> staged_;  // what rests in files, by kind and index
  std::vector<BufferUse> out_;
};

Lane lane_of(const ModelLayout& layout, const Plan& plan, const Action& a) {
  switch (a.kind) {
    case ActionKind::Gather:
    case ActionKind::GatherGradient:
    case ActionKind::GatherMatrices:
    case ActionKind::ScatterMatrixUpdates:
    case ActionKind::GatherUpdated:
      return Lane::Gather;
    case ActionKind::Reduce:
      return Lane::Reduce;
    case ActionKind::BringShard:
      return Lane::HostToDevice;
    case ActionKind::ReturnShard:
      return Lane::DeviceToHost;
    case ActionKind::Load:
      if (a.chunk.kind == BufferKind::Checkpoint) return Lane::HostToDevice;
      return Lane::FileRead;
    case ActionKind::Store:
      if (a.chunk.kind == BufferKind::Checkpoint) return Lane::DeviceToHost;
      return plan.options.stores_aside || a.chunk.kind == BufferKind::Parameters ? Lane::FileWrite : Lane::FileRead;
    case ActionKind::Update:
      if (a.slot >= 0) return Lane::Gather;  // beside the visits of units before
      return updates_on_host(layout.group(a.group), plan) ? Lane::HostCompute : Lane::Compute;
    default:
      return Lane::Compute;
  }
}

}  // namespace

bool reads_parameters(const ModelLayout& layout, const Visit& visit) {
  return visit.kind != VisitKind::Backward || layout.unit(visit.unit).backward_needs_parameters;
}

void find_uses(const ModelLayout& layout, Plan& plan) {
  Uses uses(layout, plan);
  for (Action& a : plan.actions) {
    a.lane = lane_of(layout, plan, a);
    a.uses = uses.uses_of(a);
  }
}

}  // namespace zerostep
