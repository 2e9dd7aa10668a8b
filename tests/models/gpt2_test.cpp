#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "models/parameter_gradient.h"
#include "tests/models/support/gpt2_model.h"

namespace zerostep {
namespace {

Gpt2Options small(bool tied = true) {
  Gpt2Options o;
  o.n_layer = 3, o.n_embd = 48, o.n_head = 4, o.n_positions = 40, o.vocab_size = 101, o.n_inner = 80;
  o.resid_pdrop = o.embd_pdrop = o.attn_pdrop = 0;
  o.tie_word_embeddings = tied;
  return o;
}

// Sum of the loss and every parameter's gradient by autograd alone.
std::vector<at::Tensor> gradients_of(Gpt2Model& model, const Batch& batch, const ForwardContext& context, at::Tensor* loss = nullptr) {
  for (auto& p : model.all_parameters()) p.mutable_grad().reset();
  const at::Tensor sum = make_cross_entropy()->sum(batch, model.forward(context));
  sum.backward();
  if (loss != nullptr) *loss = sum.detach();
  std::vector<at::Tensor> gradients;
  for (const auto& p : model.all_parameters()) gradients.push_back(p.grad().clone());
  return gradients;
}

void set_gradients(Gpt2Model& model, float value) {
  for (auto& p : model.all_parameters()) p.mutable_grad() = at::full(p.sizes(), value);
}

class Gpt2Tied : public testing::TestWithParam<bool> {};

TEST_P(Gpt2Tied, EqualsPlainLibTorch) {
  const Gpt2Options options = small(GetParam());
  Gpt2Model model = make_random_model(options, 1);
  Batch batch = make_batch(3, 33, options.vocab_size, 2);
  batch.labels[1].slice(0, 5, 12) = -100;
  at::Tensor loss;
  const auto ours = gradients_of(model, batch, {&batch, true}, &loss);
  for (auto& p : model.all_parameters()) p.mutable_grad().reset();
  const at::Tensor logits = plain_logits(model, options, batch);
  const at::Tensor expected = at::cross_entropy_loss(logits.flatten(0, 1), batch.labels.flatten(), {}, at::Reduction::Sum);
  expected.backward();
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-6 * expected.item<double>());
  const auto parameters = model.all_parameters();
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_LT(relative_distance(ours[i], parameters[i].grad()), 2e-5) << i;
}

TEST_P(Gpt2Tied, InferenceGivesTheBitsOfTheRecordedForward) {
  const Gpt2Options options = small(GetParam());
  Gpt2Model model = make_random_model(options, 1);
  const Batch batch = make_batch(2, 17, options.vocab_size, 2);
  const at::Tensor recorded = model.forward({&batch, true})[0];
  at::NoGradGuard no_grad;
  const at::Tensor plain = model.forward({&batch, false})[0];
  EXPECT_TRUE(at::equal(recorded, plain));
  EXPECT_TRUE(at::equal(make_cross_entropy()->sum(batch, {recorded}), make_cross_entropy()->sum(batch, {plain})));
}

TEST_P(Gpt2Tied, PreassignedGradientsAreOverwrittenWhenFreshAndAddedToOtherwise) {
  const Gpt2Options options = small(GetParam());
  Gpt2Model model = make_random_model(options, 1);
  const Batch batch = make_batch(3, 20, options.vocab_size, 2);
  const auto expected = gradients_of(model, batch, {&batch, true});
  const auto parameters = model.all_parameters();
  // The declared flags decide what a buffer may hold before. The head of a tied model comes first and overwrites.
  set_gradients(model, NAN);
  const auto run = [&](bool fresh) {
    mark_gradients(parameters, fresh);
    make_cross_entropy()->sum(batch, model.forward({&batch, true})).backward();
  };
  run(true);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_LT(relative_distance(parameters[i].grad(), expected[i]), 1e-6) << i;
  run(false);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_LT(relative_distance(parameters[i].grad(), 2 * expected[i]), 1e-6) << i;
}

INSTANTIATE_TEST_SUITE_P(Both, Gpt2Tied, testing::Bool());

TEST(Gpt2, FrozenParametersGetNoGradientAndTheOthersTheirs) {
  const Gpt2Options options = small();
  Gpt2Model model = make_random_model(options, 1);
  const Batch batch = make_batch(2, 20, options.vocab_size, 2);
  const auto expected = gradients_of(model, batch, {&batch, true});
  const auto parameters = model.all_parameters();
  // Every second parameter; then everything before the last block; then each one alone.
  for (size_t round = 0; round < 2 + parameters.size(); ++round) {
    const auto frozen = [&](size_t i) { return round == 0 ? i % 2 == 0 : round == 1 ? i < 26 : i != round - 2; };
    for (size_t i = 0; i < parameters.size(); ++i) {
      at::Tensor p = parameters[i];
      p.mutable_grad().reset();
      p.set_requires_grad(!frozen(i));
    }
    make_cross_entropy()->sum(batch, model.forward({&batch, true})).backward();
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (frozen(i)) {
        EXPECT_FALSE(parameters[i].grad().defined()) << i;
      } else {
        EXPECT_TRUE(at::equal(parameters[i].grad(), expected[i])) << round << " " << i;
      }
    }
  }
}

