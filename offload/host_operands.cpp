#include "offload/host_operands.h"

#include <algorithm>
#include <utility>

#include "base/dtype.h"
#include "offload/flat_kernels.h"

namespace zerostep {
namespace {

PieceUpdate part_of(const PieceUpdate& whole, int64_t begin, int64_t count) {
  PieceUpdate part = whole;
  part.piece.begin += begin;
  part.piece.count = count;
  if (part.masters != nullptr) part.masters += begin;
  if (part.parameters != nullptr) part.parameters = static_cast<std::byte*>(part.parameters) + num_bytes(begin, part.type);
  for (float*& state : part.states)
    if (state != nullptr) state += begin;
  if (part.gradient.reduced != nullptr) part.gradient.reduced += begin;
  return part;
}

}  // namespace

HostOperands::HostOperands(const Device& device, std::span<std::byte> memory)
    : device_(device),
      to_host_(device.stream("operands of the host")),
      to_device_(device.stream("results of the host")),
      elements_(static_cast<int64_t>(memory.size()) / (kSlots * kBytesOfElement)) {
  std::byte* at = memory.data();
  for (Slot& slot : slots_) {
    slot.values = std::exchange(at, at + num_bytes(elements_, DType::F32));
    slot.gradient = reinterpret_cast<float*>(std::exchange(at, at + num_bytes(elements_, DType::F32)));
  }
}

void HostOperands::update(const PieceUpdate& given, const OptimizerFormula& formula, const Stream& stream) {
  for (int64_t begin = 0; begin < given.piece.count; begin += elements_) {
    Part part = copy_to_host(part_of(given, begin, std::min(elements_, given.piece.count - begin)), formula);
    update_waiting(stream);
    waiting_ = std::move(part);
  }
}

void HostOperands::finish(const Stream& stream) {
  update_waiting(stream);
  for (const Slot& slot : slots_) slot.is_free.wait();
}

HostOperands::Part HostOperands::copy_to_host(const PieceUpdate& part, const OptimizerFormula& formula) {
  Slot& slot = slots_[std::exchange(next_slot_, (next_slot_ + 1) % kSlots)];
  Part out{part, part, formula, &slot, {}};
  const auto copy = [&](void* to, const void* from, DType type) {
    to_host_.wait(slot.is_free);
    out.has_come = device_.copy(to_host_, to, from, num_bytes(part.piece.count, type));
  };
  if (part.masters != nullptr && device_.holds(part.masters)) {
    out.here.masters = reinterpret_cast<float*>(slot.values);
    copy(slot.values, part.masters, DType::F32);
  }
  if (part.parameters != nullptr && device_.holds(part.parameters)) {
    out.here.parameters = slot.values;
    if (part.masters == nullptr) copy(slot.values, part.parameters, part.type);  // else they are only written
  }
  if (part.gradient.reduced != nullptr && device_.holds(part.gradient.reduced)) {
    out.here.gradient.reduced = slot.gradient;
    copy(slot.gradient, part.gradient.reduced, DType::F32);
  }
  return out;
}

void HostOperands::update_waiting(const Stream& stream) {
  if (!waiting_) return;
  const Part part = *std::exchange(waiting_, std::nullopt);
  part.slot->is_free.wait();
  part.has_come.wait();
  host_kernels().update(part.here, part.formula, stream);
  const auto copy_back = [&](void* to, const void* from, DType type) {
    if (to != from) part.slot->is_free = device_.copy(to_device_, to, from, num_bytes(part.there.piece.count, type));
  };
  copy_back(part.there.masters, part.here.masters, DType::F32);
  copy_back(part.there.parameters, part.here.parameters, part.there.type);
}

}  // namespace zerostep
