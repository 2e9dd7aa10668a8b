#include <gtest/gtest.h>
#include <torch/torch.h>

#include "models/model_options.h"
#include "models/objective.h"
#include "tests/models/support/reference_case.h"

// Hugging Face's BertForSequenceClassification, and its encoder under mean pooling, in float64 on weights given by a formula:
// tests/models/reference/bert.py.
namespace zerostep {
namespace {

constexpr const char* kFile = "bert.json";

class BertReference : public testing::TestWithParam<size_t> {};

TEST_P(BertReference, ParametersLogitsLossAndGradientsAreThoseOfHuggingFace) {
  const auto& r = reference_cases(kFile).at(GetParam());
  WholeModel model = make_model(make_model(parse_model_options(r.at("config"), "config.json")), fill_by_formula);
  expect_parameters(model, r);
  const int64_t classes = model.definition->num_classes();
  Batch batch;
  batch.tokens = (torch::arange(27) * 5).remainder(23).view({3, 9});
  batch.labels = torch::tensor({1, 0, 1}).remainder(classes).unsqueeze(1);
  if (r.at("padded")) {
    batch.mask = torch::ones({3, 9}, at::kBool);
    batch.mask[0].slice(0, 7) = false;
    batch.mask[2].slice(0, 4) = false;
  }
  if (r.at("typed")) {
    batch.token_types = torch::zeros({3, 9}, at::kLong);
    batch.token_types.slice(1, 3) = 1;
  }
  for (int64_t i = 0; i < 3; ++i) batch.sample_ids.push_back(i);
  const TensorList outputs = model.forward({&batch, true});
  ASSERT_EQ(outputs[0].sizes(), (std::vector<int64_t>{3, classes}));
  for (int64_t sample = 0; sample < 3; ++sample)
    for (int64_t c = 0; c < classes; ++c)
      EXPECT_NEAR(outputs[0][sample][c].item<double>(), r.at("logits").at(static_cast<size_t>(sample)).at(static_cast<size_t>(c)), 1e-5);
  const at::Tensor loss = make_cross_entropy(Labelled::Samples)->sum(batch, outputs);
  EXPECT_NEAR(loss.item<double>(), r.at("loss"), 1e-6 * r.at("loss").get<double>() + 1e-6);
  loss.backward();
  expect_gradients(model, r, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(All, BertReference, testing::Range<size_t>(0, 3),
                         [](const auto& info) { return names_of_cases(kFile).at(info.param); });

}  // namespace
}  // namespace zerostep