TEST(Gpt2, DocumentsDoNotSeeEachOther) {
  const Gpt2Options options = small();
  Gpt2Model model = make_random_model(options, 1);
  const at::NoGradGuard no_grad;
  Batch joined = make_batch(1, 20, options.vocab_size, 2);
  joined.document_ids = at::cat({at::zeros({1, 8}, at::kLong), at::ones({1, 12}, at::kLong)}, 1);
  joined.positions = at::cat({at::arange(8), at::arange(12)}).unsqueeze(0);
  const at::Tensor logits = model.forward({&joined})[0];
  Batch second = joined;
  second.tokens = joined.tokens.slice(1, 8);
  second.document_ids = second.positions = at::Tensor();
  EXPECT_LT(relative_distance(logits.slice(1, 8), model.forward({&second})[0]), 1e-5);
}

TEST(Gpt2, PaddingChangesNothingAndStaysFinite) {
  const Gpt2Options options = small();
  Gpt2Model model = make_random_model(options, 1);
  Batch plain = make_batch(1, 12, options.vocab_size, 2), padded = make_batch(1, 20, options.vocab_size, 3);
  padded.tokens.slice(1, 8) = plain.tokens;
  padded.labels.slice(1, 8) = plain.labels;
  padded.labels.slice(1, 0, 8) = -100;
  padded.mask = at::arange(20).unsqueeze(0).ge(8);
  padded.positions = (at::arange(20) - 8).clamp_min(0).unsqueeze(0);
  at::Tensor loss_plain, loss_padded;
  const auto expected = gradients_of(model, plain, {&plain, true}, &loss_plain);
  const auto found = gradients_of(model, padded, {&padded, true}, &loss_padded);
  EXPECT_NEAR(loss_plain.item<double>(), loss_padded.item<double>(), 1e-5 * loss_plain.item<double>());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_LT(relative_distance(found[i], expected[i]), 3e-5) << i;
}

TEST(Gpt2, PaddedEndsAreLikeAnyMask) {
  for (const double attention_dropout : {0.0, 0.2}) {
    Gpt2Options options = small();
    options.attn_pdrop = attention_dropout;
    Gpt2Model model = make_random_model(options, 1);
    Batch batch = make_batch(3, 20, options.vocab_size, 2);
    batch.mask = at::arange(20).unsqueeze(0) < at::tensor({20, 7, 13}, at::kLong).unsqueeze(1);
    batch.labels.masked_fill_(batch.mask.logical_not(), -100);
    at::Tensor loss, loss_without_pairs;
    const auto expected = gradients_of(model, batch, {&batch, true, 7, 3}, &loss);
    batch.pads_ends = true;
    const auto found = gradients_of(model, batch, {&batch, true, 7, 3}, &loss_without_pairs);
    EXPECT_NEAR(loss_without_pairs.item<double>(), loss.item<double>(), 1e-6 * loss.item<double>());
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_LT(relative_distance(found[i], expected[i]), 3e-5) << i;
  }
}

TEST(Gpt2, SixteenBitFollowsFp32WithFp32GradientBuffers) {
  const Gpt2Options options = small();
  Gpt2Model exact = make_random_model(options, 1);
  const Batch batch = make_batch(4, 32, options.vocab_size, 2);
  at::Tensor expected_loss;
  const auto expected = gradients_of(exact, batch, {&batch, true}, &expected_loss);
  for (const auto& [type, tolerance] : {std::pair{at::kBFloat16, 0.05}, {at::kHalf, 0.01}}) {
    Gpt2Model model = make_random_model(options, 1, type);
    set_gradients(model, NAN);
    const TensorList outputs = model.forward({&batch, true});
    EXPECT_EQ(outputs[0].scalar_type(), type);
    const at::Tensor loss = make_cross_entropy()->sum(batch, outputs);
    EXPECT_EQ(loss.scalar_type(), at::kFloat);
    EXPECT_NEAR(loss.item<double>(), expected_loss.item<double>(), 0.01 * expected_loss.item<double>());
    mark_gradients(model.all_parameters(), true);
    loss.backward();
    const auto parameters = model.all_parameters();
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(parameters[i].grad().scalar_type(), at::kFloat);
      EXPECT_LT(relative_distance(parameters[i].grad(), expected[i]), tolerance) << i;
    }
  }
}

