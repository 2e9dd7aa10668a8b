#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <span>

#include "runtime/state/store.h"

namespace zerostep {

// The numbers that actions find where they compute, in fp64 on the device. The host reads all of them at once.
class ScalarBlock {
 public:
  enum class Part : uint8_t {
    BackpropLoss,    // sum of the objective over this rank's micro-batches
    EvaluationLoss,  // ... over its batches that count
    SquaredNorms,    // of each group's reduced gradients, this rank's part
    QuerySums,       // ZerothOrder::Sums of each direction
  };
  // In the store's buffer. What is passed must outlive the object.
  ScalarBlock(const Store& store, Device device, int64_t num_groups, int64_t num_queries);

  double* data(Part part) const { return reinterpret_cast<double*>(store_.view({BufferKind::Scalars})) + begin(part); }
  // The same memory, one-dimensional.
  at::Tensor tensor(Part part) const;
  // Enqueues zeros.
  void clear(Stream& stream);
  // Enqueues the copy to the host and blocks until it is there; rethrows what the stream's work threw.
  void read(Stream& stream);
  // As read last.
  std::span<const double> values(Part part) const { return {host_values_ + begin(part), static_cast<size_t>(count(part))}; }

 private:
  int64_t begin(Part part) const { return begins_[static_cast<size_t>(part)]; }
  int64_t count(Part part) const { return begins_[static_cast<size_t>(part) + 1] - begin(part); }
  int64_t num_bytes() const { return begins_.back() * static_cast<int64_t>(sizeof(double)); }

  const Store& store_;
  Device device_;
  std::array<int64_t, 5> begins_;
  Arena host_memory_;
  double* host_values_;
};

}  // namespace zerostep
