#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <span>

#include "base/nth.h"
#include "offload/flat_kernels.h"
#include "runtime/state/store.h"

namespace zerostep {

// The numbers that actions find where they compute, in fp64 on the device. The host reads all of them at once.
class ScalarBlock {
 public:
  using Part = ScalarPart;
  // In the store's buffer. What is passed must outlive the object.
  ScalarBlock(const Store& store, Device device, const FlatKernels& kernels, const ModelLayout& layout, int64_t query_sums);

  double* data(Part part) const { return reinterpret_cast<double*>(store_.view({BufferKind::Scalars})) + begin(part); }
  // The same memory, one-dimensional.
  at::Tensor tensor(Part part) const;
  // Enqueues zeros.
  void clear(const Stream& stream) { kernels_.zero(data(Part::BackpropLoss), DType::F64, begins_.back(), stream); }
  // Enqueues the copy to the host and blocks until it is there; rethrows what the stream's work threw.
  void read(Stream& stream);
  // As read last.
  std::span<const double> values(Part part) const { return {host_values_ + begin(part), static_cast<size_t>(count(part))}; }

 private:
  int64_t begin(Part part) const { return nth(begins_, part); }
  int64_t count(Part part) const { return nth(begins_, static_cast<int>(part) + 1) - begin(part); }
  int64_t num_bytes() const { return zerostep::num_bytes(begins_.back(), DType::F64); }

  const Store& store_;
  Device device_;
  const FlatKernels& kernels_;
  std::array<int64_t, 5> begins_;
  Arena host_memory_;
  double* host_values_;
};

}  // namespace zerostep
