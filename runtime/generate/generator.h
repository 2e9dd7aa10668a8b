#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "models/model.h"
#include "runtime/generate/plain_model.h"

namespace zerostep {

struct GenerateOptions {
  int64_t tokens = 200;      // at most so many
  double temperature = 1.0;  // 0: always the likeliest
  int64_t top_k = 0;         // among the k likeliest; 0: all
  uint64_t seed = 0;
  std::vector<int32_t> ends = {};  // stops at one of these tokens, without giving it
  // Whether a token stands for a text: ids beyond a tokenizer's do not, where the model's vocabulary is padded, and are never chosen. Not
  // given: all do.
  std::function<bool(int32_t token)> has_text = {};
};

// Probabilities of the next token: softmax of logits / temperature over the top_k largest (all of those that tie with the last one). With
// temperature 0 the largest logit, the first of equals, has probability 1. RunError when a logit is NaN.
std::vector<double> next_token_probabilities(const float* logits, int64_t count, double temperature, int64_t top_k);

// Text from a model on the processor, by plain forwards.
class Generator {
 public:
  Generator(const ModelDefinition& model, const ParameterReader& read) : model_(model, read) {}
  // Logits of the token after `tokens`, of which the last max_sequence_length() count.
  std::vector<float> logits(const std::vector<int32_t>& tokens) const;
  // Samples from the prompt on; an empty prompt is a document's beginning (`start`). `emit` gets each token as it comes.
  void run(std::vector<int32_t> prompt, int32_t start, const GenerateOptions& options, const std::function<void(int32_t)>& emit) const;

 private:
  PlainModel model_;
};

}  // namespace zerostep
