#include "models/bert/bert.h"

#include "models/bert/units.h"
#include "models/definition_builder.h"
#include "models/option_checks.h"
#include "models/unit_inputs.h"

namespace zerostep {

namespace {

void check_options(const BertOptions& o, const std::string& key_prefix) {
  const OptionChecks check(key_prefix);
  check.positive({{"hidden_size", o.hidden_size},
                  {"intermediate_size", o.intermediate_size},
                  {"num_hidden_layers", o.num_hidden_layers},
                  {"num_attention_heads", o.num_attention_heads},
                  {"max_position_embeddings", o.max_position_embeddings},
                  {"type_vocab_size", o.type_vocab_size},
                  {"vocab_size", o.vocab_size}});
  if (!o.predicts_tokens()) check.positive({{"num_labels", o.num_labels}});
  check.divides({"hidden_size", o.hidden_size}, {"num_attention_heads", o.num_attention_heads}, kEqualHeads);
  check.probabilities({{"hidden_dropout_prob", o.hidden_dropout_prob},
                       {"attention_probs_dropout_prob", o.attention_probs_dropout_prob},
                       {"classifier_dropout", o.head_dropout()}});
}

class Bert final : public ModelDefinition {
 public:
  Bert(const BertOptions& options, const std::string& key_prefix) : options_(options) {
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
    to.begin_unit("embedding");
    to.add("bert.embeddings.word_embeddings.weight", {options.vocab_size, width}, normal).overwritten_gradient = !options.predicts_tokens();
    to.add("bert.embeddings.position_embeddings.weight", {options.max_position_embeddings, width}, normal);
    to.add("bert.embeddings.token_type_embeddings.weight", {options.type_vocab_size, width}, normal);
    norm("bert.embeddings.LayerNorm");
    for (int64_t i = 0; i < options.num_hidden_layers; ++i) {
      to.begin_unit(fmt::format("layer.{}", i));
      const std::string prefix = layer_prefix(i);
      for (const char* name : {"query", "key", "value"}) affine(fmt::format("{}attention.self.{}", prefix, name), width, width);
      affine(prefix + "attention.output.dense", width, width);
      norm(prefix + "attention.output.LayerNorm");
      affine(prefix + "intermediate.dense", inner, width);
      affine(prefix + "output.dense", width, inner);
      norm(prefix + "output.LayerNorm");
    }
    to.begin_unit("head");
    if (options.predicts_tokens()) {
      to.add("cls.predictions.bias", {options.vocab_size}, zeros);
      affine("cls.predictions.transform.dense", width, width);
      norm("cls.predictions.transform.LayerNorm");
      units_.back().borrowed.push_back({.unit = 0, .parameter = 0, .overwritten_gradient = true, .name = "cls.predictions.decoder.weight"});
    } else {
      if (options.pooling == BertOptions::Pooling::First) affine("bert.pooler.dense", width, width);
      affine("classifier", options.num_labels, width);
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
    if (options_.predicts_tokens())
      return {last + "intermediate.*", last + "output.*", "cls.predictions.*", "bert.embeddings.word_embeddings.weight"};
    std::vector<std::string> patterns{last + "intermediate.*", last + "output.*", "classifier.*"};
    if (options_.pooling == BertOptions::Pooling::First) patterns.insert(patterns.end() - 1, "bert.pooler.*");
    return patterns;
  }
  std::vector<std::string> embeddings_and_head() const override {
    std::vector<std::string> names{"bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight",
                                   "bert.embeddings.token_type_embeddings.weight"};
    if (!options_.predicts_tokens()) names.push_back("classifier.weight");
    return names;
  }
  int64_t vocabulary_size() const override { return options_.vocab_size; }
  int64_t max_sequence_length() const override { return options_.max_position_embeddings; }
  int64_t num_classes() const override { return options_.predicts_tokens() ? 0 : options_.num_labels; }
  std::vector<std::string> class_names() const override { return options_.class_names; }
  void name_classes(const std::vector<std::string>& names) override {
    if (std::ssize(names) == num_classes()) options_.class_names = names;
  }
  bool predicts_next_token() const override { return false; }

 private:
  static std::string layer_prefix(int64_t layer) { return fmt::format("bert.encoder.layer.{}.", layer); }

  BertOptions options_;
};

}  // namespace

std::unique_ptr<ModelDefinition> make_bert(const BertOptions& options, const std::string& key_prefix) {
  return std::make_unique<Bert>(options, key_prefix);
}

}  // namespace zerostep
