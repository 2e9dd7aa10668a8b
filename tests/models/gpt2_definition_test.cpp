#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "base/error.h"
#include "models/gpt2/gpt2.h"

namespace zerostep {
namespace {

TEST(Gpt2Definition, PresetsHaveTheirSizes) {
  const auto count = [](const Gpt2Preset& p) {
    Gpt2Options o;
    o.n_layer = p.n_layer, o.n_embd = p.n_embd, o.n_head = p.n_head, o.n_positions = p.n_positions;
    return make_gpt2(o)->num_elements();
  };
  std::map<std::string, int64_t> counts;
  for (const Gpt2Preset& p : gpt2_presets()) counts[p.name] = count(p);
  // By hand: 12 L C^2 + 13 L C + (V + P + 2) C.
  EXPECT_EQ(
      counts,
      (std::map<std::string, int64_t>{
          {"gpt2-20M", 17735936}, {"gpt2-200M", 124439808}, {"gpt2-500M", 354823168}, {"gpt2-800M", 872053248}, {"gpt2-1B", 1065758400}}));
}

TEST(Gpt2Definition, NamesShapesAndIndicesAreHuggingFaces) {
  Gpt2Options o;
  o.n_layer = 2, o.n_embd = 8, o.n_head = 2, o.n_positions = 7, o.vocab_size = 11;
  for (const bool tied : {true, false}) {
    o.tie_word_embeddings = tied;
    const auto model = make_gpt2(o);
    std::vector<std::string> units, names;
    int64_t first = 0;
    for (const UnitInfo& unit : model->units()) {
      units.push_back(unit.name);
      for (const ParameterInfo& p : unit.parameters) {
        EXPECT_EQ(p.first, first) << p.name;
        EXPECT_TRUE(p.trainable);
        first += p.num_elements();
        names.push_back(p.name);
      }
    }
    EXPECT_EQ(units, (std::vector<std::string>{"embedding", "h.0", "h.1", "head"}));
    std::vector<std::string> expected = {"transformer.wte.weight", "transformer.wpe.weight"};
    for (const char* block : {"transformer.h.0.", "transformer.h.1."}) {
      for (const char* name :
           {"ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias", "ln_2.weight",
            "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"}) {
        expected.push_back(std::string(block) + name);
      }
    }
    expected.insert(expected.end(), {"transformer.ln_f.weight", "transformer.ln_f.bias"});
    if (!tied) expected.push_back("lm_head.weight");
    EXPECT_EQ(names, expected);
    EXPECT_EQ(first, model->num_elements());
    EXPECT_EQ(model->units()[1].parameters[2].shape, (std::vector<int64_t>{8, 24}));
    EXPECT_EQ(model->units()[1].parameters[10].shape, (std::vector<int64_t>{32, 8}));
    EXPECT_EQ(model->units()[3].borrowed.size(), tied ? 1 : 0);
    EXPECT_FALSE(model->units()[0].backward_needs_parameters);
    // The embedding adds to what a tied head has written.
    EXPECT_EQ(model->units()[0].parameters[0].overwritten_gradient, !tied);
  }
}

TEST(Gpt2Definition, ContradictionsAreRefused) {
  const auto refused = [](auto change) {
    Gpt2Options o;
    change(o);
    EXPECT_THROW(make_gpt2(o), InputError);
  };
  refused([](Gpt2Options& o) { o.n_head = 5; });
  refused([](Gpt2Options& o) { o.n_layer = 0; });
  refused([](Gpt2Options& o) { o.vocab_size = -1; });
  refused([](Gpt2Options& o) { o.n_inner = -4; });
  refused([](Gpt2Options& o) { o.resid_pdrop = 1.5; });
  refused([](Gpt2Options& o) { o.attn_pdrop = std::numeric_limits<double>::quiet_NaN(); });
}

}  // namespace
}  // namespace zerostep
