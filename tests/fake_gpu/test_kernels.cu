#include "base/cuda/launch.cuh"
#include "fake_gpu/test_kernels.h"

namespace fake_gpu {
namespace {

struct ScaleAndNumber {
  float* values;
  int64_t count;
  float factor;
  __host__ __device__ void operator()(zerostep::cuda::ThreadIndex index) const {
    for (auto i = static_cast<int64_t>(index.thread); i < count; i += static_cast<int64_t>(index.num_threads))
      values[i] = factor * values[i] + static_cast<float>(i);
  }
};

__global__ void set_to_one(float* value) { *value = 1; }

}  // namespace

cudaError_t scale_and_number(cudaStream_t stream, float* values, int64_t count, float factor, unsigned num_blocks) {
  return zerostep::cuda::launch(stream, num_blocks, ScaleAndNumber{values, count, factor});
}

cudaError_t launch_without_body(cudaStream_t stream, float* value) {
  set_to_one<<<1, 1, 0, stream>>>(value);
  return cudaGetLastError();
}

}  // namespace fake_gpu
