#include "runtime/engine/unit_streamer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <utility>

#include "base/error.h"
#include "base/nth.h"
#include "models/parameter_gradient.h"
#include "models/scalar_type.h"

namespace zerostep {
namespace {

// A flat tensor of a device whose storage owns nothing and points nowhere yet.
at::Tensor empty_flat(DType type, int64_t elements, at::Device device) {
  const auto options = at::TensorOptions().dtype(scalar_type(type)).device(device);
  c10::Storage storage(c10::Storage::use_byte_size_t(), static_cast<size_t>(num_bytes(elements, type)), at::DataPtr(nullptr, device),
                       nullptr, false);
  at::Tensor flat = at::empty({0}, options);
  flat.set_(std::move(storage), 0, {elements}, {1});
  return flat;
}

}  // namespace

UnitStreamer::UnitStreamer(const ModelDefinition& model, const ShardedState& state, Lanes& lanes)
    : layout_(state.layout()), state_(state), lanes_(lanes) {
  const PlanOptions& options = state.plan().options;
  const at::Device device(lanes.device.name());
  const at::NoGradGuard no_grad;
  for (const FlatGroup& g : layout_.groups) {
    GroupTensors tensors;
    tensors.flat = empty_flat(g.compute_type, g.full_elements(), device);
    const bool has_gradient = g.trainable && state.plan().has_backward;
    if (has_gradient) tensors.flat_gradient = empty_flat(DType::F32, g.full_elements(), device);
    for (size_t i = 0; i < g.parameters.size(); ++i) {
      const ParameterInfo& info = layout_.parameter(g, static_cast<int>(i));
      const int64_t offset = g.layout.offset(static_cast<int>(i)), n = info.num_elements();
      // variable_data(): a version counter of its own, so that a gather does not trip autograd while a real edit does.
      at::Tensor parameter = tensors.flat.narrow(0, offset, n).view(info.shape).variable_data();
      if (has_gradient) {
        parameter.requires_grad_(true);
        if (options.contiguous_gradients) parameter.mutable_grad() = tensors.flat_gradient.narrow(0, offset, n).view(info.shape);
      }
      tensors.parameters.push_back(std::move(parameter));
    }
    groups_.push_back(std::move(tensors));
  }
  // What a unit keeps on a GPU lies among the compute stream's tensors: LibTorch takes pieces of memory for each stream.
  if (lanes_.device.is_host())
    make_units(model);
  else
    lanes_.compute.launch([&] { make_units(model); });  // at once
}

void UnitStreamer::make_units(const ModelDefinition& model) {
  for (size_t u = 0; u < layout_.units.size(); ++u) {
    std::vector<at::Tensor> parameters;
    for (size_t p = 0; p < layout_.units[u].parameters.size(); ++p)
      parameters.push_back(parameter(static_cast<int>(u), static_cast<int>(p)));
    for (const BorrowedParameter& b : layout_.units[u].borrowed) parameters.push_back(parameter(b.unit, b.parameter));
    units_.push_back(model.make_unit(static_cast<int>(u), std::move(parameters)));
  }
}

const at::Tensor& UnitStreamer::parameter(int unit, int index) const {
  const ModelLayout::Place place = layout_.place(unit, index);
  return nth(nth(groups_, place.group).parameters, place.index);
}

void UnitStreamer::point(const at::Tensor& flat, void* data) const {
  flat.storage().unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(data, flat.device()));
}

std::vector<UnitStreamer::ShardSlice> UnitStreamer::shard_slices(int group, int slot) const {
  const FlatGroup& g = layout_.group(group);
  std::byte* whole = state_.parameter_slot(group, slot);
  std::byte* shard = state_.parameters(group);
  std::vector<ShardSlice> out;
  for (const FlatLayout::Slice& s : g.layout.slices())
    out.push_back(
        {shard + num_bytes(s.shard_begin, g.type), whole + num_bytes(s.full_begin + lanes_.group.rank() * s.per_rank, g.type), s.per_rank});
  return out;
}

Event UnitStreamer::gather(int group, int slot, bool has_shard) {
  const FlatGroup& g = layout_.group(group);
  std::vector<Segment> segments;
  for (const ShardSlice& s : shard_slices(group, slot))
    segments.push_back({has_shard ? s.in_slot : s.at_rest, s.in_slot - num_bytes(lanes_.group.rank() * s.count, g.type), s.count});
  return lanes_.communicate("gather " + g.name,
                            [&] { return lanes_.group.all_gather(segments, g.type, lanes_.communication, g.name.c_str()); });
}

Event UnitStreamer::bring_shard(int group, int slot, Stream& stream) {
  for (const ShardSlice& s : shard_slices(group, slot))
    lanes_.device.copy(stream, s.in_slot, s.at_rest, num_bytes(s.count, layout_.group(group).type));
  return stream.record();
}

Event UnitStreamer::return_shard(int group, int slot, Stream& stream) {
  for (const ShardSlice& s : shard_slices(group, slot))
    lanes_.device.copy(stream, s.at_rest, s.in_slot, num_bytes(s.count, layout_.group(group).type));
  return stream.record();
}

Event UnitStreamer::gather_updated(const std::vector<CollectivePart>& parts, bool all_gather) {
  const DType type = layout_.group(parts.front().group).type;
  const char* label = layout_.group(parts.front().group).name.c_str();
  const int rank = lanes_.group.rank(), ranks = lanes_.group.size();
  const auto segments_of = [&](int root) {
    std::vector<Segment> segments;
    for (const CollectivePart& part : parts) {
      const auto& slices = layout_.group(part.group).layout.slices();
      std::byte* whole = state_.parameters(part.group);
      for (int s = part.slice_begin; s < part.slice_end; ++s) {
        const FlatLayout::Slice& slice = nth(slices, s);
        std::byte* target = whole + num_bytes(slice.full_begin, type);
        std::byte* own = target + num_bytes((root < 0 ? rank : root) * slice.per_rank, type);
        segments.push_back({own, root < 0 ? target : own, slice.per_rank});
      }
    }
    return segments;
  };
  return lanes_.communicate(std::string("gather updated ") + label, [&] {
    if (all_gather) return lanes_.group.all_gather(segments_of(-1), type, lanes_.communication, label);
    Event last;
    for (int root = 0; root < ranks; ++root) last = lanes_.group.broadcast(segments_of(root), type, root, lanes_.communication, label);
    return last;
  });
}

void UnitStreamer::bind_gradient(int group, float* target, bool fresh) {
  point(nth(groups_, group).flat_gradient, target);
  mark_gradients(nth(groups_, group).parameters, fresh);
}

at::Tensor UnitStreamer::take_gradient(int group, int index) {
  at::Tensor& grad = nth(nth(groups_, group).parameters, index).mutable_grad();
  return std::exchange(grad, at::Tensor());
}

}  // namespace zerostep
