#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "models/bert/bert.h"
#include "models/gpt2/gpt2.h"
#include "models/llama/llama.h"
#include "models/unit_inputs.h"

// What the families check alike: their options, what comes into their units, and of how many parameters a unit is made.
namespace zerostep {
namespace {

template <typename Error, typename Body>
std::string text_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

template <typename Options, typename Change>
std::string refusal(std::unique_ptr<ModelDefinition> (*make)(const Options&, const std::string&), const Change& change) {
  Options options;
  change(options);
  return text_of<InputError>([&] { make(options, "model."); });
}

TEST(FamilyChecks, OptionsAreRefusedByTheirNames) {
  const std::string positive = "; expected a positive number", share = "; expected a probability from 0 to 1";
  EXPECT_EQ(refusal(make_gpt2, [](Gpt2Options&) {}), "");
  EXPECT_EQ(refusal(make_gpt2, [](Gpt2Options& o) { o.n_head = 0; }), "model.n_head is 0" + positive);
  EXPECT_EQ(refusal(make_gpt2, [](Gpt2Options& o) { o.vocab_size = -1; }), "model.vocab_size is -1" + positive);
  EXPECT_EQ(refusal(make_gpt2, [](Gpt2Options& o) { o.attn_pdrop = 1.5; }), "model.attn_pdrop is 1.5" + share);
  EXPECT_EQ(refusal(make_gpt2, [](Gpt2Options& o) { o.embd_pdrop = -0.5; }), "model.embd_pdrop is -0.5" + share);
  EXPECT_EQ(refusal(make_gpt2,
                    [](Gpt2Options& o) {
                      o.n_embd = 10;
                      o.n_head = 4;
                    }),
            "model.n_embd 10 does not divide by model.n_head 4: every head needs the same width");
  EXPECT_EQ(refusal(make_llama, [](LlamaOptions&) {}), "");
  EXPECT_EQ(refusal(make_llama, [](LlamaOptions& o) { o.num_hidden_layers = 0; }), "model.num_hidden_layers is 0" + positive);
  EXPECT_EQ(refusal(make_llama, [](LlamaOptions& o) { o.rope.rope_theta = 0; }), "model.rope_theta is 0; expected a number above 0");
  EXPECT_EQ(refusal(make_llama,
                    [](LlamaOptions& o) {
                      o.num_attention_heads = 4;
                      o.num_key_value_heads = 3;
                    }),
            "model.num_attention_heads 4 does not divide by model.num_key_value_heads 3: every head of keys serves as many of queries");
  EXPECT_EQ(refusal(make_bert, [](BertOptions&) {}), "");
  EXPECT_EQ(refusal(make_bert, [](BertOptions& o) { o.num_labels = 0; }), "model.num_labels is 0" + positive);
  EXPECT_EQ(refusal(make_bert, [](BertOptions& o) { o.type_vocab_size = 0; }), "model.type_vocab_size is 0" + positive);
  EXPECT_EQ(refusal(make_bert, [](BertOptions& o) { o.hidden_dropout_prob = 2; }), "model.hidden_dropout_prob is 2" + share);
  // Under the names that the kind has.
  const auto distilbert = [&](const auto& change) {
    return refusal(make_bert, [&](BertOptions& o) {
      o.kind = BertOptions::Kind::DistilBert;
      change(o);
    });
  };
  EXPECT_EQ(distilbert([](BertOptions&) {}), "");
  EXPECT_EQ(distilbert([](BertOptions& o) { o.hidden_size = 0; }), "model.dim is 0" + positive);
  EXPECT_EQ(distilbert([](BertOptions& o) { o.classifier_dropout = 2; }), "model.seq_classif_dropout is 2" + share);
  EXPECT_EQ(distilbert([](BertOptions& o) { o.num_attention_heads = 7; }),
            "model.dim 768 does not divide by model.n_heads 7: every head needs the same width");
  const auto roberta = [&](int64_t padding, int64_t positions) {
    return refusal(make_bert, [&](BertOptions& o) {
      o.kind = BertOptions::Kind::Roberta;
      o.padding_token = padding, o.max_position_embeddings = positions;
    });
  };
  EXPECT_EQ(roberta(1, 3), "");
  EXPECT_EQ(
      roberta(1, 2),
      "model.max_position_embeddings is 2; expected at least 3: a RoBERTa counts positions from pad_token_id + 1, and the first 2 are "
      "no token's");
  EXPECT_EQ(roberta(30522, 40000), "model.pad_token_id is 30522; expected a token of the vocabulary, from 0 to 30521");
  EXPECT_EQ(refusal(make_gpt2, [](Gpt2Options& o) { o.num_labels = -1; }), "model.num_labels is -1" + positive);
}

TEST(FamilyChecks, AFirstUnitTakesABatchThatIsNotTooLong) {
  Batch batch;
  batch.tokens = at::zeros({2, 5}, at::kLong);
  const ForwardContext context{&batch};
  EXPECT_EQ(&embedding_batch({}, context, "n_positions", 5), &batch);
  EXPECT_EQ(text_of<InputError>([&] { embedding_batch({}, context, "n_positions", 4); }),
            "a sample of 5 tokens is longer than the model's n_positions 4; choose a shorter data.sequence_length");
  EXPECT_EQ(text_of<ProtocolError>([&] { embedding_batch({at::zeros({1})}, context, "n_positions", 5); }),
            "[embedding] expected no inputs, found 1");
  batch.positions = at::zeros({2, 5}, at::kLong);  // which say themselves where the tokens are
  EXPECT_EQ(&embedding_batch({}, context, "n_positions", 4), &batch);
}

TEST(FamilyChecks, OtherUnitsTakeOneInput) {
  const TensorList one{at::zeros({1})};
  EXPECT_EQ(&only_input(one, "head"), &one[0]);
  EXPECT_EQ(text_of<ProtocolError>([] { only_input({}, "head"); }), "[head] expected 1 input, found 0");
  EXPECT_EQ(text_of<ProtocolError>([&] { only_input({one[0], one[0]}, "layers", 3); }), "[layers.3] expected 1 input, found 2");
}

TEST(FamilyChecks, AUnitIsMadeOfAllOfItsParameters) {
  Gpt2Options options;
  options.n_layer = 1;
  const auto model = make_gpt2(options, "model.");
  // Its own two, and the tied embedding.
  EXPECT_EQ(text_of<ProtocolError>([&] {
              model->make_unit(2, {at::zeros({1}), at::zeros({1})});
            }),
            "[head] expected 3 parameters, found 2");
}

}  // namespace
}  // namespace zerostep
