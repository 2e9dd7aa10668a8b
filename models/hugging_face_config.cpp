#include <nlohmann/json.hpp>

#include "models/gpt2/gpt2.h"

namespace zerostep {

std::string gpt2_hugging_face_config(const Gpt2Options& o) {
  nlohmann::ordered_json config;
  config["architectures"] = {"GPT2LMHeadModel"};
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
  config["torch_dtype"] = "float32";
  return config.dump(2) + "\n";
}

}  // namespace zerostep
