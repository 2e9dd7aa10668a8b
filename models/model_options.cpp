#include "models/model_options.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/program_name.h"
#include "models/architecture_names.h"
#include "models/bert/bert.h"
#include "models/gpt2/gpt2.h"
#include "models/hugging_face_keys.h"
#include "models/json_file.h"
#include "models/llama/llama.h"

namespace zerostep {

namespace {

using nlohmann::json;

constexpr std::array<const char*, 3> kSpecialTokens = {"bos_token_id", "eos_token_id", "pad_token_id"};

// The values of one JSON object, or the defaults that transformers has for them.
class Reader {
 public:
  // `asked`: gets the keys that are asked for.
  Reader(const json& object, std::string where, std::set<std::string>* asked = nullptr)
      : object_(object), where_(std::move(where)), asked_(asked) {}

  bool is_null(const char* key) const { return object_.contains(key) && object_[key].is_null(); }
  bool has(const char* key) const {
    if (asked_ != nullptr) asked_->insert(key);
    return object_.contains(key) && !object_[key].is_null();
  }
  template <typename T>
  T value(const char* key, T otherwise) const {
    if (!has(key)) return otherwise;
    const json& found = object_[key];
    const bool right = std::is_same_v<T, bool>          ? found.is_boolean()
                       : std::is_same_v<T, std::string> ? found.is_string()
                       : std::is_same_v<T, int64_t>     ? found.is_number_integer()
                                                        : found.is_number();
    if (!right) {
      fail_input("{}: {} is {}; expected {}", where_, key, found.dump(),
                 std::is_same_v<T, bool>          ? "true or false"
                 : std::is_same_v<T, std::string> ? "text"
                 : std::is_same_v<T, int64_t>     ? "a whole number"
                                                  : "a number");
    }
    return found.get<T>();
  }
  double number(const char* key) const {
    if (!has(key)) fail_input("{}: {} is missing; expected a number", where_, key);
    return value(key, 0.0);
  }
  template <typename T>
  void read(const char* key, T& target) const {
    target = value(key, target);
  }
  // Only one value of this key is here.
  template <typename T>
  void refuse(const char* key, T expected, const char* model) const {
    if (value(key, expected) != expected)
      fail_input("{}: {} is {}, which this {} does not have; expected {}", where_, key, object_[key].dump(), model, json(expected).dump());
  }
  void one_of(const char* key, const std::string& otherwise, std::initializer_list<const char*> names) const {
    const auto found = value<std::string>(key, otherwise);
    if (std::find(names.begin(), names.end(), found) != names.end()) return;
    std::string expected;
    for (const char* name : names) expected += fmt::format("{}\"{}\"", expected.empty() ? "" : " or ", name);
    fail_input("{}: {} is \"{}\"; expected {}", where_, key, found, expected);
  }
  Reader block(const char* key) const {
    if (!object_[key].is_object()) fail_input("{}: {} is {}; expected a block, {{ ... }}", where_, key, object_[key].dump());
    return {object_[key], fmt::format("{}: {}", where_, key)};
  }
  const json& at(const char* key) const { return object_[key]; }
  const std::string& where() const { return where_; }

