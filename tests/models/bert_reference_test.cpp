#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "models/model_options.h"
#include "models/objective.h"
#include "tests/models/support/reference_case.h"

// Hugging Face's BertForSequenceClassification, its encoder under mean pooling and BertForMaskedLM, and the same of RoBERTa and DistilBERT,
// in float64 on weights given by a formula: tests/models/reference/bert.py.
namespace zerostep {
namespace {

constexpr const char* kFile = "bert.json";

// Of a gradient's norm. Measured in float64: rounding the weights once (relative 2^-24) moves these gradients by up to 76 x 2^-24 of their
// norm, a 22nd part of this; fp32 rounds after each of some dozens of operations on the way as well.
constexpr double kGradientTolerance = 1e-4;

class BertReference : public testing::TestWithParam<size_t> {};

TEST_P(BertReference, ParametersLogitsLossAndGradientsAreThoseOfHuggingFace) {
  const auto& r = reference_cases(kFile).at(GetParam());
  WholeModel model = make_model(make_model(parse_model_options(r.at("config"), "config.json")), fill_by_formula);
  expect_parameters(model, r);
  const int64_t classes = model.definition->num_classes();
  Batch batch;
  batch.tokens = (at::arange(27) * 5).remainder(23).view({3, 9});
  const bool words = classes == 0;
  batch.labels = words ? (batch.tokens * 2).remainder(23) : at::tensor({1, 0, 1}, at::kLong).remainder(classes).unsqueeze(1);
  if (r.at("padded")) {
    batch.mask = at::ones({3, 9}, at::kBool);
    batch.mask[0].slice(0, 7) = false;
    batch.mask[2].slice(0, 4) = false;
  }
  if (r.at("typed")) {
    batch.token_types = at::zeros({3, 9}, at::kLong);
    batch.token_types.slice(1, 3) = 1;
  }
  for (int64_t i = 0; i < 3; ++i) batch.sample_ids.push_back(i);
  const TensorList outputs = model.forward({&batch, true});
  ASSERT_EQ(outputs[0].sizes(), words ? (std::vector<int64_t>{3, 9, 23}) : (std::vector<int64_t>{3, classes}));
  // Of words, every fourth token's.
  const at::Tensor logits = words ? outputs[0].flatten(0, 1).slice(0, 0, 27, 4) : outputs[0];
  ASSERT_EQ(static_cast<size_t>(logits.size(0)), r.at("logits").size());
  for (int64_t row = 0; row < logits.size(0); ++row)
    for (int64_t c = 0; c < logits.size(1); ++c)
      EXPECT_NEAR(logits[row][c].item<double>(), r.at("logits").at(static_cast<size_t>(row)).at(static_cast<size_t>(c)), 1e-5);
  const at::Tensor loss = make_cross_entropy(words ? Labelled::Tokens : Labelled::Samples)->sum(batch, outputs);
  EXPECT_NEAR(loss.item<double>(), r.at("loss"), 1e-6 * r.at("loss").get<double>() + 1e-6);
  loss.backward();
  expect_gradients(model, r, kGradientTolerance);
}

INSTANTIATE_TEST_SUITE_P(All, BertReference, testing::Range<size_t>(0, 9),
                         [](const auto& info) { return names_of_cases(kFile).at(info.param); });

}  // namespace
}  // namespace zerostep
