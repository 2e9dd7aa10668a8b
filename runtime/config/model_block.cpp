#include <filesystem>

#include "runtime/config/values.h"

namespace zerostep::schema {

namespace fs = std::filesystem;

ModelOptions model_options_of(const Values& values) {
  constexpr std::string_view kBlock = "model.";
  const bool from_directory = values.has("model.path");
  const std::string where = from_directory ? (fs::path(values.text("model.path")) / "config.json").string() : "model";
  nlohmann::json config =
      from_directory ? read_model_config(values.text("model.path")) : nlohmann::json{{"model_type", values.text("model.family")}};
  for (const auto& [path, value] : values.all()) {
    if (!path.starts_with(kBlock)) continue;
    const std::string name = path.substr(kBlock.size());
    if (name == "fresh_classifier") continue;
    const bool beside = name.ends_with("_pdrop") || name.ends_with("_dropout_prob") || name == "num_labels" || name == "classifier_pooling";
    if (!from_directory || beside) config[name] = value.value;
  }
  const bool has_vocabulary = config.contains("vocab_size");
  ModelOptions options = parse_model_options(config, where);
  if (!from_directory && !has_vocabulary) set_vocabulary(options, 0);
  if (auto* bert = std::get_if<BertOptions>(&options)) {
    bert->head = values.has("data.template") ? BertOptions::Head::MaskedLanguageModel : BertOptions::Head::Classifier;
    if (values.has("model.fresh_classifier") && values.boolean("model.fresh_classifier")) bert->class_names.clear();
  }
  return options;
}

}  // namespace zerostep::schema
