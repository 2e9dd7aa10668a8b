#include "models/dropout.h"

#include <ATen/Dispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/stack.h>

#include <array>
#include <cmath>

#include "base/error.h"
#include "base/noise_math.h"
#include "models/device_kernels.h"
#include "models/kernel_rows.h"

namespace zerostep {

namespace {

constexpr int kSitesPerUnit = 16;
constexpr int64_t kChunk = 4096;

// values *= bits >= threshold ? scale : 0. Written without branches so that compilers vectorise it.
template <typename T>
void mask_chunk(T* __restrict values, const uint32_t* __restrict bits, int64_t count, uint32_t threshold, float scale) {
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<T>(static_cast<float>(values[i]) * (bits[i] >= threshold ? scale : 0.0f));
  }
}

void drop_on_cpu(const at::Tensor& values, const DropoutMask& mask, uint64_t first) {
  std::array<uint32_t, kChunk> bits;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, values.scalar_type(), "dropout", [&] {
    scalar_t* data = values.data_ptr<scalar_t>();
    const int64_t n = values.numel();
    for (int64_t i = 0; i < n; i += kChunk) {
      const int64_t count = std::min(kChunk, n - i);
      fill_bits(mask.key, first + static_cast<uint64_t>(i), count, bits.data());
      mask_chunk(data + i, bits.data(), count, mask.threshold, mask.scale);
    }
  });
}

// Bits of elements [first, first + count) of a key, int64 [count] on a device: Philox's words in LibTorch's integer operations, 64 bits
// each. The layout of counters and elements is noise_math.h's.
at::Tensor bits_by_operations(const NoiseKey& key, uint64_t first, int64_t count, at::Device device) {
  check_noise_range(key, first, count);
  constexpr int64_t kWord = 0xFFFFFFFF;
  const uint64_t begin = first / kNoiseTile, end = (first + static_cast<uint64_t>(count) + kNoiseTile - 1) / kNoiseTile;
  const auto block = [](uint64_t tile) { return static_cast<int64_t>(tile * kNoiseBlocksPerTile); };
  const at::Tensor blocks = at::arange(block(begin), block(end), at::TensorOptions().dtype(at::kLong).device(device));
  const PhiloxBlock start = noise_counter(key, 0);
  const auto filled = [&](uint32_t word) { return at::full_like(blocks, int64_t{word}); };
  std::array<at::Tensor, 4> c{blocks.bitwise_and(kWord), blocks.bitwise_right_shift(32).bitwise_or_(int64_t{start.word[1]}),
                              filled(start.word[2]), filled(start.word[3])};
  auto key0 = static_cast<uint32_t>(key.seed), key1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    // A product's upper word is right although its 64 bits are those of a signed number.
    const at::Tensor product0 = c[0].mul_(int64_t{kPhiloxM0}), product1 = c[2].mul_(int64_t{kPhiloxM1});
    const auto upper = [&](const at::Tensor& product) { return product.bitwise_right_shift(32).bitwise_and_(kWord); };
    c = {upper(product1).bitwise_xor_(c[1]).bitwise_xor_(int64_t{key0}), product1.bitwise_and(kWord),
         upper(product0).bitwise_xor_(c[3]).bitwise_xor_(int64_t{key1}), product0.bitwise_and(kWord)};
    key0 += kPhiloxW0;
    key1 += kPhiloxW1;
  }
  const int64_t tiles = static_cast<int64_t>(end - begin);
  const at::Tensor words = at::stack(c).view({4, tiles, kNoiseBlocksPerTile}).transpose(0, 1).reshape(-1);
  return words.narrow(0, static_cast<int64_t>(first % kNoiseTile), count);
}

void drop_by_operations(const at::Tensor& values, const DropoutMask& mask, uint64_t first) {
  const at::NoGradGuard no_grad;
  for_parts(values.numel(), 1, [&](int64_t begin, int64_t count) {
    const at::Tensor bits = bits_by_operations(mask.key, first + static_cast<uint64_t>(begin), count, values.device());
    values.view(-1).narrow(0, begin, count).mul_(bits.ge(int64_t{mask.threshold}).to(at::kFloat).mul_(mask.scale));
  });
}

}  // namespace

Dropout::Dropout(double p, const ForwardContext& context, int unit, int site) {
  if (p <= 0 || !context.training) return;
  const Batch& batch = *context.batch;
  if (static_cast<int64_t>(batch.sample_ids.size()) != batch.tokens.size(0)) {
    fail_protocol("[dropout] a batch of {} samples carries {} sample ids; masks are keyed by them", batch.tokens.size(0),
                  batch.sample_ids.size());
  }
  p_ = p;
  seed_ = context.seed;
  step_ = static_cast<uint64_t>(context.step);
  stream_ = static_cast<uint32_t>(unit * kSitesPerUnit + site);
  sample_ids_ = batch.sample_ids;
}

void Dropout::apply_(const at::Tensor& values) const {
  if (!active()) return;
  const std::span<const int64_t> ids(sample_ids_);
  if (values.size(0) > static_cast<int64_t>(ids.size())) fail_protocol("[dropout] {} samples of a batch of {}", values.size(0), ids.size());
  apply_to_samples_(values, ids.first(static_cast<size_t>(values.size(0))));
}

void Dropout::apply_to_sample_(const at::Tensor& values, int64_t sample) const {
  if (active()) apply_to_samples_(values.unsqueeze(0), {&sample_ids_.at(sample), 1});
}

void Dropout::apply_to_samples_(const at::Tensor& values, std::span<const int64_t> ids) const {
  if (!has_plain_rows(values)) fail_protocol("[dropout] expected contiguous values of fp32, bf16 or fp16");
  if (p_ >= 1) {
    values.zero_();
    return;
  }
  const DropoutMask mask{{seed_, NoiseTag::Dropout, step_, stream_},
                         static_cast<uint32_t>(std::min(std::llround(p_ * 4294967296.0), 4294967295LL)),
                         static_cast<float>(1.0 / (1.0 - p_))};
  if (const DeviceKernels* kernels = device_kernels_of(values)) return kernels->drop(values, mask, ids);
  for (size_t i = 0; i < ids.size(); ++i) {
    const at::Tensor of_sample = values.select(0, static_cast<int64_t>(i));
    const uint64_t first = static_cast<uint64_t>(ids[i]) * static_cast<uint64_t>(of_sample.numel());
    has_kernels(values) ? drop_on_cpu(of_sample, mask, first) : drop_by_operations(of_sample, mask, first);
  }
}

}  // namespace zerostep
