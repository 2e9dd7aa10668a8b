// What a model is: its sizes, its dropout, its task and what the key "auto" takes from them.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "models/gpt2/gpt2.h"
#include "runtime/config/deriver.h"

namespace zerostep::schema {
namespace {

using nlohmann::json;

constexpr int64_t kByteVocabulary = 257;

bool is_encoder(std::string_view family) { return has_word("bert|roberta|distilbert", family); }

bool holds_tokenizer(const std::string& directory) {
  for (const char* name : {"tokenizer.json", "vocab.json", "encoder.json", "vocab.txt", "tokenizer.model"})
    if (std::filesystem::exists(std::filesystem::path(directory) / name)) return true;
  return false;
}

}  // namespace

bool is_shorthand(const Values& values, std::string_view path) {
  const bool is_distilbert = values.has("model.family") && values.at("model.family") == "distilbert";
  return path == "model.preset" || (path == "model.dropout" && !is_distilbert);
}

bool Deriver::is_beside_path(std::string_view path) {
  return has_word(
      "model.path|model.task|model.num_labels|model.classifier_pooling|model.fresh_classifier|model.trainable|model.dropout|model.resid_"
      "pdrop|model.embd_pdrop|model.attn_pdrop|model.hidden_dropout_prob|model.attention_probs_dropout_prob|model.attention_dropout|"
      "model.seq_classif_dropout",
      path);
}

void Deriver::model_of_directory() {
  for (const auto& [path, value] : v_.all()) {
    if (path.starts_with("model.") && value.origin == Origin::Given && value.effective && !is_beside_path(path))
      findings_.error(path, "stands beside model.path, whose config.json says it: take one of them out");
  }
  try {
    spread_dropout(sizes_of(model_options_of(v_)).family);
  } catch (const InputError&) {  // said below
  }
  const std::string directory = v_.text("model.path");
  const bool takes_tokenizer = v_.find("data.tokenizer")->origin == Origin::Default && holds_tokenizer(directory);
  if (takes_tokenizer) v_.set("data.tokenizer", directory, Origin::Derived);
}

void Deriver::model_of_sizes() {
  if (v_.has("model.preset")) {
    const std::string name = v_.text("model.preset");
    if (family() != "gpt2") findings_.error("model.preset", fmt::format("is {}, and model.family is \"{}\"", shown(name), family()));
    for (const Gpt2Preset& preset : gpt2_presets()) {
      if (preset.name != name) continue;
      derived("model.n_layer", preset.n_layer);
      derived("model.n_embd", preset.n_embd);
      derived("model.n_head", preset.n_head);
      derived("model.n_positions", preset.n_positions);
      derived("model.vocab_size", Gpt2Options().vocab_size);
    }
  }
  const bool gpt2 = family() == "gpt2";
  std::string missing;
  for (std::string_view name : split_words(
           gpt2                       ? "n_layer|n_embd|n_head|n_positions"
           : family() == "distilbert" ? "n_layers|dim|hidden_dim|n_heads|max_position_embeddings"
                                      : "num_hidden_layers|hidden_size|intermediate_size|num_attention_heads|max_position_embeddings")) {
    if (!v_.has(fmt::format("model.{}", name))) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", name);
  }
  if (!missing.empty()) {
    return findings_.error("model", fmt::format("names no preset and lacks {}: give model.preset (gpt2-20M, ...), model.path, or "
                                                "model.family and these sizes",
                                                missing));
  }
  if (v_.text("data.tokenizer") == "byte") derived("model.vocab_size", kByteVocabulary);
  if (!is_encoder(family()) && !v_.has("model.tie_word_embeddings")) v_.set("model.tie_word_embeddings", gpt2, Origin::Default);
  spread_dropout(family());
  for (std::string_view path : dropouts_of(family()))
    if (!v_.has(path)) v_.set(path, 0.0, Origin::Default);
  if (family() == "distilbert" && !v_.has("model.dropout")) v_.set("model.dropout", 0.0, Origin::Default);
  if (!gpt2) return;
  const int64_t width = v_.integer("model.n_embd"), heads = v_.integer("model.n_head");
  if (width % heads != 0) findings_.error("model.n_head", fmt::format("is {}, which does not divide n_embd {}", heads, width));
}

std::vector<std::string_view> Deriver::dropouts_of(std::string_view family) {
  if (family == "gpt2") return {"model.resid_pdrop", "model.embd_pdrop", "model.attn_pdrop"};
  if (family == "bert" || family == "roberta") return {"model.hidden_dropout_prob", "model.attention_probs_dropout_prob"};
  // model.dropout is a DistilBERT's own.
  if (family == "distilbert") return {"model.attention_dropout", "model.seq_classif_dropout"};
  return {};
}

void Deriver::spread_dropout(std::string_view family) {
  if (!v_.has("model.dropout")) return;
  const auto paths = dropouts_of(family);
  if (paths.empty() && v_.number("model.dropout") > 0)
    findings_.error("model.dropout", fmt::format("is given, and a model of family \"{}\" has none: take it out", family));
  for (std::string_view path : paths) derived(path, v_.number("model.dropout"));
}

void Deriver::tokenizer_of_directory() {
  if (v_.find("data.tokenizer")->origin != Origin::Default || sizes_->vocabulary == kByteVocabulary) return;
  const auto has_text = [&](std::string_view path) {
    const std::vector<std::string> files = files_of(v_.sources(path));
    return std::any_of(files.begin(), files.end(), [](const std::string& file) { return !file.ends_with(".bin"); });
  };
  if (std::any_of(kSourceLists.begin(), kSourceLists.end(), has_text))
    findings_.warn(
        fmt::format("{} holds no tokenizer, so texts become bytes (data.tokenizer \"byte\"), and the model's vocabulary of {} is another: "
                    "name the files of its tokenizer with data.tokenizer",
                    v_.text("model.path"), sizes_->vocabulary));
}

void Deriver::model() {
  const bool from_directory = v_.has("model.path");
  const size_t before = findings_.num_errors();
  from_directory ? model_of_directory() : model_of_sizes();
  if (findings_.num_errors() > before) return;
  try {
    sizes_ = sizes_of(model_options_of(v_));
  } catch (const InputError& error) {
    return findings_.error(from_directory ? "model.path" : "model", fmt::format("is not a model: {}", error.what()));
  }
  if (from_directory) {
    const auto said = [&](std::string_view name, json value) {
      const std::string path = fmt::format("model.{}", name);
      v_.set(path, std::move(value), Origin::Derived);
      v_.find(path)->written = false;
      v_.find(path)->note = "config.json of model.path";
    };
    said("family", sizes_->family);
    said(sizes_->layers_name, sizes_->layers);
    said(sizes_->width_name, sizes_->width);
    said(sizes_->heads_name, sizes_->heads);
    said(sizes_->positions_name, sizes_->positions);
    said("vocab_size", sizes_->vocabulary);
  }
  task();
  if (from_directory) tokenizer_of_directory();
  const int64_t width = sizes_->width;
  const double hidden = static_cast<double>(width) * static_cast<double>(width);
  const auto derive_size = [&](std::string_view path, double elements) {
    if (is_auto(path)) v_.set(path, static_cast<int64_t>(elements), Origin::Auto);
  };
  derive_size("zero_optimization.reduce_bucket_size", hidden);
  derive_size("zero_optimization.stage3_prefetch_bucket_size", 0.9 * hidden);
  derive_size("zero_optimization.stage3_param_persistence_threshold", 10.0 * static_cast<double>(width));
}

void Deriver::label_words() {
  const json& words = v_.at("data.label_words");
  const bool texts = std::all_of(words.begin(), words.end(), [](const json& word) { return word.is_string(); });
  if (!words.is_structured() || words.size() < 2 || !texts)
    findings_.error(
        "data.label_words",
        fmt::format("is {}; expected {{\"LABEL\": \"word\", ...}} or a list of words, one for each of two labels or more", shown(words)));
}

void Deriver::task() {
  const ModelOptions options = model_options_of(v_);
  const bool prompted = v_.has("data.template"), encoder = std::holds_alternative<BertOptions>(options);
  const bool classifies = prompted || std::visit([](const auto& o) { return o.num_labels > 0; }, options);
  if (prompted && v_.text("data.template").empty()) findings_.error("data.template", "is empty; expected a text with {text} and {label}");
  if (prompted != v_.has("data.label_words"))
    findings_.error(prompted ? "data.template" : "data.label_words",
                    fmt::format("is given without {}: a prompt needs both", prompted ? "data.label_words" : "data.template"));
  if (v_.has("data.label_words")) label_words();
  if (!v_.has("model.task")) v_.set("model.task", classifies ? "classification" : "causal_lm", Origin::Derived);
  if (classifies && v_.text("model.task") != "classification")
    findings_.error("model.task", encoder ? fmt::format("is \"causal_lm\", and a {} predicts no next token: use \"classification\"",
                                                        bert_name(std::get<BertOptions>(options).kind))
                                          : "is \"causal_lm\", and data.template makes classes of the words: use \"classification\"");
  // A resolved file says its default too.
  const auto asks = [&](std::string_view path) { return v_.has(path) && v_.at(path) != false; };
  if (asks("model.fresh_classifier") && !v_.has("model.path"))
    findings_.error("model.fresh_classifier", "is given without model.path: a model of sizes starts from first values anyway");
  for (std::string_view path : {"model.num_labels", "model.classifier_pooling", "model.fresh_classifier"}) {
    if (!asks(path)) continue;
    if (prompted) findings_.error(path, "is given, and data.label_words are the classes: take it out");
    if (!classifies)
      findings_.error(path,
                      fmt::format("is given, and a {} predicts tokens: set model.task to \"classification\" for a classifier of it, or "
                                  "take it out",
                                  family()));
  }
  // Beside a directory, whose family is known only now.
  for (const Key& key : keys())
    if (is_beside_path(key.path) && !key.of.empty() && !has_word(key.of, family()) && asks(key.path))
      findings_.error(key.path, fmt::format("is given, and a model of family \"{}\" has none: take it out", family()));
  if (classifies && v_.text("step.bp_data") == "split")
    findings_.error("step.bp_data",
                    "\"split\" does not work with classification: name other files for backprop (\"own\"), or use \"same\"");
}

}  // namespace zerostep::schema
