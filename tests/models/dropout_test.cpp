#include "models/dropout.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/noise.h"

namespace zerostep {
namespace {

Batch batch_of(std::vector<int64_t> sample_ids) {
  Batch batch;
  batch.tokens = at::zeros({static_cast<int64_t>(sample_ids.size()), 1}, at::kLong);
  batch.sample_ids = std::move(sample_ids);
  return batch;
}

TEST(Dropout, MasksAreTheNoiseOfSampleAndElement) {
  const Batch batch = batch_of({9, 1000000007});
  const Dropout dropout(0.25, {&batch, true, 11, 12}, 3, 2);
  const at::Tensor values = at::full({2, 7, 900}, 3.0f);  // longer than a chunk of the kernel
  dropout.apply_(values);
  for (int64_t s = 0; s < 2; ++s) {
    std::vector<uint32_t> bits(6300);
    fill_bits({11, NoiseTag::Dropout, 12, 3 * 16 + 2}, static_cast<uint64_t>(batch.sample_ids[s]) * 6300, 6300, bits.data());
    const at::Tensor row = values[s].flatten();
    for (int64_t i = 0; i < 6300; ++i)
      ASSERT_EQ(row[i].item<float>(), bits[i] >= 0x40000000u ? 3.0f * static_cast<float>(1 / 0.75) : 0.0f) << i;
  }
}

TEST(Dropout, KeepsTheShareItShould) {
  for (const double p : {0.1, 0.5, 0.9}) {
    const Batch batch = batch_of({0});
    const at::Tensor values = at::ones({1, 100000});
    Dropout(p, {&batch, true, 1, 2}, 0, 0).apply_(values);
    const double kept = values.ne(0).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(kept, 1 - p, 5 * std::sqrt(p * (1 - p) / 1e5));
    EXPECT_NEAR(values.max().item<double>(), 1 / (1 - p), 1e-6);
  }
}

TEST(Dropout, SitesUnitsStepsAndSeedsDiffer) {
  const Batch batch = batch_of({0});
  const auto mask = [&](uint64_t seed, int64_t step, int unit, int site) {
    const at::Tensor values = at::ones({1, 256});
    Dropout(0.5, {&batch, true, seed, step}, unit, site).apply_(values);
    return values;
  };
  const at::Tensor first = mask(1, 2, 3, 1);
  EXPECT_TRUE(at::equal(first, mask(1, 2, 3, 1)));
  for (const at::Tensor& other : {mask(2, 2, 3, 1), mask(1, 3, 3, 1), mask(1, 2, 4, 1), mask(1, 2, 3, 0)})
    EXPECT_FALSE(at::equal(first, other));
}

TEST(Dropout, SixteenBitValuesUseTheSameMask) {
  const Batch batch = batch_of({4, 5});
  const Dropout dropout(0.3, {&batch, true, 1, 2}, 0, 1);
  const at::Tensor exact = at::ones({2, 500});
  dropout.apply_(exact);
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor values = at::ones({2, 500}, type);
    dropout.apply_(values);
    EXPECT_TRUE(at::equal(values, exact.to(type)));
    const at::Tensor second = at::ones({500}, type);
    dropout.apply_to_sample_(second, 1);
    EXPECT_TRUE(at::equal(second, values[1]));
  }
}

TEST(Dropout, EverythingNothingAndMisuse) {
  const Batch batch = batch_of({0});
  const at::Tensor values = at::ones({1, 10});
  Dropout(0.5, {&batch, false, 1, 2}, 0, 0).apply_(values);
  Dropout(0.0, {&batch, true, 1, 2}, 0, 0).apply_(values);
  EXPECT_TRUE(at::equal(values, at::ones({1, 10})));
  Dropout(1.0, {&batch, true, 1, 2}, 0, 0).apply_(values);
  EXPECT_TRUE(at::equal(values, at::zeros({1, 10})));
  Batch without_ids = batch;
  without_ids.sample_ids.clear();
  EXPECT_THROW(Dropout(0.5, {&without_ids, true, 1, 2}, 0, 0), ProtocolError);
  EXPECT_THROW(Dropout(0.5, {&batch, true, 1, 2}, 0, 0).apply_(at::ones({4, 1, 3}).transpose(0, 2).slice(0, 0, 1)), ProtocolError);
}

}  // namespace
}  // namespace zerostep
