#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "models/architecture_names.h"
#include "models/bert/bert.h"
#include "models/gpt2/gpt2.h"
#include "models/llama/llama.h"

namespace zerostep {

namespace {

std::string finished(nlohmann::ordered_json config, const std::string& carried) {
  if (!carried.empty()) config.update(nlohmann::ordered_json::parse(carried));
  config["torch_dtype"] = "float32";
  return config.dump(2) + "\n";
}

// transformers counts the classes by these.
void write_classes(nlohmann::ordered_json& config, int64_t num_labels, const std::vector<std::string>& names) {
  for (int64_t i = 0; i < num_labels; ++i) {
    const std::string name = names.empty() ? fmt::format("LABEL_{}", i) : names.at(static_cast<size_t>(i));
    config["id2label"][std::to_string(i)] = name;
    config["label2id"][name] = i;
  }
}

}  // namespace

std::string gpt2_hugging_face_config(const Gpt2Options& o) {
  nlohmann::ordered_json config;
  config["architectures"] = {o.num_labels > 0 ? sequence_classification("gpt2") : "GPT2LMHeadModel"};
  config["model_type"] = "gpt2";
  config["vocab_size"] = o.vocab_size;
  config["n_positions"] = o.n_positions;
  config["n_embd"] = o.n_embd;
  config["n_layer"] = o.n_layer;
  config["n_head"] = o.n_head;
  config["n_inner"] = o.n_inner > 0 ? nlohmann::ordered_json(o.n_inner) : nlohmann::ordered_json(nullptr);
  config["activation_function"] = "gelu_new";
  config["resid_pdrop"] = o.resid_pdrop;
  config["embd_pdrop"] = o.embd_pdrop;
  config["attn_pdrop"] = o.attn_pdrop;
  config["layer_norm_epsilon"] = o.layer_norm_epsilon;
  config["initializer_range"] = o.initializer_range;
  config["scale_attn_weights"] = true;
  config["scale_attn_by_inverse_layer_idx"] = false;
  config["reorder_and_upcast_attn"] = false;
  config["tie_word_embeddings"] = o.tie_word_embeddings;
  // The last token is GPT-2's and the byte tokenizer's end of document.
  config["bos_token_id"] = o.vocab_size - 1;
  config["eos_token_id"] = o.vocab_size - 1;
  write_classes(config, o.num_labels, o.class_names);
  return finished(std::move(config), o.carried);
}

std::string llama_hugging_face_config(const LlamaOptions& o) {
  const bool qwen = o.kind == LlamaOptions::Kind::Qwen2;
  const char* family = qwen ? "qwen2" : "llama";
  nlohmann::ordered_json config;
  config["architectures"] = {o.num_labels > 0 ? sequence_classification(family) : qwen ? "Qwen2ForCausalLM" : "LlamaForCausalLM"};
  config["model_type"] = family;
  config["vocab_size"] = o.vocab_size;
  config["hidden_size"] = o.hidden_size;
  config["intermediate_size"] = o.intermediate_size;
  config["num_hidden_layers"] = o.num_hidden_layers;
  config["num_attention_heads"] = o.num_attention_heads;
  config["num_key_value_heads"] = o.key_value_heads();
  if (!qwen) config["head_dim"] = o.head_width();
  config["max_position_embeddings"] = o.max_position_embeddings;
  config["hidden_act"] = "silu";
  config["rms_norm_eps"] = o.rms_norm_eps;
  config["initializer_range"] = o.initializer_range;
  config["tie_word_embeddings"] = o.tie_word_embeddings;
  // The names of transformers 4, which 5 reads too.
  config["rope_theta"] = o.rope.rope_theta;
  config["rope_scaling"] = nullptr;
  if (o.rope.type == RotaryOptions::Type::Linear) config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", o.rope.factor}};
  if (o.rope.type == RotaryOptions::Type::Llama3) {
    config["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", o.rope.factor},
                              {"low_freq_factor", o.rope.low_freq_factor},
                              {"high_freq_factor", o.rope.high_freq_factor},
                              {"original_max_position_embeddings", o.rope.original_max_position_embeddings}};
  }
  config["attention_dropout"] = 0.0;
  if (qwen) {
    config["use_sliding_window"] = false;
  } else {
    config["attention_bias"] = o.attention_bias;
    config["mlp_bias"] = false;
  }
  write_classes(config, o.num_labels, o.class_names);
  return finished(std::move(config), o.carried);
}

std::string bert_hugging_face_config(const BertOptions& o) {
  using Kind = BertOptions::Kind;
  const BertKeys& keys = bert_keys(o.kind);
  nlohmann::ordered_json config;
  config["architectures"] = {o.predicts_tokens() ? masked_prediction(keys.family) : sequence_classification(keys.family)};
  config["model_type"] = keys.family;
  config["vocab_size"] = o.vocab_size;
  config[keys.width] = o.hidden_size;
  config[keys.layers] = o.num_hidden_layers;
  config[keys.heads] = o.num_attention_heads;
  config[keys.inner] = o.intermediate_size;
  config["max_position_embeddings"] = o.max_position_embeddings;
  if (o.kind == Kind::DistilBert) {
    config["activation"] = "gelu";
    config["sinusoidal_pos_embds"] = o.sinusoidal_positions;
  } else {
    config["type_vocab_size"] = o.type_vocab_size;
    config["hidden_act"] = "gelu";
    config["layer_norm_eps"] = o.layer_norm_eps;
  }
  if (o.kind == Kind::Roberta) config["pad_token_id"] = o.padding_token;
  config["initializer_range"] = o.initializer_range;
  config[keys.hidden_dropout] = o.hidden_dropout_prob;
  config[keys.attention_dropout] = o.attention_probs_dropout_prob;
  if (o.predicts_tokens()) {
    config["tie_word_embeddings"] = true;
    return finished(std::move(config), o.carried);
  }
  // DistilBERT's has to be a number.
  config[keys.head_dropout] = nullptr;
  if (o.classifier_dropout >= 0 || o.kind == Kind::DistilBert) config[keys.head_dropout] = o.head_dropout();
  // transformers classifies by the first token alone and does not read this key.
  if (o.pooling == BertOptions::Pooling::Mean) config["classifier_pooling"] = "mean";
  write_classes(config, o.num_labels, o.class_names);
  return finished(std::move(config), o.carried);
}

}  // namespace zerostep