TEST(Gpt2, AnyThreadGivesTheSameBits) {
  Gpt2Options options = small();
  options.resid_pdrop = options.embd_pdrop = options.attn_pdrop = 0.1;
  const Batch batch = make_batch(3, 20, options.vocab_size, 2);
  // LibTorch's number of threads decides how its sums are cut, so each computes alone.
  const auto compute = [&](std::vector<at::Tensor>& gradients) {
    at::set_num_threads(1);
    Gpt2Model own = make_random_model(options, 1);
    gradients = gradients_of(own, batch, {&batch, true, 3, 4});
  };
  std::vector<at::Tensor> expected, first, second;
  std::thread([&] { compute(expected); }).join();
  std::thread one([&] { compute(first); }), other([&] { compute(second); });
  one.join();
  other.join();
  ASSERT_EQ(expected.size(), 40u);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(at::equal(first[i], expected[i])) << i;
    EXPECT_TRUE(at::equal(second[i], expected[i])) << i;
  }
}

TEST(Gpt2, RecomputedForwardHasTheSameMasks) {
  Gpt2Options options = small();
  options.resid_pdrop = options.embd_pdrop = options.attn_pdrop = 0.2;
  Gpt2Model model = make_random_model(options, 1);
  const Batch batch = make_batch(2, 20, options.vocab_size, 2);
  const ForwardContext context{&batch, true, 3, 4};
  EXPECT_TRUE(at::equal(model.forward(context)[0], model.forward(context)[0]));
  EXPECT_FALSE(at::equal(model.forward(context)[0], model.forward({&batch, true, 3, 5})[0]));
  EXPECT_FALSE(at::equal(model.forward(context)[0], model.forward({&batch, true, 4, 4})[0]));
  EXPECT_FALSE(at::equal(model.forward(context)[0], model.forward({&batch, false, 3, 4})[0]));
}

TEST(Gpt2, DropoutDoesNotDependOnHowTheBatchIsSplit) {
  Gpt2Options options = small();
  options.resid_pdrop = options.embd_pdrop = options.attn_pdrop = 0.2;
  Gpt2Model model = make_random_model(options, 1);
  const at::NoGradGuard no_grad;
  Batch whole = make_batch(4, 20, options.vocab_size, 2);
  whole.sample_ids = {40, 41, 42, 43};
  const at::Tensor logits = model.forward({&whole, true, 3, 4})[0];
  for (int64_t i = 0; i < 4; i += 2) {
    Batch part = whole;
    part.tokens = whole.tokens.slice(0, i, i + 2);
    part.sample_ids = {40 + i, 41 + i};
    EXPECT_LT(relative_distance(model.forward({&part, true, 3, 4})[0], logits.slice(0, i, i + 2)), 1e-5);
  }
}

TEST(Gpt2, DropoutGradientsAreThoseOfTheMaskedForward) {
  Gpt2Options options = small();
  options.n_layer = 1;
  options.resid_pdrop = options.embd_pdrop = 0.3, options.attn_pdrop = 0.4;
  Gpt2Model model = make_random_model(options, 1);
  const Batch batch = make_batch(2, 12, options.vocab_size, 2);
  const ForwardContext context{&batch, true, 3, 4};
  const auto gradients = gradients_of(model, batch, context);
  const auto parameters = model.all_parameters();
  const auto loss = [&] {
    const at::NoGradGuard no_grad;
    return make_cross_entropy()->sum(batch, model.forward(context)).item<double>();
  };
  for (size_t i = 0; i < parameters.size(); ++i) {  // along a random direction of each parameter
    const at::Tensor d = at::randn(parameters[i].sizes()) * (0.01 / std::sqrt(static_cast<double>(parameters[i].numel())));
    const at::NoGradGuard no_grad;
    at::Tensor p = parameters[i];
    p.add_(d);
    const double plus = loss();
    p.sub_(d, 2);
    const double minus = loss();
    p.add_(d);
    const double expected = (gradients[i] * d).sum().item<double>(), found = (plus - minus) / 2;
    EXPECT_NEAR(found, expected, 0.02 * std::abs(expected) + 1e-4) << i;
  }
}

TEST(Gpt2, MisuseIsNamed) {
  const Gpt2Options options = small();
  Gpt2Model model = make_random_model(options, 1);
  const Batch longer = make_batch(1, 41, options.vocab_size, 2);
  EXPECT_THROW(model.forward({&longer}), InputError);
  EXPECT_THROW(model.units[1]->forward({}, {&longer}), ProtocolError);
  EXPECT_THROW(model.definition->make_unit(1, {}), ProtocolError);
  // A graph that is kept cannot be run twice over activations that the first backward has reused.
  const Batch batch = make_batch(1, 4, options.vocab_size, 2);
  const at::Tensor loss = make_cross_entropy()->sum(batch, model.forward({&batch, true}));
  loss.backward({}, /*retain_graph=*/true);
  EXPECT_THROW(loss.backward(), c10::Error);
}

}  // namespace
}  // namespace zerostep
