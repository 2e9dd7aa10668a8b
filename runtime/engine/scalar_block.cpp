#include "runtime/engine/scalar_block.h"

#include <ATen/ops/from_blob.h>

#include "base/error.h"

namespace zerostep {

ScalarBlock::ScalarBlock(const Store& store, Device device, int64_t num_groups, int64_t num_queries)
    : store_(store),
      device_(std::move(device)),
      begins_{0, 1, 2, 2 + num_groups, 2 + num_groups + 3 * num_queries},
      host_memory_(device_.memory("scalars on the host", round_up(num_bytes(), kAlignmentBytes), MemoryKind::PinnedHost)),
      host_values_(static_cast<double*>(host_memory_.allocate(num_bytes(), "scalars"))) {
  if (store_.bytes({BufferKind::Scalars}) < num_bytes())
    fail_protocol("[scalars] {} bytes are needed, {} were planned", num_bytes(), store_.bytes({BufferKind::Scalars}));
}

at::Tensor ScalarBlock::tensor(Part part) const {
  return at::from_blob(data(part), {count(part)}, at::TensorOptions().dtype(at::kDouble).device(at::Device(device_.name())));
}

void ScalarBlock::clear(Stream& stream) { device_.fill(stream, data(Part::BackpropLoss), 0, num_bytes()); }

void ScalarBlock::read(Stream& stream) {
  device_.copy(stream, host_values_, data(Part::BackpropLoss), num_bytes());
  stream.synchronize();
}

}  // namespace zerostep
