#include <algorithm>

#include "base/cuda/elements.cuh"
#include "base/cuda/launch.cuh"
#include "base/noise_math.h"
#include "models/cuda/dropout.h"

namespace zerostep::cuda {
namespace {

// Samples of one launch, whose ids are arguments of the kernel.
constexpr int kMaxSamples = 128;

// A thread takes blocks of noise, each with four elements of a tile; neighbours take neighbouring elements.
template <typename As>
struct DropBody {
  typename As::T* values;
  uint64_t elements, blocks;  // of a sample; blocks: those that its elements may lie in
  uint64_t num_samples;
  DropoutMask mask;
  uint64_t firsts[kMaxSamples];  // the number of each sample's first element

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    for (uint64_t i = index.thread; i < blocks * num_samples; i += index.num_threads) {
      const uint64_t sample = i / blocks, first = firsts[sample];
      const uint64_t block = first / kNoiseTile * kNoiseBlocksPerTile + i % blocks;
      // The element of the block's first word, counted from the sample's first; before that it wraps to what no sample has.
      const uint64_t element = block / kNoiseBlocksPerTile * kNoiseTile + block % kNoiseBlocksPerTile - first;
      const PhiloxBlock bits = noise_block(mask.key, block);
      typename As::T* of_sample = values + sample * elements;
#pragma unroll
      for (uint64_t w = 0; w < 4; ++w) {
        const uint64_t at = element + w * kNoiseBlocksPerTile;
        if (at >= elements) continue;
        const float factor = bits.word[w] >= mask.threshold ? mask.scale : 0.0f;
        of_sample[at] = As::rounded(ieee_mul(As::value(of_sample[at]), factor));
      }
    }
  }
};

template <typename As>
cudaError_t drop_as(const KernelQueue& queue, void* values, int64_t elements, const DropoutMask& mask, std::span<const int64_t> ids) {
  auto* begin = static_cast<typename As::T*>(values);
  for (size_t done = 0; done < ids.size(); done += kMaxSamples) {
    const auto part = ids.subspan(done, std::min<size_t>(kMaxSamples, ids.size() - done));
    const auto n = static_cast<uint64_t>(elements);
    DropBody<As> body{begin + done * n, n, (n / kNoiseTile + 2) * kNoiseBlocksPerTile, part.size(), mask, {}};
    for (size_t i = 0; i < part.size(); ++i) body.firsts[i] = static_cast<uint64_t>(part[i]) * n;
    const cudaError_t error = launch_threads(queue, static_cast<int64_t>(body.blocks * body.num_samples), body);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t drop(const KernelQueue& queue, void* values, DType type, int64_t elements, const DropoutMask& mask,
                 std::span<const int64_t> sample_ids) {
  return with_elements(type, [&](auto as) { return drop_as<decltype(as)>(queue, values, elements, mask, sample_ids); });
}

}  // namespace zerostep::cuda
