#include "offload/newton_schulz.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/device.h"
#include "fake_gpu/fake_gpu.h"
#include "offload/flat_kernels.h"

namespace fake_gpu {
namespace {

using namespace zerostep;

// LibTorch's products are those of the processor here; the norm is summed in another order.
TEST(NewtonSchulzOnFakeGpu, IsThatOfTheProcessor) {
  const Device gpu = Device::cuda(0);
  Stream stream = gpu.stream("kernels");
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{7, 7}, {5, 33}, {41, 6}, {1, 9}, {64, 48}}) {
    const int64_t count = rows * columns, scratch_count = newton_schulz_scratch(rows, columns);
    Arena memory = gpu.memory("memory", 4 * (count + scratch_count) + 128),
          pinned = gpu.memory("pinned", 4 * count + 64, MemoryKind::PinnedHost);
    auto* const matrix = static_cast<float*>(memory.allocate(4 * count, "matrix"));
    auto* const scratch = static_cast<float*>(memory.allocate(4 * scratch_count, "scratch"));
    auto* const found = static_cast<float*>(pinned.allocate(4 * count, "found"));
    at::Tensor expected = at::randn({rows, columns});
    std::memcpy(found, expected.data_ptr<float>(), static_cast<size_t>(4 * count));
    const int64_t pageable = num_pageable_copies();
    gpu.copy(stream, matrix, found, 4 * count);
    kernels_of(gpu).newton_schulz(matrix, rows, columns, scratch, stream);
    gpu.copy(stream, found, matrix, 4 * count);
    EXPECT_EQ(num_pageable_copies(), pageable);
    stream.synchronize();
    std::vector<float> host_scratch(static_cast<size_t>(scratch_count));
    newton_schulz(expected.data_ptr<float>(), rows, columns, host_scratch.data());
    EXPECT_TRUE(at::allclose(at::from_blob(found, {rows, columns}), expected, 1e-5, 1e-6)) << rows << " x " << columns;
  }
}

}  // namespace
}  // namespace fake_gpu
