// What the kernels' bits rest on, for a machine on which the program does not start: noise as base/noise_math.h defines it, exponentials,
// and sums that the lanes of a row share (base/cuda/rows.cuh), computed by the GPU and by the host, compared bit by bit. Built where it
// runs (launch/gpu_check.sh does so):
//   nvcc -std=c++20 -fmad=false -I. -o kernel_check launch/kernel_check.cu && ./kernel_check
// Exit status 0: all bits are equal; 1: some are not, or CUDA refuses.
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/cuda/row_vectors.cuh"
#include "base/cuda/rows.cuh"
#include "base/exponential.h"
#include "base/noise_math.h"

namespace {

using zerostep::NoiseKey;
using zerostep::NoiseTag;

constexpr uint64_t kElements = uint64_t{1} << 22;
constexpr int kKinds = 4;  // normals, signs, bits, exponentials of normals

ZEROSTEP_HOST_DEVICE uint32_t bits_of_noise(const NoiseKey& key, int kind, uint64_t element) {
  if (kind == 0) return zerostep::bits_of_float(zerostep::noise_normal(key, element));
  if (kind == 1) return zerostep::bits_of_float(zerostep::noise_rademacher(key, element));
  if (kind == 2) return zerostep::noise_bits(key, element);
  return zerostep::bits_of_float(zerostep::exponential(20 * zerostep::noise_normal(key, element)));
}

__global__ void draw(NoiseKey key, int kind, uint64_t first, uint64_t count, uint32_t* out) {
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < count; i += uint64_t{gridDim.x} * blockDim.x)
    out[i] = bits_of_noise(key, kind, first + i);
}

// Sums of rows of normals, by warps and by blocks, some rows one after the other.
template <unsigned kLanesOfRow>
struct SumRows {
  static constexpr unsigned kLanes = kLanesOfRow;
  static constexpr int64_t kRowsTogether = 3;
  struct Sums {
    float sum, squares;
  };
  NoiseKey key;
  int64_t width;
  float* out;

  ZEROSTEP_HOST_DEVICE Sums sums(int64_t row, unsigned lane) const {
    Sums all{0, 0};
    zerostep::cuda::for_vectors<kLanes>(width, lane, [&](int64_t j) {
      for (int64_t n = j; n < j + 8 && n < width; ++n) {
        const float x = zerostep::noise_normal(key, static_cast<uint64_t>(row * width + n));
        all = {zerostep::ieee_add(all.sum, x), zerostep::ieee_fma(x, x, all.squares)};
      }
    });
    return all;
  }
  ZEROSTEP_HOST_DEVICE static void add(Sums& sums, const Sums& others) {
    sums = {zerostep::ieee_add(sums.sum, others.sum), zerostep::ieee_add(sums.squares, others.squares)};
  }
  // Every lane has the sums, and writes them to a place of its own.
  ZEROSTEP_HOST_DEVICE void finish(int64_t row, unsigned lane, const Sums& all) const {
    out[(row * kLanes + lane) * 2] = all.sum;
    out[(row * kLanes + lane) * 2 + 1] = all.squares;
  }
};

bool is_refused(cudaError_t error, const char* what) {
  if (error != cudaSuccess) std::printf("%s: %s\n", what, cudaGetErrorString(error));
  return error != cudaSuccess;
}

// How many of the sums differ; all of them where CUDA refuses.
template <unsigned kLanes>
uint64_t wrong_sums(float* device) {
  constexpr int64_t kRows = 1000, kWidth = 3001;
  std::vector<float> expected(kRows * kLanes * 2), found(expected.size());
  const size_t bytes = expected.size() * sizeof(float);
  SumRows<kLanes> body{{7, NoiseTag::Direction, 1, 2}, kWidth, device};
  if (is_refused(cudaMemset(device, 0xFF, bytes), "cudaMemset")) return expected.size();
  if (is_refused(zerostep::cuda::launch_rows({nullptr, 50}, kRows, body), "launch of rows")) return expected.size();
  if (is_refused(cudaMemcpy(found.data(), device, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy")) return expected.size();
  body.out = expected.data();
  const zerostep::cuda::RowsArgument<SumRows<kLanes>> argument{body, kRows};
  zerostep::cuda::run_rows_on_host<SumRows<kLanes>>({}, {}, &argument);
  uint64_t different = 0;
  for (size_t i = 0; i < expected.size(); ++i) different += std::memcmp(&expected[i], &found[i], sizeof(float)) != 0 ? 1 : 0;
  std::printf("sums of rows by %u lanes: %llu of %zu differ\n", kLanes, static_cast<unsigned long long>(different), expected.size());
  return different;
}

}  // namespace

int main() {
  uint32_t* device = nullptr;
  if (is_refused(cudaMalloc(&device, kElements * sizeof(uint32_t)), "cudaMalloc")) return 1;
  std::vector<uint32_t> found(kElements);
  const NoiseKey keys[] = {{1, NoiseTag::Direction, 0, 0}, {0x123456789ABCDEF0u, NoiseTag::Dropout, 77, 5}};
  const char* const names[kKinds] = {"normals", "signs", "bits", "exponentials"};
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
  wrong += wrong_sums<zerostep::cuda::kWarp>(reinterpret_cast<float*>(device));
  wrong += wrong_sums<zerostep::cuda::kThreadsPerBlock>(reinterpret_cast<float*>(device));
  cudaFree(device);
  return wrong == 0 ? 0 : 1;
}
