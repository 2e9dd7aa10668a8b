#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace zerostep {

// Rotary positions (arXiv 2104.09864), with the names of transformers' rope_parameters.
struct RotaryOptions {
  enum class Type : uint8_t { Default, Linear, Llama3 } type = Type::Default;
  double rope_theta = 10000;
  double factor = 1;                                 // Linear, Llama3
  double low_freq_factor = 1, high_freq_factor = 4;  // Llama3
  int64_t original_max_position_embeddings = 8192;   // Llama3
  bool operator==(const RotaryOptions&) const = default;
};

// Hugging Face's LlamaConfig or Qwen2Config, under their names.
struct LlamaOptions {
  // Qwen2's layers have biases on queries, keys and values, and none elsewhere.
  enum class Kind : uint8_t { Llama, Qwen2 } kind = Kind::Llama;
  int64_t hidden_size = 4096, intermediate_size = 11008, num_hidden_layers = 32, num_attention_heads = 32, max_position_embeddings = 2048,
          vocab_size = 32000;
  int64_t num_key_value_heads = 0;  // 0: num_attention_heads
  int64_t head_dim = 0;             // 0: hidden_size / num_attention_heads
  double rms_norm_eps = 1e-6, initializer_range = 0.02;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // Llama: biases on queries, keys, values and the output
  RotaryOptions rope;
  // As Gpt2Options'.
  int64_t num_labels = 0;
  std::vector<std::string> class_names{};
  std::string carried{};  // as Gpt2Options'

  bool ties_head() const { return tie_word_embeddings && num_labels == 0; }
  int64_t key_value_heads() const { return num_key_value_heads > 0 ? num_key_value_heads : num_attention_heads; }
  int64_t head_width() const { return head_dim > 0 || num_attention_heads < 1 ? head_dim : hidden_size / num_attention_heads; }
  bool input_bias() const { return kind == Kind::Qwen2 || attention_bias; }
  bool output_bias() const { return kind == Kind::Llama && attention_bias; }
};

}  // namespace zerostep
