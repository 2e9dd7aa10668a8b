#include "runtime/engine/gradient_reducer.h"

#include <ATen/ops/from_blob.h>

#include "base/nth.h"

namespace zerostep {

GradientReducer::GradientReducer(const ShardedState& state, UnitStreamer& streamer, const ScalarBlock& scalars, double message_factor,
                                 Lanes& lanes)
    : layout_(state.layout()),
      options_(state.plan().options),
      state_(state),
      streamer_(streamer),
      scalars_(scalars),
      message_factor_(static_cast<float>(message_factor)),
      lanes_(lanes) {}

float* GradientReducer::sums_at(int group, int slot) const { return state_.gradient_sums(group, slot); }

bool GradientReducer::overwrites(int unit, const FlatGroup& g, int parameter) const {
  if (g.unit == unit) return nth(layout_.unit(unit).parameters, parameter).overwritten_gradient;
  for (const BorrowedParameter& b : layout_.unit(unit).borrowed)
    if (b.unit == g.unit && b.parameter == parameter) return b.overwritten_gradient;
  return false;
}

void GradientReducer::bind(const std::vector<GradientUse>& uses, int unit) {
  // One flag serves the whole backward: it may overwrite only when nothing that it would overwrite holds earlier sums.
  bool overwrite = true;
  for (const GradientUse& use : uses) {
    const FlatGroup& g = layout_.group(use.group);
    for (int p : g.parameters) overwrite &= use.fresh || !overwrites(unit, g, p);
  }
  for (const GradientUse& use : uses) {
    streamer_.bind_gradient(use.group, sums_at(use.group, use.slot), overwrite);
    if (use.fresh) clear(use, unit, overwrite);
  }
}

void GradientReducer::clear(const GradientUse& use, int unit, bool overwrite) {
  const FlatGroup& g = layout_.group(use.group);
  float* gradient = sums_at(use.group, use.slot);
  const auto zero = [&](int64_t begin, int64_t count) { lanes_.kernels.zero(gradient + begin, DType::F32, count, lanes_.compute); };
  for (size_t i = 0; i < g.parameters.size() && options_.contiguous_gradients; ++i)
    if (!overwrite || !overwrites(unit, g, g.parameters[i])) zero(g.layout.offset(static_cast<int>(i)), g.layout.size(static_cast<int>(i)));
  if (use.slot >= 0)  // another group's gradients may lie there
    for (const FlatLayout::Range& gap : g.layout.padding()) zero(gap.begin, gap.count);
}

void GradientReducer::collect(const std::vector<GradientUse>& uses) {
  if (options_.contiguous_gradients) return;
  for (const GradientUse& use : uses) {
    const FlatLayout& layout = layout_.group(use.group).layout;
    for (int i = 0; i < layout.num_parameters(); ++i) {
      const at::Tensor gradient = streamer_.take_gradient(use.group, i);
      at::Tensor target = at::from_blob(sums_at(use.group, use.slot) + layout.offset(i), {layout.size(i)},
                                        at::TensorOptions().dtype(at::kFloat).device(at::Device(lanes_.device.name())));
      if (!gradient.defined()) {
        if (use.fresh) target.zero_();
      } else if (use.fresh) {
        target.copy_(gradient.reshape({-1}));
      } else {
        target.add_(gradient.reshape({-1}));
      }
    }
  }
}

Event GradientReducer::reduce(const Action& action) {
  const char* label = layout_.group(action.parts.front().group).name.c_str();
  return lanes_.communicate(std::string("reduce ") + label, [&] {
    if (is_16bit(options_.communication_type))
      reduce_16bit(action, label);
    else
      reduce_fp32(action, label);
    for (const CollectivePart& part : action.parts)
      if (action.final_reduction && part.slice_end == static_cast<int>(layout_.group(part.group).layout.slices().size()))
        square(part.group, lanes_.communication);
    return lanes_.communication.record();
  });
}

void GradientReducer::reduce_fp32(const Action& action, const char* label) {
  const bool all_reduce = all_reduces_gradients(options_);
  const int rank = lanes_.group.rank(), ranks = lanes_.group.size();
  std::vector<Segment> segments;
  for (const CollectivePart& part : action.parts) {
    const auto& slices = layout_.group(part.group).layout.slices();
    float* full = sums_at(part.group, part.slot);
    float* shard = state_.has_whole_gradients() ? nullptr : state_.gradients(part.group);
    for (int s = part.slice_begin; s < part.slice_end; ++s) {
      const FlatLayout::Slice& slice = nth(slices, s);
      float* source = full + slice.full_begin;
      if (all_reduce)
        segments.push_back({source, source, slice.per_rank * ranks});
      else
        segments.push_back({source, shard == nullptr ? source + rank * slice.per_rank : shard + slice.shard_begin, slice.per_rank});
    }
  }
  if (!all_reduce) {
    lanes_.group.reduce_scatter(segments, DType::F32, DType::F32, action.accumulate, lanes_.communication, label);
    return;
  }
  lanes_.group.all_reduce(segments, DType::F32, ReduceOp::Sum, lanes_.communication, label);
  if (!keeps_gradients_whole(options_)) add_own_part(action);
}

// reduce_scatter: false with sharded gradients: every rank has the whole sum in its slot and keeps its part.
void GradientReducer::add_own_part(const Action& action) {
  for (const CollectivePart& part : action.parts) {
    const float* full = sums_at(part.group, part.slot);
    for (int s = part.slice_begin; s < part.slice_end; ++s) {
      const FlatLayout::Slice& slice = layout_.group(part.group).layout.slice(s);
      const float* source = full + slice.full_begin + lanes_.group.rank() * slice.per_rank;
      float* target = state_.gradients(part.group) + slice.shard_begin;
      if (action.accumulate)
        lanes_.kernels.add(source, target, slice.per_rank, lanes_.communication);
      else
        lanes_.kernels.cast(source, DType::F32, target, DType::F32, slice.per_rank, lanes_.communication);
    }
  }
}

void GradientReducer::reduce_16bit(const Action& action, const char* label) {
  const DType type = options_.communication_type;
  const int rank = lanes_.group.rank(), ranks = lanes_.group.size();
  std::byte* message = state_.message();
  std::vector<Segment> sums, gathers;
  int64_t at = 0;
  for (const CollectivePart& part : action.parts) {
    const FlatGroup& g = layout_.group(part.group);
    float* full = sums_at(part.group, part.slot);
    const bool whole = state_.has_whole_gradients();
    const FlatLayout::Slice &first = g.layout.slice(part.slice_begin), &last = g.layout.slice(part.slice_end - 1);
    const int64_t begin = first.full_begin, count = last.full_begin + last.per_rank * ranks - begin;
    std::byte* target16 = message + num_bytes(at, type);
    if (message_factor_ != 1) lanes_.kernels.scale(message_factor_, full + begin, count, lanes_.communication);
    lanes_.kernels.cast(full + begin, DType::F32, target16, type, count, lanes_.communication);
    for (int s = part.slice_begin; s < part.slice_end; ++s) {
      const FlatLayout::Slice& slice = g.layout.slice(s);
      float* own = whole ? full + slice.full_begin + rank * slice.per_rank : state_.gradients(part.group) + slice.shard_begin;
      sums.push_back({target16 + num_bytes(slice.full_begin - begin, type), own, slice.per_rank});
      gathers.push_back({own, full + slice.full_begin, slice.per_rank});
    }
    at += round_up(count, kAlignmentBytes / 2);
  }
  lanes_.group.reduce_scatter(sums, type, DType::F32, action.accumulate, lanes_.communication, label);
  if (all_reduces_gradients(options_)) lanes_.group.all_gather(gathers, DType::F32, lanes_.communication, label);
}

void GradientReducer::square(int group, const Stream& stream) {
  double* sum = scalars_.data(ScalarBlock::Part::SquaredNorms) + group;
  lanes_.kernels.zero(sum, DType::F64, 1, stream);
  for (const ShardedState::Piece& piece : state_.owned(group))
    lanes_.kernels.add_squares(state_.gradients(group, piece), piece.count, sum, stream);
}

void GradientReducer::square_sums() {
  for (const FlatGroup& g : layout_.groups)
    if (g.trainable && lanes_.group.size() == 1 && keeps_gradients_whole(options_)) square(g.id, lanes_.compute);
}

Event GradientReducer::gather(int group, int slot) {
  const FlatGroup& g = layout_.group(group);
  float* full = sums_at(group, slot);
  std::vector<Segment> segments;
  for (const FlatLayout::Slice& s : g.layout.slices()) {
    float* target = full + s.full_begin;
    const float* own = state_.has_whole_gradients() ? target + lanes_.group.rank() * s.per_rank : state_.gradients(group) + s.shard_begin;
    segments.push_back({own, target, s.per_rank});
  }
  return lanes_.communicate("gather gradient " + g.name,
                            [&] { return lanes_.group.all_gather(segments, DType::F32, lanes_.communication, g.name.c_str()); });
}

}  // namespace zerostep
