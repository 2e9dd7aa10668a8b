#include "models/bert/bert.h"

#include <array>

#include "base/error.h"
#include "models/bert/units.h"
#include "models/carried_tokens.h"
#include "models/definition_builder.h"
#include "models/option_checks.h"
#include "models/unit_inputs.h"

namespace zerostep {

namespace {

using Kind = BertOptions::Kind;

void check_options(const BertOptions& o, const std::string& key_prefix) {
  const OptionChecks check(key_prefix);
  const BertKeys& keys = bert_keys(o.kind);
  check.positive({{keys.width, o.hidden_size},
                  {keys.inner, o.intermediate_size},
                  {keys.layers, o.num_hidden_layers},
                  {keys.heads, o.num_attention_heads},
                  {"max_position_embeddings", o.max_position_embeddings},
                  {"vocab_size", o.vocab_size}});
  if (o.has_types()) check.positive({{"type_vocab_size", o.type_vocab_size}});
  if (!o.predicts_tokens()) check.positive({{"num_labels", o.num_labels}});
  check.divides({keys.width, o.hidden_size}, {keys.heads, o.num_attention_heads}, kEqualHeads);
  check.probabilities({{keys.hidden_dropout, o.hidden_dropout_prob},
                       {keys.attention_dropout, o.attention_probs_dropout_prob},
                       {keys.head_dropout, o.head_dropout()}});
  if (o.kind != Kind::Roberta) return;
  if (o.padding_token < 0 || o.padding_token >= o.vocab_size)
    fail_input("{}pad_token_id is {}; expected a token of the vocabulary, from 0 to {}", key_prefix, o.padding_token, o.vocab_size - 1);
  if (o.longest_sample() < 1)
    fail_input(
        "{}max_position_embeddings is {}; expected at least {}: a RoBERTa counts positions from pad_token_id + 1, and the first {} are no "
        "token's",
        key_prefix, o.max_position_embeddings, o.first_position() + 1, o.first_position());
}

// Names of the parameters of a kind, those of layers behind layer_prefix().
struct Names {
  std::string model;   // what all but the head have in front
  const char* layers;  // behind it
  std::array<const char*, 4> attention;
  const char *attention_norm, *up, *down, *norm;
  // Of the classifier: the dense layer before it and its own.
  std::string dense, classifier;
  // Of the prediction of words.
  const char *word_dense, *word_norm, *word_bias, *word_table;
};
Names names_of(Kind kind) {
  if (kind == Kind::DistilBert)
    return {"distilbert.",           "transformer",      {"attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"},
            "sa_layer_norm",         "ffn.lin1",         "ffn.lin2",
            "output_layer_norm",     "pre_classifier",   "classifier",
            "vocab_transform",       "vocab_layer_norm", "vocab_projector.bias",
            "vocab_projector.weight"};
  Names names{"bert.",
              "encoder",
              {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"},
              "attention.output.LayerNorm",
              "intermediate.dense",
              "output.dense",
              "output.LayerNorm",
              "bert.pooler.dense",
              "classifier",
              "cls.predictions.transform.dense",
              "cls.predictions.transform.LayerNorm",
              "cls.predictions.bias",
              "cls.predictions.decoder.weight"};
  if (kind == Kind::Bert) return names;
  names.model = "roberta.";
  names.dense = "classifier.dense", names.classifier = "classifier.out_proj";
  names.word_dense = "lm_head.dense", names.word_norm = "lm_head.layer_norm", names.word_bias = "lm_head.bias";
  names.word_table = "lm_head.decoder.weight";
  return names;
}

class Bert final : public ModelDefinition {
 public:
  Bert(const BertOptions& options, const std::string& key_prefix) : options_(options), names_(names_of(options.kind)) {
    check_options(options, key_prefix);
    const int64_t width = options.hidden_size, inner = options.intermediate_size;
    const ParameterInit zeros, ones{ParameterInit::Kind::Ones},
        normal{ParameterInit::Kind::Normal, static_cast<float>(options.initializer_range)};

    DefinitionBuilder to(units_);
    const auto affine = [&](const std::string& name, int64_t out, int64_t in) {
      to.add(name + ".weight", {out, in}, normal);
      to.add(name + ".bias", {out}, zeros);
    };
    const auto norm = [&](const std::string& name) {
      to.add(name + ".weight", {width}, ones);
      to.add(name + ".bias", {width}, zeros);
    };
    const std::string embeddings = names_.model + "embeddings.";
    to.begin_unit("embedding");
    to.add(embeddings + "word_embeddings.weight", {options.vocab_size, width}, normal).overwritten_gradient = !options.predicts_tokens();
    // As transformers registers them (EmbeddingPlaces of units.cpp).
    const auto positions = [&] {
      to.add(embeddings + "position_embeddings.weight", {options.max_position_embeddings, width},
             options.sinusoidal_positions ? ParameterInit{ParameterInit::Kind::Sinusoids} : normal);
    };
    if (options.kind != Kind::Roberta) positions();
    if (options.has_types()) to.add(embeddings + "token_type_embeddings.weight", {options.type_vocab_size, width}, normal);
    norm(embeddings + "LayerNorm");
    if (options.kind == Kind::Roberta) positions();
    for (int64_t i = 0; i < options.num_hidden_layers; ++i) {
      to.begin_unit(fmt::format("layer.{}", i));
      const std::string prefix = layer_prefix(i);
      for (const char* name : names_.attention) affine(prefix + name, width, width);
      norm(prefix + names_.attention_norm);
      affine(prefix + names_.up, inner, width);
      affine(prefix + names_.down, width, inner);
      norm(prefix + names_.norm);
    }
    to.begin_unit("head");
    if (options.predicts_tokens()) {
      const bool bias_last = options.kind == Kind::DistilBert;
      if (!bias_last) to.add(names_.word_bias, {options.vocab_size}, zeros);
      affine(names_.word_dense, width, width);
      norm(names_.word_norm);
      if (bias_last) to.add(names_.word_bias, {options.vocab_size}, zeros);
      units_.back().borrowed.push_back({.unit = 0, .parameter = 0, .overwritten_gradient = true, .name = names_.word_table});
    } else {
      if (options.pooling == BertOptions::Pooling::First) affine(names_.dense, width, width);
      affine(names_.classifier, options.num_labels, width);
    }
    for (UnitInfo& unit : units_)
      for (ParameterInfo& parameter : unit.parameters) parameter.out_by_in = parameter.shape.size() == 2;
  }

  std::unique_ptr<Unit> make_unit(int index, std::vector<at::Tensor> parameters) const override {
    check_parameters(unit(index), parameters);
    return bert::make_unit(options_, index, parameters);
  }

  ActivationCost activation_cost(int index, const ActivationShape& shape) const override {
    return bert::unit_cost({shape, options_}, index);
  }

  std::string hugging_face_config() const override { return bert_hugging_face_config(options_); }
  std::vector<std::string> reduced_scope() const override {
    const std::string last = layer_prefix(options_.num_hidden_layers - 1);
    std::vector<std::string> patterns{last + names_.up + ".*", last + names_.down + ".*", last + names_.norm + ".*"};
    const auto add = [&](const std::string& name) { patterns.push_back(name + ".*"); };
    if (options_.predicts_tokens()) {
      add(names_.word_dense);
      add(names_.word_norm);
      patterns.insert(patterns.end(), {names_.word_bias, names_.model + "embeddings.word_embeddings.weight"});
      return patterns;
    }
    if (options_.pooling == BertOptions::Pooling::First) add(names_.dense);
    add(names_.classifier);
    return patterns;
  }
  std::vector<std::string> embeddings_and_head() const override {
    const std::string embeddings = names_.model + "embeddings.";
    std::vector<std::string> names{embeddings + "word_embeddings.weight", embeddings + "position_embeddings.weight"};
    if (options_.has_types()) names.push_back(embeddings + "token_type_embeddings.weight");
    if (!options_.predicts_tokens()) names.push_back(names_.classifier + ".weight");
    return names;
  }
  int64_t vocabulary_size() const override { return options_.vocab_size; }
  int64_t max_sequence_length() const override { return options_.longest_sample(); }
  int64_t num_classes() const override { return options_.predicts_tokens() ? 0 : options_.num_labels; }
  std::vector<std::string> class_names() const override { return options_.class_names; }
  void name_classes(const std::vector<std::string>& names) override {
    if (std::ssize(names) == num_classes()) options_.class_names = names;
  }
  std::optional<int32_t> padding_token() const override {
    if (options_.kind == Kind::Roberta) return static_cast<int32_t>(options_.padding_token);
    return carried_token(options_.carried, "pad_token_id");
  }
  bool predicts_next_token() const override { return false; }

 private:
  std::string layer_prefix(int64_t layer) const { return fmt::format("{}{}.layer.{}.", names_.model, names_.layers, layer); }

  BertOptions options_;
  Names names_;
};

}  // namespace

std::unique_ptr<ModelDefinition> make_bert(const BertOptions& options, const std::string& key_prefix) {
  return std::make_unique<Bert>(options, key_prefix);
}

}  // namespace zerostep
