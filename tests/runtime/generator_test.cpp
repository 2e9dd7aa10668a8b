#include "runtime/generate/generator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "models/gpt2/gpt2.h"

namespace zerostep {
namespace {

TEST(NextToken, IsTheSoftmaxOfTheLargest) {
  const float logits[] = {1.0f, 3.0f, 2.0f, -INFINITY};
  const auto all = next_token_probabilities(logits, 4, 1, 0);
  const double sum = std::exp(1.0) + std::exp(3.0) + std::exp(2.0);
  EXPECT_NEAR(all[0], std::exp(1.0) / sum, 1e-15);
  EXPECT_NEAR(all[1], std::exp(3.0) / sum, 1e-15);
  EXPECT_EQ(all[3], 0);
  const auto two = next_token_probabilities(logits, 4, 0.5, 2);
  EXPECT_NEAR(two[1], 1 / (1 + std::exp(-2.0)), 1e-15);
  EXPECT_NEAR(two[2], 1 / (1 + std::exp(2.0)), 1e-15);
  EXPECT_EQ(two[0], 0);
  EXPECT_EQ(next_token_probabilities(logits, 4, 0, 0), (std::vector<double>{0, 1, 0, 0}));
  EXPECT_EQ(next_token_probabilities(logits, 4, 2, 1), (std::vector<double>{0, 1, 0, 0}));
  const float broken[] = {0.0f, NAN};
  EXPECT_THROW(next_token_probabilities(broken, 2, 1, 0), RunError);
}

class Generation : public ::testing::Test {
 protected:
  Generation() {
    Gpt2Options o;
    o.n_layer = 2;
    o.n_embd = 16;
    o.n_head = 2;
    o.n_positions = 8;
    o.vocab_size = 11;
    o.initializer_range = 0.5;
    model_ = make_gpt2(o);
  }
  static void read(const ParameterInfo& p, int64_t begin, int64_t count, float* out) { initial_values(p, 5, begin, count, out); }
  // Every position of the whole window through every unit.
  std::vector<float> reference(const std::vector<int64_t>& tokens) const {
    const at::NoGradGuard no_graph;
    std::vector<std::vector<at::Tensor>> parameters;
    for (const UnitInfo& unit : model_->units()) {
      auto& tensors = parameters.emplace_back();
      for (const ParameterInfo& p : unit.parameters) {
        tensors.push_back(at::empty(p.shape, at::kFloat));
        read(p, 0, p.num_elements(), tensors.back().mutable_data_ptr<float>());
      }
    }
    Batch batch;
    batch.tokens = at::tensor(tokens, at::kLong).reshape({1, -1});
    const ForwardContext context{&batch, false, 0, 0};
    TensorList hidden;
    for (size_t u = 0; u < parameters.size(); ++u) {
      auto all = parameters[u];
      for (const BorrowedParameter& b : model_->units()[u].borrowed)
        all.push_back(parameters[static_cast<size_t>(b.unit)][static_cast<size_t>(b.parameter)]);
      hidden = model_->make_unit(static_cast<int>(u), all)->forward(hidden, context);
    }
    const at::Tensor last = hidden[0].select(1, hidden[0].size(1) - 1).contiguous();
    return {last.const_data_ptr<float>(), last.const_data_ptr<float>() + last.numel()};
  }
  std::unique_ptr<ModelDefinition> model_;
};

TEST_F(Generation, LogitsAreThoseOfTheLastPositionInAWindow) {
  const Generator generator(*model_, read);
  const std::vector<float> short_text = generator.logits({3, 1, 4}), expected = reference({3, 1, 4});
  ASSERT_EQ(short_text.size(), 11u);
  for (size_t i = 0; i < 11; ++i) EXPECT_NEAR(short_text[i], expected[i], 1e-5);
  // Longer than the model's positions: the last eight count.
  EXPECT_EQ(generator.logits({9, 9, 9, 1, 2, 3, 4, 5, 6, 7, 8}), generator.logits({1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST_F(Generation, TakesTheLikeliestStopsAtTheEndAndRepeatsWithItsSeed) {
  const Generator generator(*model_, read);
  const auto run = [&](std::vector<int32_t> prompt, const GenerateOptions& options) {
    std::vector<int32_t> out;
    generator.run(std::move(prompt), 10, options, [&](int32_t token) { out.push_back(token); });
    return out;
  };
  std::vector<int32_t> greedy = run({1}, {.tokens = 5, .temperature = 0}), tokens{1};
  ASSERT_EQ(greedy.size(), 5u);
  for (const int32_t token : greedy) {
    const auto logits = generator.logits(tokens);
    EXPECT_EQ(token, std::max_element(logits.begin(), logits.end()) - logits.begin());
    tokens.push_back(token);
  }
  EXPECT_EQ(run({}, {.tokens = 3, .temperature = 0}), run({10}, {.tokens = 3, .temperature = 0}));  // an empty prompt begins a document
  EXPECT_TRUE(run({1}, {.tokens = 5, .temperature = 0, .ends = {3, greedy[0]}}).empty());
  EXPECT_TRUE(run({1}, {.tokens = 0}).empty());
  const GenerateOptions warm{.tokens = 30, .temperature = 5, .seed = 7};
  EXPECT_EQ(run({1}, warm), run({1}, warm));
  GenerateOptions other = warm;
  other.seed = 8;
  EXPECT_NE(run({1}, warm), run({1}, other));
}

TEST_F(Generation, IdsWithoutATextAreNeverChosen) {
  const Generator generator(*model_, read);
  const auto run = [&](double temperature, int64_t top_k, const std::function<bool(int32_t)>& has_text) {
    std::vector<int32_t> out;
    generator.run({1}, 10, {.tokens = 60, .temperature = temperature, .top_k = top_k, .seed = 3, .has_text = has_text},
                  [&](int32_t token) { out.push_back(token); });
    return out;
  };
  const std::vector<int32_t> all = run(5, 0, {});
  EXPECT_TRUE(std::any_of(all.begin(), all.end(), [](int32_t t) { return t >= 4; })) << "a warm sample of 60 of 11 tokens";
  for (const double temperature : {0.0, 1.0, 5.0})
    for (const int64_t top_k : {0, 1, 7}) {
      const std::vector<int32_t> some = run(temperature, top_k, [](int32_t token) { return token < 4; });
      EXPECT_EQ(some.size(), 60U);
      EXPECT_TRUE(std::all_of(some.begin(), some.end(), [](int32_t t) { return t < 4; })) << temperature << " " << top_k;
    }
  EXPECT_THROW(run(1, 0, [](int32_t) { return false; }), InputError);
}

TEST_F(Generation, SamplesWithTheProbabilitiesOfTheModel) {
  const Generator generator(*model_, read);
  const auto logits = generator.logits({2});
  const auto p = next_token_probabilities(logits.data(), 11, 1, 3);
  std::vector<int> counts(11, 0);
  constexpr int kDraws = 2000;
  for (uint64_t seed = 0; seed < kDraws; ++seed)
    generator.run({2}, 10, {.tokens = 1, .top_k = 3, .seed = seed}, [&](int32_t token) { ++counts[static_cast<size_t>(token)]; });
  for (size_t i = 0; i < 11; ++i) {
    const double sigma = std::sqrt(p[i] * (1 - p[i]) / kDraws);
    EXPECT_NEAR(counts[i] / static_cast<double>(kDraws), p[i], 4.5 * sigma + 1e-12) << i;
  }
}

}  // namespace
}  // namespace zerostep
