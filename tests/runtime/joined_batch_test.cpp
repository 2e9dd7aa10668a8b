#include "runtime/strategy/joined_batch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace zerostep {
namespace {

Batch batch_of(int64_t length, int64_t first) {
  Batch out;
  out.tokens = (at::arange(2 * length, at::kLong) + first).view({2, length});
  out.sample_ids = {first, first + 1};
  return out;
}

TEST(JoinedBatch, BatchesOfOneLengthFollowOneAnother) {
  Batch a = batch_of(3, 10), b = batch_of(3, 20);
  pad_together({&a, &b});
  const Batch all = joined_batch({&a, &b});
  EXPECT_TRUE(all.tokens.equal(at::cat({a.tokens, b.tokens})));
  EXPECT_FALSE(all.mask.defined()) << "nothing is padded";
  EXPECT_EQ(all.sample_ids, (std::vector<int64_t>{10, 11, 20, 21}));
}

TEST(JoinedBatch, ShorterOnesArePaddedAndMasked) {
  Batch a = batch_of(2, 10), b = batch_of(4, 20);
  b.mask = at::ones({2, 4}, at::kBool);
  b.mask[1][3] = false;
  for (Batch* batch : {&a, &b}) {
    batch->token_types = at::ones_like(batch->tokens);
    batch->word_positions = at::tensor({1, 0}, at::kLong);
  }
  pad_together({&a, &b});
  const Batch all = joined_batch({&a, &b});
  ASSERT_EQ(all.tokens.sizes(), (std::vector<int64_t>{4, 4}));
  EXPECT_TRUE(all.tokens.slice(0, 0, 2).equal(a.tokens) && a.tokens.slice(1, 0, 2).equal(batch_of(2, 10).tokens));
  EXPECT_TRUE(all.tokens.slice(0, 2, 4).equal(b.tokens));
  const at::Tensor mask = at::tensor({1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0}).to(at::kBool).view({4, 4});
  EXPECT_TRUE(all.mask.equal(mask));
  EXPECT_FALSE(all.pads_ends) << "of b nothing is known";
  EXPECT_TRUE(a.pads_ends) << "its mask was made here";
  EXPECT_EQ(all.token_types.sum().item<int64_t>(), 2 * 2 + 2 * 4);
  EXPECT_TRUE(all.word_positions.equal(at::tensor({1, 0, 1, 0}, at::kLong))) << "positions in rows stay what they are";
}

}  // namespace
}  // namespace zerostep
