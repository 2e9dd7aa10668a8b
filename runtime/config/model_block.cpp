#include <filesystem>

#include "models/architecture_names.h"
#include "runtime/config/values.h"

namespace zerostep::schema {

namespace fs = std::filesystem;
namespace {

// What a run may say of a model whose directory says the rest.
bool is_beside_directory(const std::string& name, const std::string& type) {
  if (type == "distilbert" && (name == "dropout" || name == "seq_classif_dropout")) return true;
  return name.ends_with("_pdrop") || name.ends_with("_dropout_prob") || name == "attention_dropout" || name == "num_labels" ||
         name == "classifier_pooling";
}

// The architecture of a decoder is the one that the run asks for, whatever its directory was saved as: with a prompt it predicts tokens, as
// with the task "causal_lm", and "classification" without one gives it a score head.
void choose_head(const Values& values, const std::string& type, nlohmann::json& config) {
  if (type != "gpt2" && type != "llama" && type != "qwen2") return;
  const bool has_task = values.has("model.task"), prompted = values.has("data.template");
  if (has_task && !prompted && values.text("model.task") == "classification") {
    config["architectures"] = {sequence_classification(type)};
  } else if (has_task || prompted) {
    config.erase("architectures");
  }
}

}  // namespace

ModelOptions model_options_of(const Values& values) {
  constexpr std::string_view kBlock = "model.";
  const bool from_directory = values.has("model.path");
  const std::string where = from_directory ? (fs::path(values.text("model.path")) / "config.json").string() : "model";
  nlohmann::json config =
      from_directory ? read_model_config(values.text("model.path")) : nlohmann::json{{"model_type", values.text("model.family")}};
  const std::string type = config.contains("model_type") && config["model_type"].is_string() ? config["model_type"].get<std::string>() : "";
  for (const auto& [path, value] : values.all()) {
    if (!path.starts_with(kBlock)) continue;
    const std::string name = path.substr(kBlock.size());
    if (name == "fresh_classifier") continue;
    if (!from_directory || is_beside_directory(name, type)) config[name] = value.value;
  }
  choose_head(values, type, config);
  const bool has_vocabulary = config.contains("vocab_size");
  ModelOptions options = parse_model_options(config, where);
  if (!from_directory && !has_vocabulary) set_vocabulary(options, 0);
  if (auto* bert = std::get_if<BertOptions>(&options))
    bert->head = values.has("data.template") ? BertOptions::Head::MaskedLanguageModel : BertOptions::Head::Classifier;
  if (values.has("model.fresh_classifier") && values.boolean("model.fresh_classifier"))
    std::visit([](auto& o) { o.class_names.clear(); }, options);
  return options;
}

}  // namespace zerostep::schema
