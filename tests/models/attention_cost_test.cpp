#include "models/attention_cost.h"

#include <gtest/gtest.h>

#include "models/model.h"
#include "models/model_options.h"

// What the backward of flash attention takes for itself, against LibTorch's mha_bwd() worked out by hand.
namespace zerostep {
namespace {

constexpr int64_t kH100 = 132;

ActivationShape on_gpu(int64_t samples, int64_t length, int64_t multiprocessors, DType type = DType::BF16) {
  return {samples, length, type, false, Backend::Cuda, multiprocessors};
}

// 2 samples of 12 heads, 64 wide, of 1,024 tokens: the 24 heads leave room for ceil(132 / 24) = 6 blocks each, so that there are 6 arrays
// of 2 x 1024 x 12 x 64 sums of 4 bytes, and 2 x 12 x 1024 numbers of the rows. Gradients of queries, keys and values have 2 bytes.
TEST(FlashAttentionCost, HasAnArrayForEachBlockOfAHead) {
  constexpr int64_t kArray = 6291456, kRows = 98304, kGradients = 3 * 3145728;
  const auto peak = [](const ActivationShape& shape) {
    MemoryTimeline m;
    AttentionCost(shape, 12, 64, false, false).backward(m);
    return m.peak();
  };
  EXPECT_EQ(peak(on_gpu(2, 1024, kH100)), kGradients + 6 * kArray + kRows);
  EXPECT_EQ(peak(on_gpu(2, 1024, 108)), kGradients + 5 * kArray + kRows) << "an A100: 108 / 24 = 4.5";
  EXPECT_EQ(peak(on_gpu(2, 1024, 24)), kGradients + kArray + kRows) << "as many as heads";
  EXPECT_EQ(peak(on_gpu(2, 1024, 0)), kGradients + kArray + kRows) << "bits need not repeat";
  EXPECT_EQ(peak(on_gpu(2, 1024, kH100, DType::F32)), 2 * kGradients) << "fp32 has another kernel";
}

// A sample of 1,000 tokens, which are rounded up to 1,024, of heads 80 wide, rounded up to 96, and of heads 136 wide, rounded up to 192;
// 32 heads have one block each of 5 multiprocessors for 1.
TEST(FlashAttentionCost, RoundsTokensAndWidthsUp) {
  const auto sums = [](int64_t heads, int64_t width, int64_t multiprocessors) {
    return AttentionCost(on_gpu(1, 1000, multiprocessors), heads, width, false, false).sums;
  };
  EXPECT_EQ(sums(1, 80, 0), 4 * 1024 * 96 + 4 * 1024);
  EXPECT_EQ(sums(1, 136, 0), 4 * 1024 * 192 + 4 * 1024);
  EXPECT_EQ(sums(32, 80, 5), 32 * (4 * 1024 * 96 + 4 * 1024));
}

// A Llama of 32 heads of queries, 80 wide, that share 8 of keys: attention runs for one query head of each group at a time, 8 heads of one
// sample of 1,000 tokens. ceil(132 / 8) = 17 arrays of 1024 x 8 x 96 sums of 4 bytes, 9 more than ceil(64 / 8); gradients of keys and
// values are of 8 heads, and no copies of 32 are made.
TEST(FlashAttentionCost, OfGroupsIsThatOfOneQueryHeadEach) {
  LlamaOptions o;
  o.num_hidden_layers = 1, o.hidden_size = 2560, o.num_attention_heads = 32, o.num_key_value_heads = 8;
  o.intermediate_size = 64, o.max_position_embeddings = 1024, o.vocab_size = 257;
  const auto model = make_model(o);
  const auto backward = [&](int64_t multiprocessors) {
    return model->activation_cost(1, on_gpu(1, 1000, multiprocessors)).backward_transient_bytes;
  };
  constexpr int64_t kArray = 3145728;
  EXPECT_EQ(backward(kH100) - backward(64), 9 * kArray);
  EXPECT_EQ(backward(8), backward(0));
  EXPECT_EQ(model->activation_cost(1, on_gpu(1, 1000, kH100)).forward_transient_bytes,
            model->activation_cost(1, on_gpu(1, 1000, 0)).forward_transient_bytes);
}

}  // namespace
}  // namespace zerostep
