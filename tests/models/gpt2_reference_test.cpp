#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/models/support/gpt2_model.h"

// Hugging Face's GPT2LMHeadModel in float64 on weights given by a formula; the constants are printed by tests/models/reference/gpt2.py.
namespace zerostep {
namespace {

Gpt2Options tiny(bool tied) {
  Gpt2Options o;
  o.n_layer = 2, o.n_embd = 8, o.n_head = 2, o.n_positions = 7, o.vocab_size = 11;
  o.resid_pdrop = o.embd_pdrop = o.attn_pdrop = 0;
  o.tie_word_embeddings = tied;
  return o;
}

struct Gradient {
  const char* name;
  double norm, projection;  // on cos(0.11 i)
};
struct Reference {
  bool tied, masked;
  std::vector<double> logits;  // [1, 5, :4]
  double logits_sum, loss;
  std::vector<Gradient> gradients;
};

const std::vector<Reference> kReferences = {
    {true,
     false,
     {-0.5736197, 0.8342068, -1.0673607, 1.265414},
     -4.48454,
     31.605693,
     {{"transformer.wte.weight", 38.9444, -10.63847},
      {"transformer.wpe.weight", 35.03973, -7.147272},
      {"transformer.h.0.ln_1.weight", 0.4792614, 0.1125967},
      {"transformer.h.0.ln_1.bias", 0.3001899, 0.0977304},
      {"transformer.h.0.attn.c_attn.weight", 12.81055, -1.835381},
      {"transformer.h.0.attn.c_attn.bias", 1.932501, 0.4897641},
      {"transformer.h.0.attn.c_proj.weight", 34.5228, 2.678685},
      {"transformer.h.0.attn.c_proj.bias", 25.79888, -0.4697011},
      {"transformer.h.0.ln_2.weight", 1.020197, -2.374273},
      {"transformer.h.0.ln_2.bias", 0.4546805, 0.1865491},
      {"transformer.h.0.mlp.c_fc.weight", 21.64787, 2.59985},
      {"transformer.h.0.mlp.c_fc.bias", 4.99875, 1.573319},
      {"transformer.h.1.mlp.c_proj.weight", 29.58226, -8.30703},
      {"transformer.h.1.mlp.c_proj.bias", 3.923077, 1.013618},
      {"transformer.ln_f.weight", 4.850246, 8.449335},
      {"transformer.ln_f.bias", 3.381313, -4.245658}}},
    {false,
     false,
     {0.619059, -0.3421542, 0.0539975, 0.235935},
     -3.257786,
     26.514933,
     {{"transformer.wte.weight", 41.43574, 0.7688411},
      {"transformer.h.0.attn.c_attn.weight", 10.47266, -1.587558},
      {"transformer.h.1.attn.c_proj.weight", 6.717714, 0.1779181},
      {"lm_head.weight", 10.1435, -7.772181}}},
    {true,
     true,
     {-0.6243857, 0.8823914, -1.1113794, 1.3038193},
     0,
     25.734345,
     {{"transformer.wte.weight", 36.06545, -14.47454},
      {"transformer.wpe.weight", 34.90976, -8.3564},
      {"transformer.h.0.attn.c_attn.weight", 6.815324, -0.2465355},
      {"transformer.h.1.mlp.c_fc.weight", 22.22024, 3.624519},
      {"transformer.h.1.mlp.c_proj.weight", 20.5938, 7.851962}}},
};

// Of a gradient's norm. Measured in float64: rounding the weights once (relative 2^-24) moves these gradients by up to 1,970 x 2^-24 of
// their norm, because LayerNorms over 8 values amplify, so fp32 can give no more whatever order it sums in.
constexpr double kGradientTolerance = 2000 * 0x1p-24;

class Gpt2Reference : public testing::TestWithParam<size_t> {};

TEST_P(Gpt2Reference, LogitsLossAndGradientsAreThoseOfHuggingFace) {
  const Reference& r = kReferences[GetParam()];
  Gpt2Model model = make_model(tiny(r.tied), fill_by_formula);
  EXPECT_EQ(model.definition->num_elements(), r.tied ? 1904 : 1992);
  Batch batch;
  batch.tokens = (at::arange(12) * 5).remainder(11).view({2, 6});
  batch.labels = (at::arange(12) * 7).remainder(11).view({2, 6});
  batch.labels[0][2] = -100;
  if (r.masked) {
    batch.mask = at::ones({2, 6}, at::kBool);
    batch.mask[0][0] = batch.mask[1][3] = false;
    batch.labels.masked_fill_(batch.mask.logical_not(), -100);
  }
  const TensorList outputs = model.forward({&batch, true});
  for (size_t i = 0; i < r.logits.size(); ++i) EXPECT_NEAR(outputs[0][1][5][i].item<double>(), r.logits[i], 3e-6);
  if (!r.masked) {
    EXPECT_NEAR(outputs[0].sum().item<double>(), r.logits_sum, 3e-5);
  }
  const at::Tensor loss = make_cross_entropy()->sum(batch, outputs);
  EXPECT_NEAR(loss.item<double>(), r.loss, 1e-6 * r.loss);
  loss.backward();
  for (const Gradient& expected : r.gradients) {
    const at::Tensor g = model.parameter(expected.name).grad().flatten().to(at::kDouble);
    EXPECT_NEAR(g.norm().item<double>(), expected.norm, kGradientTolerance * expected.norm) << expected.name;
    const double projection = (g * at::cos(0.11 * at::arange(g.numel(), at::kDouble))).sum().item<double>();
    EXPECT_NEAR(projection, expected.projection, kGradientTolerance * expected.norm) << expected.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Gpt2Reference, testing::Range<size_t>(0, kReferences.size()));

}  // namespace
}  // namespace zerostep