 private:
  const json& object_;
  std::string where_;
  std::set<std::string>* asked_;
};

// The values of id2label in the order of their indices; none where they only number the classes (LABEL_0) or are incomplete.
std::vector<std::string> class_names(const json& id2label) {
  std::vector<std::string> names;
  bool numbered = true;
  for (size_t i = 0; i < id2label.size(); ++i) {
    const auto found = id2label.find(std::to_string(i));
    if (found == id2label.end() || !found->is_string()) return {};
    names.push_back(found->get<std::string>());
    numbered &= names.back() == fmt::format("LABEL_{}", i);
  }
  const std::set<std::string> different(names.begin(), names.end());
  return numbered || different.size() < names.size() ? std::vector<std::string>{} : names;
}

// The first name in architectures says which head stands on the model.
bool is_architecture(const Reader& c, const std::string& name) {
  if (!c.has("architectures")) return false;
  const json& names = c.at("architectures");
  return names.is_array() && !names.empty() && names.at(0) == name;
}

// Of a classifier of samples: as many classes as id2label or num_labels says, with their names.
template <typename Options>
void read_classes(const Reader& c, Options& o) {
  c.one_of("problem_type", "single_label_classification", {"single_label_classification"});
  o.num_labels = 2;
  if (c.has("id2label")) {
    if (!c.at("id2label").is_object()) fail_input("{}: id2label is {}; expected the names of classes", c.where(), c.at("id2label").dump());
    o.num_labels = static_cast<int64_t>(c.at("id2label").size());
    o.class_names = class_names(c.at("id2label"));
  }
  c.read("num_labels", o.num_labels);
  if (std::ssize(o.class_names) != o.num_labels) o.class_names.clear();
}

// A decoder with a score head has classes; none of them: it predicts tokens.
template <typename Options>
void read_score_head(const Reader& c, const char* type, Options& o) {
  if (is_architecture(c, sequence_classification(type))) read_classes(c, o);
}

Gpt2Options read_gpt2(const Reader& c) {
  c.refuse("scale_attn_weights", true, "GPT-2");
  c.refuse("scale_attn_by_inverse_layer_idx", false, "GPT-2");
  c.refuse("add_cross_attention", false, "GPT-2");
  c.one_of("activation_function", "gelu_new", {"gelu_new", "gelu_pytorch_tanh"});
  Gpt2Options o;
  c.read("n_layer", o.n_layer);
  c.read("n_embd", o.n_embd);
  c.read("n_head", o.n_head);
  c.read("n_positions", o.n_positions);
  c.read("n_inner", o.n_inner);
  c.read("vocab_size", o.vocab_size);
  c.read("layer_norm_epsilon", o.layer_norm_epsilon);
  c.read("initializer_range", o.initializer_range);
  c.read("resid_pdrop", o.resid_pdrop);
  c.read("embd_pdrop", o.embd_pdrop);
  c.read("attn_pdrop", o.attn_pdrop);
  c.read("tie_word_embeddings", o.tie_word_embeddings);
  read_score_head(c, "gpt2", o);
  return o;
}

// transformers 4 has rope_theta beside rope_scaling (whose kind is `type` or `rope_type`), 5 has both in rope_parameters.
RotaryOptions read_rotary(const Reader& c) {
  RotaryOptions o;
  c.read("rope_theta", o.rope_theta);
  const char* key = c.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!c.has(key)) return o;
  const Reader r = c.block(key);
  r.read("rope_theta", o.rope_theta);
  r.refuse("partial_rotary_factor", 1.0, "Llama");
  const auto type = r.value<std::string>(r.has("rope_type") ? "rope_type" : "type", "default");
  if (type == "default") return o;
  if (type != "linear" && type != "llama3") {
    fail_input("{}: rope_type is \"{}\"; expected \"default\", \"linear\" or \"llama3\"", r.where(), type);
  }
  o.factor = r.number("factor");
  o.type = RotaryOptions::Type::Linear;
  if (type == "linear") return o;
  o.type = RotaryOptions::Type::Llama3;
  o.low_freq_factor = r.number("low_freq_factor");
  o.high_freq_factor = r.number("high_freq_factor");
  if (!r.has("original_max_position_embeddings")) {
    fail_input("{}: original_max_position_embeddings is missing; expected a whole number", r.where());
  }
  r.read("original_max_position_embeddings", o.original_max_position_embeddings);
  return o;
}

LlamaOptions read_llama(const Reader& c, LlamaOptions::Kind kind) {
  const bool qwen = kind == LlamaOptions::Kind::Qwen2;
  const char* model = qwen ? "Qwen2" : "Llama";
  LlamaOptions o;
  o.kind = kind;
  if (qwen) o.intermediate_size = 22016, o.max_position_embeddings = 32768, o.vocab_size = 151936;
  c.one_of("hidden_act", "silu", {"silu", "swish"});
  c.refuse("attention_dropout", 0.0, model);
  c.refuse("mlp_bias", false, model);
  for (const char* key : {"use_sliding_window", "use_mrope", "rope_interleaved"}) c.refuse(key, false, model);
  if (c.has("layer_types")) {
    const json& types = c.at("layer_types");
    const bool full = types.is_array() && std::all_of(types.begin(), types.end(), [](const json& t) { return t == "full_attention"; });
    if (!full) fail_input("{}: layer_types is {}; expected \"full_attention\" alone", c.where(), types.dump());
  }
  c.read("hidden_size", o.hidden_size);
  c.read("intermediate_size", o.intermediate_size);
  c.read("num_hidden_layers", o.num_hidden_layers);
  c.read("num_attention_heads", o.num_attention_heads);
  c.read("num_key_value_heads", o.num_key_value_heads);
  c.read("head_dim", o.head_dim);
  c.read("max_position_embeddings", o.max_position_embeddings);
  c.read("vocab_size", o.vocab_size);
  c.read("rms_norm_eps", o.rms_norm_eps);
  c.read("initializer_range", o.initializer_range);
  c.read("tie_word_embeddings", o.tie_word_embeddings);
  if (qwen) {
    c.refuse("attention_bias", true, model);
  } else {
    c.read("attention_bias", o.attention_bias);
  }
  o.rope = read_rotary(c);
  read_score_head(c, qwen ? "qwen2" : "llama", o);
  return o;
}

BertOptions read_bert(const Reader& c, BertOptions::Kind kind) {
  using Kind = BertOptions::Kind;
  const char* model = bert_name(kind);
  const BertKeys& keys = bert_keys(kind);
  c.one_of(kind == Kind::DistilBert ? "activation" : "hidden_act", "gelu", {"gelu"});
  c.one_of("position_embedding_type", "absolute", {"absolute"});
  c.refuse("is_decoder", false, model);
  c.refuse("add_cross_attention", false, model);
  c.one_of("classifier_pooling", "cls", {"cls", "mean"});
  BertOptions o;
  o.kind = kind;
  if (kind == Kind::Roberta) o.vocab_size = 50265;
  if (kind == Kind::DistilBert) o.num_hidden_layers = 6, o.classifier_dropout = 0.2;
  if (is_architecture(c, masked_prediction(keys.family))) o.head = BertOptions::Head::MaskedLanguageModel;
  if (o.predicts_tokens()) c.refuse("tie_word_embeddings", true, model);
  if (c.value<std::string>("classifier_pooling", "cls") == "mean") o.pooling = BertOptions::Pooling::Mean;
  c.read(keys.width, o.hidden_size);
  c.read(keys.inner, o.intermediate_size);
  c.read(keys.layers, o.num_hidden_layers);
  c.read(keys.heads, o.num_attention_heads);
  c.read("max_position_embeddings", o.max_position_embeddings);
  c.read("vocab_size", o.vocab_size);
  c.read("initializer_range", o.initializer_range);
  c.read(keys.hidden_dropout, o.hidden_dropout_prob);
  c.read(keys.attention_dropout, o.attention_probs_dropout_prob);
  c.read(keys.head_dropout, o.classifier_dropout);
  if (kind == Kind::DistilBert) {
    c.read("sinusoidal_pos_embds", o.sinusoidal_positions);
  } else {
    c.read("type_vocab_size", o.type_vocab_size);
    c.read("layer_norm_eps", o.layer_norm_eps);
  }
  if (kind == Kind::Roberta) {
    if (c.is_null("pad_token_id"))
      fail_input("{}: pad_token_id is null; expected a token: a RoBERTa counts positions from the one behind it", c.where());
    c.read("pad_token_id", o.padding_token);
  }
  read_classes(c, o);
  return o;
}

ModelOptions read_options(const Reader& reader, const json& config, const std::string& where) {
  json carried = json::object();
  for (const char* key : kSpecialTokens)
    if (reader.has(key)) carried[key] = config[key];
  const auto carry = [&](auto options) {
    // A default of transformers that the vocabulary does not have stays behind.
    for (const char* key : kSpecialTokens)
      if (carried.contains(key) && carried[key].is_number_integer() &&
          (carried[key].template get<int64_t>() >= options.vocab_size || carried[key].template get<int64_t>() < 0))
        carried.erase(key);
    if (!carried.empty()) options.carried = carried.dump();
    return options;
  };
  const auto type = reader.value<std::string>("model_type", "");
  if (reader.has("quantization_config"))
    fail_input(
        "{}: quantization_config is given: the weights are quantized, and F32, BF16 and F16 are known; use the model as it was before",
        where);
  if (type == "gpt2") return carry(read_gpt2(reader));
  if (type == "llama") return carry(read_llama(reader, LlamaOptions::Kind::Llama));
  if (type == "qwen2") return carry(read_llama(reader, LlamaOptions::Kind::Qwen2));
  for (const auto kind : {BertOptions::Kind::Bert, BertOptions::Kind::Roberta, BertOptions::Kind::DistilBert})
    if (type == bert_keys(kind).family) return carry(read_bert(reader, kind));
  constexpr const char* kTypes = "\"gpt2\", \"llama\", \"qwen2\", \"bert\", \"roberta\" or \"distilbert\"";
  if (type.empty()) {
    const json& architectures = reader.has("architectures") ? config["architectures"] : json();
    fail_input("{}: there is no model_type, which says the kind of model; expected {}{}", where, kTypes,
               architectures.is_null() ? "" : fmt::format(" (architectures is {})", architectures.dump()));
  }
  fail_input("{}: model_type is \"{}\"; expected {}", where, type, kTypes);
}

}  // namespace

