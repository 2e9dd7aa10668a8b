#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

// Kernels that the tests launch on the fake GPU.
namespace fake_gpu {

// Each element becomes factor * element + index, on `num_blocks` blocks.
cudaError_t scale_and_number(cudaStream_t stream, float* values, int64_t count, float factor, unsigned num_blocks);
// Launches a kernel that no host body stands in for.
cudaError_t launch_without_body(cudaStream_t stream, float* value);

}  // namespace fake_gpu
