#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "models/model_options.h"
#include "models/objective.h"
#include "tests/models/support/reference_case.h"

// Hugging Face's GPT2ForSequenceClassification, LlamaForSequenceClassification and Qwen2ForSequenceClassification in float64 on weights
// given by a formula, with padding that a mask hides and that none hides: tests/models/reference/scores.py.
namespace zerostep {
namespace {

constexpr const char* kFile = "scores.json";

// Of a gradient's norm, as llama_reference_test.cpp argues of the same units.
constexpr double kGradientTolerance = 1e-4;

at::Tensor tensor_of(const nlohmann::json& rows) {
  std::vector<at::Tensor> out;
  for (const auto& row : rows) out.push_back(at::tensor(row.get<std::vector<int64_t>>(), at::kLong));
  return at::stack(out);
}

class ScoreReference : public testing::TestWithParam<size_t> {};

TEST_P(ScoreReference, ParametersLogitsLossAndGradientsAreThoseOfHuggingFace) {
  const auto& r = reference_cases(kFile).at(GetParam());
  WholeModel model = make_model(make_model(parse_model_options(r.at("config"), "config.json")), fill_by_formula);
  expect_parameters(model, r);
  const int64_t classes = model.definition->num_classes();
  ASSERT_EQ(static_cast<size_t>(classes), r.at("logits").at(0).size());
  Batch batch;
  batch.tokens = tensor_of(r.at("tokens"));
  if (!r.at("mask").is_null()) batch.mask = tensor_of(r.at("mask")).to(at::kBool);
  batch.labels = at::tensor(r.at("labels").get<std::vector<int64_t>>(), at::kLong).unsqueeze(1);
  // A mask of ends alone costs a causal model no pairs.
  for (const bool said : {false, true}) {
    batch.pads_ends = said;
    for (auto& p : model.all_parameters()) p.mutable_grad().reset();
    const TensorList outputs = model.forward({&batch, true});
    ASSERT_EQ(outputs[0].sizes(), (std::vector<int64_t>{batch.tokens.size(0), classes}));
    for (int64_t row = 0; row < outputs[0].size(0); ++row)
      for (int64_t c = 0; c < classes; ++c)
        EXPECT_NEAR(outputs[0][row][c].item<double>(), r.at("logits").at(static_cast<size_t>(row)).at(static_cast<size_t>(c)), 1e-5);
    const at::Tensor loss = make_cross_entropy(Labelled::Samples)->sum(batch, outputs);
    EXPECT_NEAR(loss.item<double>(), r.at("loss"), 1e-6 * r.at("loss").get<double>() + 1e-6);
    loss.backward();
    expect_gradients(model, r, kGradientTolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(All, ScoreReference, testing::Range<size_t>(0, 6),
                         [](const auto& info) { return names_of_cases(kFile).at(info.param); });

// Whatever fills a sample up and whatever of it a mask hides, its last token is that of the sample alone.
TEST(ScoreHead, FindsTheLastTokenThatIsNoPadding) {
  for (const bool has_padding : {true, false}) {
    Gpt2Options options;
    options.n_layer = 1, options.n_embd = 24, options.n_head = 2, options.n_positions = 12, options.vocab_size = 31, options.num_labels = 3;
    if (has_padding) options.carried = R"({"pad_token_id": 7})";
    WholeModel model = make_random_model(make_model(options), 1);
    EXPECT_EQ(model.definition->padding_token(), has_padding ? std::optional<int32_t>(7) : std::nullopt);
    const auto logits_of = [&](std::vector<int64_t> tokens, std::vector<int64_t> mask) {
      const at::NoGradGuard no_grad;
      Batch batch;
      batch.tokens = at::tensor(tokens, at::kLong).unsqueeze(0);
      if (!mask.empty()) batch.mask = at::tensor(mask, at::kLong).to(at::kBool).unsqueeze(0);
      return model.forward({&batch})[0];
    };
    const at::Tensor expected = logits_of({3, 7, 5, 9}, {});
    EXPECT_EQ(expected.sizes(), (std::vector<int64_t>{1, 3}));
    EXPECT_LT(relative_distance(logits_of({3, 7, 5, 9, 11, 11}, {1, 1, 1, 1, 0, 0}), expected), 1e-6);
    EXPECT_LT(relative_distance(logits_of({3, 7, 5, 9, 7, 7}, {1, 1, 1, 1, 0, 0}), expected), 1e-6);
    // Seen, it is a token where no padding is named.
    if (has_padding) {
      EXPECT_LT(relative_distance(logits_of({3, 7, 5, 9, 7, 7}, {}), expected), 1e-6);
      EXPECT_LT(relative_distance(logits_of({7, 7, 7}, {}), logits_of({7}, {})), 1e-6);
    } else {
      EXPECT_GT(relative_distance(logits_of({3, 7, 5, 9, 7, 7}, {}), expected), 1e-3);
    }
  }
}

}  // namespace
}  // namespace zerostep
