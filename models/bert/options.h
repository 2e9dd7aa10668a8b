#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace zerostep {

// Hugging Face's BertConfig, RobertaConfig or DistilBertConfig, under BertConfig's names (bert_keys() tells DistilBERT's own), for a
// classifier of samples or a model that predicts masked words.
struct BertOptions {
  // RoBERTa counts positions from the one behind its padding's and classifies by two layers of its own; DistilBERT has no types of tokens,
  // drops nothing behind attention, and classifies by a ReLU.
  enum class Kind : uint8_t { Bert, Roberta, DistilBert } kind = Kind::Bert;
  // What stands on the encoder: a classifier of samples, or the prediction of tokens with the words' own table.
  enum class Head : uint8_t { Classifier, MaskedLanguageModel } head = Head::Classifier;
  // What the classifier sees of a sample: the first token through a dense layer (BERT's pooler, RoBERTa's dense, DistilBERT's
  // pre_classifier), or the mean of the tokens that the mask lets through (`classifier_pooling` "cls" or "mean"; then there is no such
  // layer).
  enum class Pooling : uint8_t { First, Mean } pooling = Pooling::First;
  int64_t hidden_size = 768, intermediate_size = 3072, num_hidden_layers = 12, num_attention_heads = 12, max_position_embeddings = 512,
          type_vocab_size = 2, vocab_size = 30522, num_labels = 2;
  double layer_norm_eps = 1e-12, initializer_range = 0.02;
  double hidden_dropout_prob = 0.1, attention_probs_dropout_prob = 0.1;
  double classifier_dropout = -1;     // below 0: hidden_dropout_prob
  int64_t padding_token = 1;          // RoBERTa's pad_token_id: no token of a text, and the position before the first
  bool sinusoidal_positions = false;  // DistilBERT: first values of the table of positions are sines and cosines

  std::vector<std::string> class_names{};  // by index; empty: they have none but their numbers

  std::string carried{};  // as Gpt2Options'

  bool predicts_tokens() const { return head == Head::MaskedLanguageModel; }
  double head_dropout() const { return classifier_dropout < 0 ? hidden_dropout_prob : classifier_dropout; }
  // Of the row that the dense layer before the classifier sees.
  double pooled_dropout() const { return kind == Kind::Roberta && pooling == Pooling::First ? head_dropout() : 0; }
  double attention_output_dropout() const { return kind == Kind::DistilBert ? 0 : hidden_dropout_prob; }
  bool has_types() const { return kind != Kind::DistilBert; }
  // Row of the table of positions that a sample's first token has, and the tokens of the longest sample.
  int64_t first_position() const { return kind == Kind::Roberta ? padding_token + 1 : 0; }
  int64_t longest_sample() const { return max_position_embeddings - first_position(); }
};

// As papers call it.
constexpr const char* bert_name(BertOptions::Kind kind) {
  return kind == BertOptions::Kind::Bert ? "BERT" : kind == BertOptions::Kind::Roberta ? "RoBERTa" : "DistilBERT";
}

// What config.json calls the options whose names the kinds do not share.
struct BertKeys {
  const char *family, *width, *inner, *layers, *heads, *hidden_dropout, *attention_dropout, *head_dropout;
};
inline const BertKeys& bert_keys(BertOptions::Kind kind) {
  static constexpr BertKeys kBert{"bert",
                                  "hidden_size",
                                  "intermediate_size",
                                  "num_hidden_layers",
                                  "num_attention_heads",
                                  "hidden_dropout_prob",
                                  "attention_probs_dropout_prob",
                                  "classifier_dropout"},
      kRoberta{"roberta",         kBert.width, kBert.inner, kBert.layers, kBert.heads, kBert.hidden_dropout, kBert.attention_dropout,
               kBert.head_dropout},
      kDistilBert{"distilbert", "dim", "hidden_dim", "n_layers", "n_heads", "dropout", "attention_dropout", "seq_classif_dropout"};
  return kind == BertOptions::Kind::Bert ? kBert : kind == BertOptions::Kind::Roberta ? kRoberta : kDistilBert;
}

}  // namespace zerostep
