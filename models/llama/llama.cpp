#include "models/llama/llama.h"

#include "base/error.h"
#include "models/carried_tokens.h"
#include "models/definition_builder.h"
#include "models/llama/units.h"
#include "models/option_checks.h"
#include "models/unit_inputs.h"

namespace zerostep {

namespace {

void check_options(const LlamaOptions& o, const std::string& key_prefix) {
  const OptionChecks check(key_prefix);
  check.positive({{"hidden_size", o.hidden_size},
                  {"intermediate_size", o.intermediate_size},
                  {"num_hidden_layers", o.num_hidden_layers},
                  {"num_attention_heads", o.num_attention_heads},
                  {"max_position_embeddings", o.max_position_embeddings},
                  {"vocab_size", o.vocab_size}});
  if (o.num_labels < 0) fail_input("{}num_labels is {}; expected a positive number", key_prefix, o.num_labels);
  if (o.num_key_value_heads < 0) fail_input("{}num_key_value_heads is {}; expected a positive number", key_prefix, o.num_key_value_heads);
  check.divides({"num_attention_heads", o.num_attention_heads}, {"num_key_value_heads", o.key_value_heads()},
                "every head of keys serves as many of queries");
  if (o.head_dim == 0) check.divides({"hidden_size", o.hidden_size}, {"num_attention_heads", o.num_attention_heads}, kEqualHeads);
  if (o.head_width() <= 0 || o.head_width() % 2 != 0) {
    fail_input("{}head_dim is {}; expected an even positive number: rotary positions turn pairs of values", key_prefix, o.head_width());
  }
  const RotaryOptions& r = o.rope;
  check.above_zero("rope_theta", r.rope_theta);
  check.above_zero("rope_scaling.factor", r.factor);
  if (r.type != RotaryOptions::Type::Llama3) return;
  check.above_zero("rope_scaling.low_freq_factor", r.low_freq_factor);
  check.positive({{"rope_scaling.original_max_position_embeddings", r.original_max_position_embeddings}});
  if (!(r.high_freq_factor > r.low_freq_factor)) {
    fail_input("{}rope_scaling.high_freq_factor is {}; expected more than low_freq_factor {}", key_prefix, r.high_freq_factor,
               r.low_freq_factor);
  }
}

class Llama final : public ModelDefinition {
 public:
  Llama(const LlamaOptions& options, const std::string& key_prefix) : options_(options) {
    check_options(options, key_prefix);
    const int64_t width = options.hidden_size, inner = options.intermediate_size, head = options.head_width();
    const int64_t queries = options.num_attention_heads * head, keys = options.key_value_heads() * head;
    const ParameterInit zeros, ones{ParameterInit::Kind::Ones},
        normal{ParameterInit::Kind::Normal, static_cast<float>(options.initializer_range)};

    DefinitionBuilder to(units_);
    // Its gradient is that of its rows alone: no weight is read.
    to.begin_unit("embedding").backward_needs_parameters = false;
    to.add("model.embed_tokens.weight", {options.vocab_size, width}, normal).overwritten_gradient = !options.ties_head();

    for (int64_t i = 0; i < options.num_hidden_layers; ++i) {
      to.begin_unit(fmt::format("layers.{}", i));
      const std::string prefix = layer_prefix(i);
      const auto affine = [&](const char* name, int64_t out, int64_t in, bool bias) {
        to.add(fmt::format("{}self_attn.{}.weight", prefix, name), {out, in}, normal);
        if (bias) to.add(fmt::format("{}self_attn.{}.bias", prefix, name), {out}, zeros);
      };
      affine("q_proj", queries, width, options.input_bias());
      affine("k_proj", keys, width, options.input_bias());
      affine("v_proj", keys, width, options.input_bias());
      affine("o_proj", width, queries, options.output_bias());
      to.add(prefix + "mlp.gate_proj.weight", {inner, width}, normal);
      to.add(prefix + "mlp.up_proj.weight", {inner, width}, normal);
      to.add(prefix + "mlp.down_proj.weight", {width, inner}, normal);
      to.add(prefix + "input_layernorm.weight", {width}, ones);
      to.add(prefix + "post_attention_layernorm.weight", {width}, ones);
    }

    to.begin_unit("head");
    to.add("model.norm.weight", {width}, ones);
    if (options.num_labels > 0) {
      to.add("score.weight", {options.num_labels, width}, normal);
    } else if (options.ties_head()) {
      units_.back().borrowed.push_back({.unit = 0, .parameter = 0, .overwritten_gradient = true, .name = "lm_head.weight"});
    } else {
      to.add("lm_head.weight", {options.vocab_size, width}, normal);
    }
    for (UnitInfo& unit : units_)
      for (ParameterInfo& parameter : unit.parameters) parameter.out_by_in = parameter.shape.size() == 2;
  }

  std::unique_ptr<Unit> make_unit(int index, std::vector<at::Tensor> parameters) const override {
    check_parameters(unit(index), parameters);
    return llama::make_unit(options_, index, parameters);
  }

  ActivationCost activation_cost(int index, const ActivationShape& shape) const override {
    return llama::unit_cost({shape, options_}, index);
  }

  std::optional<ActivationCost> factors_cost(const ActivationShape& shape) const override {
    if (options_.num_labels > 0) return std::nullopt;
    return llama::final_norm_cost({shape, options_});
  }

  std::string hugging_face_config() const override { return llama_hugging_face_config(options_); }
  std::vector<std::string> reduced_scope() const override {
    const std::string last = layer_prefix(options_.num_hidden_layers - 1);
    return {last + "post_attention_layernorm.*", last + "mlp.*", "model.norm.*",
            options_.ties_head() ? "model.embed_tokens.weight" : head_matrix()};
  }
  std::vector<std::string> embeddings_and_head() const override {
    std::vector<std::string> names{"model.embed_tokens.weight"};
    if (!options_.ties_head()) names.emplace_back(head_matrix());
    return names;
  }
  int64_t vocabulary_size() const override { return options_.vocab_size; }
  int64_t max_sequence_length() const override { return options_.max_position_embeddings; }
  int64_t num_classes() const override { return options_.num_labels; }
  std::vector<std::string> class_names() const override { return options_.class_names; }
  void name_classes(const std::vector<std::string>& names) override {
    if (std::ssize(names) == num_classes()) options_.class_names = names;
  }
  std::optional<int32_t> padding_token() const override { return carried_token(options_.carried, "pad_token_id"); }

 private:
  const char* head_matrix() const { return options_.num_labels > 0 ? "score.weight" : "lm_head.weight"; }
  static std::string layer_prefix(int64_t layer) { return fmt::format("model.layers.{}.", layer); }

  LlamaOptions options_;
};

}  // namespace

std::unique_ptr<ModelDefinition> make_llama(const LlamaOptions& options, const std::string& key_prefix) {
  return std::make_unique<Llama>(options, key_prefix);
}

}  // namespace zerostep
