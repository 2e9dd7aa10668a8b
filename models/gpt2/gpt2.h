#pragma once
#include <string>
#include <vector>

#include "models/unit.h"

namespace zerostep {

// Hugging Face's GPT2Config, under its names. n_inner 0: 4 n_embd.
struct Gpt2Options {
  int64_t n_layer = 12, n_embd = 768, n_head = 12, n_positions = 1024, n_inner = 0, vocab_size = 50257;
  double layer_norm_epsilon = 1e-5, initializer_range = 0.02;
  double resid_pdrop = 0.1, embd_pdrop = 0.1, attn_pdrop = 0.1;
  bool tie_word_embeddings = true;

  int64_t inner_width() const { return n_inner > 0 ? n_inner : 4 * n_embd; }
};

// Sizes with a name; the vocabulary is free (50257 where nothing is said).
struct Gpt2Preset {
  std::string name;
  int64_t n_layer, n_embd, n_head, n_positions;
};
const std::vector<Gpt2Preset>& gpt2_presets();

// GPT2LMHeadModel as units "embedding", "h.0", ..., "head". Parameters in the order of named_parameters(); with a tied head the head
// borrows wte. InputError when the options contradict each other.
std::unique_ptr<ModelDefinition> make_gpt2(const Gpt2Options& options);

// The config.json with which transformers loads the model.
std::string gpt2_hugging_face_config(const Gpt2Options& options);

}  // namespace zerostep
