#include "models/gpt2/gpt2.h"

#include <cmath>

#include "base/error.h"
#include "models/carried_tokens.h"
#include "models/definition_builder.h"
#include "models/gpt2/units.h"
#include "models/option_checks.h"
#include "models/unit_inputs.h"

namespace zerostep {

namespace {

void check_options(const Gpt2Options& o, const std::string& key_prefix) {
  const OptionChecks check(key_prefix);
  check.positive(
      {{"n_layer", o.n_layer}, {"n_embd", o.n_embd}, {"n_head", o.n_head}, {"n_positions", o.n_positions}, {"vocab_size", o.vocab_size}});
  if (o.num_labels < 0) fail_input("{}num_labels is {}; expected a positive number", key_prefix, o.num_labels);
  if (o.n_inner < 0) fail_input("{}n_inner is {}; expected a positive number, or 0 for 4 n_embd", key_prefix, o.n_inner);
  check.divides({"n_embd", o.n_embd}, {"n_head", o.n_head}, kEqualHeads);
  check.probabilities({{"resid_pdrop", o.resid_pdrop}, {"embd_pdrop", o.embd_pdrop}, {"attn_pdrop", o.attn_pdrop}});
}

class Gpt2 final : public ModelDefinition {
 public:
  Gpt2(const Gpt2Options& options, const std::string& key_prefix) : options_(options) {
    check_options(options, key_prefix);
    const int64_t width = options.n_embd, inner = options.inner_width(), vocabulary = options.vocab_size;
    const ParameterInit zeros, ones{ParameterInit::Kind::Ones},
        normal{ParameterInit::Kind::Normal, static_cast<float>(options.initializer_range)},
        residual{ParameterInit::Kind::Normal,
                 static_cast<float>(options.initializer_range / std::sqrt(2.0 * static_cast<double>(options.n_layer)))};

    DefinitionBuilder to(units_);
    // Its gradient is that of its rows alone: no weight is read.
    to.begin_unit("embedding").backward_needs_parameters = false;
    ParameterInfo& wte = to.add("transformer.wte.weight", {vocabulary, width}, normal);
    wte.overwritten_gradient = !options.ties_head();
    wte.out_by_in = true;
    to.add("transformer.wpe.weight", {options.n_positions, width}, normal);

    for (int64_t i = 0; i < options.n_layer; ++i) {
      to.begin_unit(fmt::format("h.{}", i));
      const std::string prefix = fmt::format("transformer.h.{}.", i);
      to.add(prefix + "ln_1.weight", {width}, ones);
      to.add(prefix + "ln_1.bias", {width}, zeros);
      to.add(prefix + "attn.c_attn.weight", {width, 3 * width}, normal);
      to.add(prefix + "attn.c_attn.bias", {3 * width}, zeros);
      to.add(prefix + "attn.c_proj.weight", {width, width}, residual);
      to.add(prefix + "attn.c_proj.bias", {width}, zeros);
      to.add(prefix + "ln_2.weight", {width}, ones);
      to.add(prefix + "ln_2.bias", {width}, zeros);
      to.add(prefix + "mlp.c_fc.weight", {width, inner}, normal);
      to.add(prefix + "mlp.c_fc.bias", {inner}, zeros);
      to.add(prefix + "mlp.c_proj.weight", {inner, width}, residual);
      to.add(prefix + "mlp.c_proj.bias", {width}, zeros);
    }

    to.begin_unit("head");
    to.add("transformer.ln_f.weight", {width}, ones);
    to.add("transformer.ln_f.bias", {width}, zeros);
    if (options.num_labels > 0) {
      to.add("score.weight", {options.num_labels, width}, normal).out_by_in = true;
    } else if (options.ties_head()) {
      units_.back().borrowed.push_back({.unit = 0, .parameter = 0, .overwritten_gradient = true, .name = "lm_head.weight"});
    } else {
      to.add("lm_head.weight", {vocabulary, width}, normal).out_by_in = true;
    }
  }

  std::unique_ptr<Unit> make_unit(int index, std::vector<at::Tensor> parameters) const override {
    check_parameters(unit(index), parameters);
    return gpt2::make_unit(options_, index, parameters);
  }

  ActivationCost activation_cost(int index, const ActivationShape& shape) const override {
    return gpt2::unit_cost({shape, options_}, index);
  }

  std::optional<ActivationCost> factors_cost(const ActivationShape& shape) const override {
    if (options_.num_labels > 0) return std::nullopt;
    return gpt2::final_norm_cost({shape, options_});
  }

  std::string hugging_face_config() const override { return gpt2_hugging_face_config(options_); }
  std::vector<std::string> reduced_scope() const override {
    const std::string last = fmt::format("transformer.h.{}.", options_.n_layer - 1);
    return {last + "ln_2.*", last + "mlp.*", "transformer.ln_f.*", options_.ties_head() ? "transformer.wte.weight" : head_matrix()};
  }
  std::vector<std::string> embeddings_and_head() const override {
    std::vector<std::string> names{"transformer.wte.weight", "transformer.wpe.weight"};
    if (!options_.ties_head()) names.emplace_back(head_matrix());
    return names;
  }
  int64_t vocabulary_size() const override { return options_.vocab_size; }
  int64_t max_sequence_length() const override { return options_.n_positions; }
  int64_t num_classes() const override { return options_.num_labels; }
  std::vector<std::string> class_names() const override { return options_.class_names; }
  void name_classes(const std::vector<std::string>& names) override {
    if (std::ssize(names) == num_classes()) options_.class_names = names;
  }
  std::optional<int32_t> padding_token() const override { return carried_token(options_.carried, "pad_token_id"); }

 private:
  const char* head_matrix() const { return options_.num_labels > 0 ? "score.weight" : "lm_head.weight"; }

  Gpt2Options options_;
};

}  // namespace

const std::vector<Gpt2Preset>& gpt2_presets() {
  static const std::vector<Gpt2Preset> presets = {
      {"gpt2-20M", 6, 256, 4, 512},      {"gpt2-200M", 12, 768, 12, 1024}, {"gpt2-500M", 24, 1024, 16, 1024},
      {"gpt2-800M", 28, 1536, 24, 1024}, {"gpt2-1B", 32, 1600, 25, 1024},
  };
  return presets;
}

std::unique_ptr<ModelDefinition> make_gpt2(const Gpt2Options& options, const std::string& key_prefix) {
  return std::make_unique<Gpt2>(options, key_prefix);
}

}  // namespace zerostep
