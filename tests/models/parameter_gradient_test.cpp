#include "models/parameter_gradient.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>

#include <thread>

namespace zerostep {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// x [n, in] times weight [in, out] plus bias [out].
struct Affine : torch::autograd::Function<Affine> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    context->save_for_backward({x, weight, bias});
    return at::addmm(bias.to(weight.scalar_type()), x, weight);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    ParameterGradient weight(saved[1]), bias(saved[2]);
    EXPECT_EQ(weight.wanted(), saved[1].requires_grad());
    weight.product(saved[0].t(), gradients[0]);
    bias.row_sum(gradients[0]);
    return {gradients[0].mm(saved[1].t()), weight.autograd_value(), bias.autograd_value()};
  }
};

struct Case {
  at::Tensor x, weight, bias;
  at::Tensor ours() const { return Affine::apply(x, weight, bias); }
  at::Tensor plain() const { return at::addmm(bias, x, weight); }
};
Case make_case(at::ScalarType type = at::kFloat) {
  at::manual_seed(3);
  return {at::randn({10, 12}).to(type).requires_grad_(), at::randn({12, 20}).to(type).requires_grad_(), at::randn({20}).requires_grad_()};
}

TEST(ParameterGradient, IsAutogradsToTheBitWithoutPreassignedGradients) {
  const Case ours = make_case(), plain = make_case();
  const at::Tensor g = at::randn({10, 20});
  for (int round = 0; round < 2; ++round) {  // the second adds
    ours.ours().backward(g);
    plain.plain().backward(g);
    EXPECT_TRUE(at::equal(ours.x.grad(), plain.x.grad()));
    EXPECT_TRUE(at::equal(ours.weight.grad(), plain.weight.grad()));
    EXPECT_TRUE(at::equal(ours.bias.grad(), plain.bias.grad()));
  }
}

TEST(ParameterGradient, IsWrittenOverWhatIsFreshAndAddedToWhatIsNot) {
  Case plain = make_case(), ours = make_case();
  const at::Tensor g = at::randn({10, 20});
  const at::Tensor buffer = at::full({260}, NAN);
  ours.weight.mutable_grad() = buffer.narrow(0, 0, 240).view({12, 20});
  ours.bias.mutable_grad() = buffer.narrow(0, 240, 20);
  mark_gradients({ours.x, ours.weight, ours.bias}, true);
  ours.ours().backward(g);
  plain.plain().backward(g);
  EXPECT_TRUE(at::equal(buffer.narrow(0, 0, 240).view({12, 20}), plain.weight.grad()));
  EXPECT_TRUE(at::equal(buffer.narrow(0, 240, 20), plain.bias.grad()));
  // Each gradient has a mark of its own.
  mark_gradients({ours.weight}, false);
  ours.ours().backward(g);
  EXPECT_TRUE(at::equal(ours.bias.grad(), plain.bias.grad()));
  plain.plain().backward(g);
  EXPECT_TRUE(at::equal(buffer.narrow(0, 0, 240).view({12, 20}), plain.weight.grad()));
  EXPECT_EQ(ours.weight.grad().data_ptr(), buffer.data_ptr());
}

TEST(ParameterGradient, AddsToGradientsOfWhichNothingWasSaidAndWhereAnotherUseHasWritten) {
  for (const bool add_always : {false, true}) {
    at::Tensor parameter = at::zeros({20}).requires_grad_();
    parameter.mutable_grad() = at::ones({20});
    mark_gradients({parameter}, add_always);
    ParameterGradient(parameter, add_always).value(at::full({20}, 2));
    EXPECT_TRUE(at::equal(parameter.grad(), at::full({20}, 3)));
  }
}

// Threads are ranks: what one says of its gradients is nothing to another.
TEST(ParameterGradient, FreshnessBelongsToTheGradientWhateverTheThread) {
  const auto result = [](bool fresh, bool in_another_thread) {
    const Case c = make_case();
    c.weight.mutable_grad() = at::ones({12, 20});
    c.bias.mutable_grad() = at::ones({20});
    mark_gradients({c.weight, c.bias}, fresh);
    const Case other = make_case();  // of another rank
    other.weight.mutable_grad() = at::ones({12, 20});
    mark_gradients({other.weight}, !fresh);
    const at::Tensor sum = c.ours().sum();
    if (in_another_thread)
      std::thread([&] { sum.backward(); }).join();
    else
      sum.backward();
    return at::cat({c.weight.grad().flatten(), c.bias.grad()});
  };
  for (const bool fresh : {true, false}) EXPECT_TRUE(at::equal(result(fresh, true), result(fresh, false)));
  EXPECT_TRUE(at::equal(result(true, true) + 1, result(false, true)));
}

TEST(ParameterGradient, FrozenParametersWantNone) {
  for (const int part : {0, 1, 2}) {
    Case ours = make_case(), plain = make_case();
    (part == 0 ? ours.x : part == 1 ? ours.weight : ours.bias).set_requires_grad(false);
    (part == 0 ? plain.x : part == 1 ? plain.weight : plain.bias).set_requires_grad(false);
    ours.ours().sum().backward();
    plain.plain().sum().backward();
    const auto check = [](const at::Tensor& found, const at::Tensor& expected) {
      ASSERT_EQ(found.grad().defined(), expected.grad().defined());
      if (found.grad().defined()) {
        EXPECT_TRUE(at::equal(found.grad(), expected.grad()));
      }
    };
    check(ours.x, plain.x);
    check(ours.weight, plain.weight);
    check(ours.bias, plain.bias);
  }
  EXPECT_FALSE(ParameterGradient(at::Tensor()).wanted());
}

TEST(ParameterGradient, SixteenBitMatricesFillFp32Gradients) {
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    Case ours = make_case(type);
    ours.weight.mutable_grad() = at::full({12, 20}, NAN);
    ours.bias.mutable_grad() = at::full({20}, NAN);
    const at::Tensor g = at::randn({10, 20}).to(type);
    mark_gradients({ours.weight, ours.bias}, true);
    ours.ours().backward(g);
    const at::Tensor wide = g.to(at::kDouble);
    const at::Tensor expected = ours.x.detach().to(at::kDouble).t().mm(wide);
    EXPECT_LT((ours.weight.grad() - expected).norm().item<double>() / expected.norm().item<double>(), type == at::kHalf ? 1e-3 : 5e-3);
    const at::Tensor sums = wide.sum(0);
    EXPECT_LT((ours.bias.grad() - sums).norm().item<double>() / sums.norm().item<double>(), 1e-6);  // summed in fp32
    EXPECT_EQ(ours.weight.grad().scalar_type(), at::kFloat);
  }
}

}  // namespace
}  // namespace zerostep
