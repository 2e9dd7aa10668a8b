#include "models/dropout.h"

#include <ATen/Dispatch.h>

#include <array>
#include <cmath>

#include "base/error.h"
#include "base/noise.h"

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
  for (int64_t sample = 0; sample < values.size(0); ++sample) apply_to_sample_(values[sample], sample);
}

void Dropout::apply_to_sample_(const at::Tensor& values, int64_t sample) const {
  if (!active()) return;
  if (!values.device().is_cpu() || !values.is_contiguous()) fail_protocol("[dropout] expected contiguous values on the CPU");
  if (p_ >= 1) {
    values.zero_();
    return;
  }
  const auto threshold = static_cast<uint32_t>(std::min(std::llround(p_ * 4294967296.0), 4294967295LL));
  const auto scale = static_cast<float>(1.0 / (1.0 - p_));
  const NoiseKey key{seed_, NoiseTag::Dropout, step_, stream_};
  const int64_t n = values.numel();
  const uint64_t first = static_cast<uint64_t>(sample_ids_.at(sample)) * static_cast<uint64_t>(n);
  std::array<uint32_t, kChunk> bits;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, values.scalar_type(), "dropout", [&] {
    scalar_t* data = values.data_ptr<scalar_t>();
    for (int64_t i = 0; i < n; i += kChunk) {
      const int64_t count = std::min(kChunk, n - i);
      fill_bits(key, first + static_cast<uint64_t>(i), count, bits.data());
      mask_chunk(data + i, bits.data(), count, threshold, scale);
    }
  });
}

}  // namespace zerostep
