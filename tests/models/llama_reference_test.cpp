#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "models/model_options.h"
#include "models/objective.h"
#include "tests/models/support/reference_case.h"

// Hugging Face's LlamaForCausalLM and Qwen2ForCausalLM in float64 on weights given by a formula: tests/models/reference/llama.py.
namespace zerostep {
namespace {

constexpr const char* kFile = "llama.json";

// Of a gradient's norm. Measured in float64: rounding the weights once (relative 2^-24) moves these gradients by up to 201 x 2^-24 of their
// norm, an eighth part of this; fp32 rounds after each of some dozens of operations on the way as well.
constexpr double kGradientTolerance = 1e-4;

class LlamaReference : public testing::TestWithParam<size_t> {};

TEST_P(LlamaReference, ParametersLogitsLossAndGradientsAreThoseOfHuggingFace) {
  const auto& r = reference_cases(kFile).at(GetParam());
  WholeModel model = make_model(make_model(parse_model_options(r.at("config"), "config.json")), fill_by_formula);
  expect_parameters(model, r);
  const bool padded = r.at("padded");
  Batch batch;
  batch.tokens = (at::arange(18) * 5).remainder(23).view({2, 9});
  batch.labels = (at::arange(18) * 7).remainder(23).view({2, 9});
  batch.labels[0][2] = -100;
  if (padded) {
    batch.mask = at::ones({2, 9}, at::kBool);
    batch.mask[1].slice(0, 6) = false;
    batch.labels.masked_fill_(batch.mask.logical_not(), -100);
  }
  const TensorList outputs = model.forward({&batch, true});
  const auto& logits = r.at("logits");
  for (int64_t row = 0; row < 6; ++row) {
    const int64_t sample = row / 3, position = row % 3 * 4;
    if (padded && sample == 1 && position >= 6) continue;  // what padding predicts is nobody's business
    for (int64_t v = 0; v < 23; ++v)
      EXPECT_NEAR(outputs[0][sample][position][v].item<double>(), logits.at(static_cast<size_t>(row)).at(static_cast<size_t>(v)), 1e-5)
          << sample << " " << position << " " << v;
  }
  const at::Tensor loss = make_cross_entropy()->sum(batch, outputs);
  EXPECT_NEAR(loss.item<double>(), r.at("loss"), 1e-6 * r.at("loss").get<double>());
  loss.backward();
  expect_gradients(model, r, kGradientTolerance);
}

INSTANTIATE_TEST_SUITE_P(All, LlamaReference, testing::Range<size_t>(0, 6),
                         [](const auto& info) { return names_of_cases(kFile).at(info.param); });

}  // namespace
}  // namespace zerostep