ModelOptions parse_model_options(const json& config, const std::string& where) {
  return read_options(Reader(config, where), config, where);
}

nlohmann::json read_model_config(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code ignored;  // what cannot be looked at is said to be missing
  if (!fs::is_directory(directory, ignored))
    fail_input(
        "'{}' is not a directory; expected a Hugging Face directory on this machine, with config.json and model.safetensors (names of "
        "the hub are not looked up: download it first)",
        directory);
  const fs::path path = fs::path(directory) / "config.json";
  if (!fs::exists(path, ignored) && fs::exists(fs::path(directory) / "manifest.json", ignored))
    fail_input("'{}' is a checkpoint; expected a Hugging Face directory: `{} export {} HF_DIR` makes one of it", directory, program_name(),
               directory);
  if (!fs::exists(path, ignored))
    fail_input("{}: is missing; a Hugging Face directory holds config.json and model.safetensors", path.string());
  return read_json_object(path.string());
}

std::vector<std::string> unread_keys(const json& config) {
  std::set<std::string> asked;
  read_options(Reader(config, "config.json", &asked), config, "config.json");
  std::vector<std::string> out;
  for (const auto& [key, value] : config.items())
    if (!asked.contains(key) && !is_known_without_effect(key)) out.push_back(key);
  return out;
}

