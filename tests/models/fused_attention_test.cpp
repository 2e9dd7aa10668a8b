#include "models/fused_attention.h"

#include <ATen/Context.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>

#include <memory>
#include <stdexcept>
#include <vector>

namespace zerostep {
namespace {

bool is_deterministic() { return at::globalContext().deterministicAlgorithms() && !at::globalContext().deterministicAlgorithmsWarnOnly(); }

// Notes what holds while a node works out its gradients.
struct Note final : torch::autograd::FunctionPreHook {
  explicit Note(std::vector<bool>& to) : notes(to) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& gradients) override {
    notes.push_back(is_deterministic());
    return gradients;
  }
  std::vector<bool>& notes;
};

TEST(FusedAttention, IsDeterministicWhileItsBackwardRunsAndNothingElseIs) {
  const auto heads = [] { return at::randn({2, 3, 5, 16}).requires_grad_(); };
  const at::Tensor q = heads(), k = heads(), v = heads();
  std::vector<bool> of_attention, of_others;
  const at::Tensor attended = at::scaled_dot_product_attention(q, k, v);
  ASSERT_TRUE(attended.grad_fn()->name().starts_with("ScaledDotProduct")) << attended.grad_fn()->name();
  // As padded heads are cut, and a product behind them.
  const at::Tensor cut = attended.narrow(3, 0, 8), product = at::matmul(cut, at::randn({8, 4}));
  make_backward_deterministic(cut);
  attended.grad_fn()->add_pre_hook(std::make_unique<Note>(of_attention));
  for (const at::Tensor& other : {cut, product}) other.grad_fn()->add_pre_hook(std::make_unique<Note>(of_others));
  q.register_hook([&](const at::Tensor&) { of_others.push_back(is_deterministic()); });
  product.sum().backward();
  EXPECT_EQ(of_attention, std::vector<bool>{true});
  EXPECT_EQ(of_others, std::vector<bool>(3, false));
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
  EXPECT_TRUE(at::globalContext().deterministicFillUninitializedMemory());
}

// On a GPU, unless it need not be.
TEST(FusedAttention, IsAskedForItWhereItIsToRepeat) {
  const at::Device gpu(at::kCUDA, 0);
  EXPECT_TRUE(attention_repeats(gpu));
  EXPECT_FALSE(attention_repeats(at::kCPU));
  let_attention_repeat(true);
  EXPECT_FALSE(at::globalContext().userEnabledCuDNNSDP());
  let_attention_repeat(false);
  EXPECT_FALSE(attention_repeats(gpu));
  EXPECT_TRUE(at::globalContext().userEnabledCuDNNSDP());
  let_attention_repeat(true);
}

struct Fail final : torch::autograd::FunctionPreHook {
  torch::autograd::variable_list operator()(const torch::autograd::variable_list&) override { throw std::runtime_error("no memory"); }
};

TEST(FusedAttention, LeavesNothingBehindWhereItFails) {
  const at::Tensor q = at::randn({1, 1, 4, 16}).requires_grad_(), attended = at::scaled_dot_product_attention(q, q, q);
  make_backward_deterministic(attended);
  attended.grad_fn()->add_pre_hook(std::make_unique<Fail>());
  EXPECT_ANY_THROW(attended.sum().backward());
  end_deterministic_algorithms();
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
}

TEST(FusedAttention, IsLookedForInVainBehindOtherOperations) {
  const at::Tensor x = at::randn({4, 4}).requires_grad_(), y = at::matmul(x, x);
  make_backward_deterministic(y);
  make_backward_deterministic(at::randn({2}));
  y.sum().backward();
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
}

}  // namespace
}  // namespace zerostep
