#include "runtime/engine/scalar_block.h"

#include <ATen/ops/from_blob.h>

#include "base/error.h"

namespace zerostep {

ScalarBlock::ScalarBlock(const Store& store, Device device, const FlatKernels& kernels, const ModelLayout& layout, int64_t query_sums)
    : store_(store),
      device_(std::move(device)),
      kernels_(kernels),
      begins_(scalar_begins(layout, query_sums)),
      host_memory_(device_.memory("scalars on the host", round_up(num_bytes(), kAlignmentBytes), MemoryKind::PinnedHost)),
      host_values_(static_cast<double*>(host_memory_.allocate(num_bytes(), "scalars"))) {
  if (store_.bytes({BufferKind::Scalars}) < num_bytes())
    fail_protocol("[scalars] {} bytes are needed, {} were planned", num_bytes(), store_.bytes({BufferKind::Scalars}));
}

at::Tensor ScalarBlock::tensor(Part part) const {
  return at::from_blob(data(part), {count(part)}, at::TensorOptions().dtype(at::kDouble).device(at::Device(device_.name())));
}

void ScalarBlock::read(Stream& stream) {
  device_.copy(stream, host_values_, data(Part::BackpropLoss), num_bytes());
  stream.synchronize();
}

}  // namespace zerostep
