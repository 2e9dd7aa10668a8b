#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace zerostep {

// Hugging Face's GPT2Config, under its names. n_inner 0: 4 n_embd.
struct Gpt2Options {
  int64_t n_layer = 12, n_embd = 768, n_head = 12, n_positions = 1024, n_inner = 0, vocab_size = 50257;
  double layer_norm_epsilon = 1e-5, initializer_range = 0.02;
  double resid_pdrop = 0.1, embd_pdrop = 0.1, attn_pdrop = 0.1;
  bool tie_word_embeddings = true;
  // Not 0: of GPT2ForSequenceClassification, a classifier of samples by their last token; their names by index, or none.
  int64_t num_labels = 0;
  std::vector<std::string> class_names{};
  // Keys of config.json as a JSON object, or "": special tokens, which an export gives on as they came.
  std::string carried{};

  bool ties_head() const { return tie_word_embeddings && num_labels == 0; }
  int64_t inner_width() const { return n_inner > 0 ? n_inner : 4 * n_embd; }
};

}  // namespace zerostep