std::unique_ptr<ModelDefinition> make_model(const ModelOptions& options, const std::string& key_prefix) {
  if (const auto* gpt2 = std::get_if<Gpt2Options>(&options)) return make_gpt2(*gpt2, key_prefix);
  if (const auto* bert = std::get_if<BertOptions>(&options)) return make_bert(*bert, key_prefix);
  return make_llama(std::get<LlamaOptions>(options), key_prefix);
}

std::unique_ptr<ModelDefinition> make_model_of(const std::string& directory, const ModelOptions& options) {
  try {
    return make_model(options, /*key_prefix=*/"");
  } catch (const InputError& error) {
    fail_input("{}: {}", (std::filesystem::path(directory) / "config.json").string(), error.what());
  }
}

ModelSizes sizes_of(const ModelOptions& options) {
  ModelSizes s{};
  if (const auto* gpt2 = std::get_if<Gpt2Options>(&options)) {
    s.family = "gpt2";
    s.layers = gpt2->n_layer, s.width = gpt2->n_embd, s.heads = gpt2->n_head, s.positions = gpt2->n_positions;
    s.longest = s.positions, s.vocabulary = gpt2->vocab_size;
    s.layers_name = "n_layer", s.width_name = "n_embd", s.heads_name = "n_head", s.positions_name = "n_positions";
    s.smallest = std::min({gpt2->n_embd, gpt2->inner_width(), gpt2->n_positions});
    if (gpt2->num_labels > 0) s.smallest = std::min(s.smallest, gpt2->num_labels);
    return s;
  }
  s.layers_name = "num_hidden_layers", s.width_name = "hidden_size", s.heads_name = "num_attention_heads";
  s.positions_name = "max_position_embeddings";
  if (const auto* bert = std::get_if<BertOptions>(&options)) {
    const BertKeys& keys = bert_keys(bert->kind);
    s.family = keys.family, s.layers_name = keys.layers, s.width_name = keys.width, s.heads_name = keys.heads;
    s.layers = bert->num_hidden_layers, s.width = bert->hidden_size, s.heads = bert->num_attention_heads;
    s.positions = bert->max_position_embeddings, s.longest = bert->longest_sample(), s.vocabulary = bert->vocab_size;
    s.smallest = std::min({bert->hidden_size, bert->intermediate_size, bert->max_position_embeddings});
    if (bert->has_types()) s.smallest = std::min(s.smallest, bert->type_vocab_size);
    if (!bert->predicts_tokens()) s.smallest = std::min(s.smallest, bert->num_labels);
    return s;
  }
  const auto& llama = std::get<LlamaOptions>(options);
  s.family = llama.kind == LlamaOptions::Kind::Qwen2 ? "qwen2" : "llama";
  s.layers = llama.num_hidden_layers, s.width = llama.hidden_size, s.heads = llama.num_attention_heads;
  s.positions = s.longest = llama.max_position_embeddings, s.vocabulary = llama.vocab_size;
  s.smallest = std::min({llama.hidden_size, llama.intermediate_size, llama.key_value_heads() * llama.head_width()});
  if (llama.num_labels > 0) s.smallest = std::min(s.smallest, llama.num_labels);
  return s;
}

void set_vocabulary(ModelOptions& options, int64_t vocabulary) {
  std::visit([&](auto& o) { o.vocab_size = vocabulary; }, options);
}

void set_special_token(ModelOptions& options, const char* key, int64_t token) {
  std::visit(
      [&](auto& o) {
        json carried = o.carried.empty() ? json::object() : json::parse(o.carried);
        carried.emplace(key, token);
        o.carried = carried.dump();
      },
      options);
}

}  // namespace zerostep
