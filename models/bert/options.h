#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace zerostep {

// Hugging Face's BertConfig, under its names, for BertForSequenceClassification or BertForMaskedLM.
struct BertOptions {
  // What stands on the encoder: a classifier of samples, or the prediction of tokens with the words' own table.
  enum class Head : uint8_t { Classifier, MaskedLanguageModel } head = Head::Classifier;
  // What the classifier sees of a sample: the pooler's tanh of the first token, or the mean of the tokens that the mask lets through
  // (`classifier_pooling` "cls" or "mean"; then there is no pooler).
  enum class Pooling : uint8_t { First, Mean } pooling = Pooling::First;
  int64_t hidden_size = 768, intermediate_size = 3072, num_hidden_layers = 12, num_attention_heads = 12, max_position_embeddings = 512,
          type_vocab_size = 2, vocab_size = 30522, num_labels = 2;
  double layer_norm_eps = 1e-12, initializer_range = 0.02;
  double hidden_dropout_prob = 0.1, attention_probs_dropout_prob = 0.1;
  double classifier_dropout = -1;  // below 0: hidden_dropout_prob

  std::vector<std::string> class_names{};  // by index; empty: they have none but their numbers

  std::string carried{};  // as Gpt2Options'

  bool predicts_tokens() const { return head == Head::MaskedLanguageModel; }
  double head_dropout() const { return classifier_dropout < 0 ? hidden_dropout_prob : classifier_dropout; }
};

}  // namespace zerostep
