// What the kernels' bits rest on, for a machine on which the program does not start: noise as base/noise_math.h defines it, computed by the
// GPU and by the host, compared bit by bit. Built where it runs (launch/gpu_check.sh does so):
//   nvcc -std=c++20 -fmad=false -I. -o kernel_check launch/kernel_check.cu && ./kernel_check
// Exit status 0: all bits are equal; 1: some are not, or CUDA refuses.
#include <cstdio>
#include <vector>

#include "base/noise_math.h"

namespace {

using zerostep::NoiseKey;
using zerostep::NoiseTag;

constexpr uint64_t kElements = uint64_t{1} << 22;
constexpr int kKinds = 3;  // normals, signs, bits

ZEROSTEP_HOST_DEVICE uint32_t bits_of_noise(const NoiseKey& key, int kind, uint64_t element) {
  if (kind == 0) return zerostep::bits_of_float(zerostep::noise_normal(key, element));
  if (kind == 1) return zerostep::bits_of_float(zerostep::noise_rademacher(key, element));
  return zerostep::noise_bits(key, element);
}

__global__ void draw(NoiseKey key, int kind, uint64_t first, uint64_t count, uint32_t* out) {
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < count; i += uint64_t{gridDim.x} * blockDim.x)
    out[i] = bits_of_noise(key, kind, first + i);
}

bool is_refused(cudaError_t error, const char* what) {
  if (error != cudaSuccess) std::printf("%s: %s\n", what, cudaGetErrorString(error));
  return error != cudaSuccess;
}

}  // namespace

int main() {
  uint32_t* device = nullptr;
  if (is_refused(cudaMalloc(&device, kElements * sizeof(uint32_t)), "cudaMalloc")) return 1;
  std::vector<uint32_t> found(kElements);
  const NoiseKey keys[] = {{1, NoiseTag::Direction, 0, 0}, {0x123456789ABCDEF0u, NoiseTag::Dropout, 77, 5}};
  const char* const names[kKinds] = {"normals", "signs", "bits"};
  uint64_t wrong = 0;
  for (const NoiseKey& key : keys)
    for (int kind = 0; kind < kKinds; ++kind) {
      const uint64_t first = 12345;
      if (is_refused(cudaMemset(device, 0xFF, kElements * sizeof(uint32_t)), "cudaMemset")) return 1;
      draw<<<1024, 256>>>(key, kind, first, kElements, device);
      if (is_refused(cudaGetLastError(), "launch")) return 1;
      if (is_refused(cudaMemcpy(found.data(), device, kElements * sizeof(uint32_t), cudaMemcpyDeviceToHost), "cudaMemcpy")) return 1;
      uint64_t different = 0;
      for (uint64_t i = 0; i < kElements; ++i) different += found[i] != bits_of_noise(key, kind, first + i) ? 1 : 0;
      std::printf("%s of seed %llx: %llu of %llu differ\n", names[kind], static_cast<unsigned long long>(key.seed),
                  static_cast<unsigned long long>(different), static_cast<unsigned long long>(kElements));
      wrong += different;
    }
  cudaFree(device);
  return wrong == 0 ? 0 : 1;
}
