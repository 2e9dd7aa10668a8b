#include <ATen/ATen.h>

#include "runtime/data/classification_stream.h"
#include "runtime/data/prompt_template.h"
#include "tests/runtime/support/data_test_files.h"

namespace zerostep {
namespace {

using Tokens = std::vector<int32_t>;

std::vector<int64_t> values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel()};
}

std::vector<int64_t> wide(const Tokens& tokens) { return {tokens.begin(), tokens.end()}; }

class PromptTest : public DataTest {
 protected:
  void SetUp() override {
    DataTest::SetUp();
    const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
    ASSERT_NE(source, nullptr) << "ctest sets it";
    const std::string folder = std::string(source) + "/tests/models/reference/tokenizers/";
    bert_ = load_tokenizer(folder + "vocab.txt");
    llama_ = load_tokenizer(folder + "llama3.json");
  }
  static Tokens encode(const Tokenizer& tokenizer, const std::string& text) {
    Tokens tokens;
    tokenizer.encode(text, tokens);
    return tokens;
  }

  std::unique_ptr<Tokenizer> bert_, llama_, bytes_ = make_byte_tokenizer();
};

TEST_F(PromptTest, PromptIsWhatItsTextWouldBe) {
  const PromptTemplate prompt("Review: {text} It was {label}", {"bad", "great"}, false, *llama_);
  const EncodedText encoded = prompt.encode(*llama_, "the lazy dog.", 100);
  Tokens expected = llama_->prefix();
  const Tokens head = encode(*llama_, "Review: the lazy dog. It was");
  expected.insert(expected.end(), head.begin(), head.end());
  EXPECT_EQ(encoded.tokens, expected);
  EXPECT_EQ(encoded.label_position, std::ssize(expected));
  EXPECT_FALSE(encoded.truncated);
  EXPECT_EQ(prompt.words().tokens[1], encode(*llama_, " great")) << "the space goes to the word";
  const PromptTemplate close("{text}={label}.", {"a", "b"}, false, *bytes_);
  EXPECT_EQ(close.words().tokens[0], bytes_of("a"));
  EXPECT_EQ(close.encode(*bytes_, "xy", 100).tokens, bytes_of("xy=")) << "a causal model reads nothing behind the word";
}

TEST_F(PromptTest, MaskedPromptsGoOnBehindTheWord) {
  const PromptTemplate prompt("{text} a {label} dog.", {"quick", "lazy"}, true, *bert_);
  const EncodedText encoded = prompt.encode(*bert_, "the fox", 100);
  const Tokens before = encode(*bert_, "the fox a"), after = encode(*bert_, "dog.");
  Tokens expected = {2};
  expected.insert(expected.end(), before.begin(), before.end());
  EXPECT_EQ(encoded.label_position, std::ssize(expected));
  expected.insert(expected.end(), after.begin(), after.end());
  expected.push_back(3);
  EXPECT_EQ(encoded.tokens, expected);
  EXPECT_EQ(prompt.mask(), 4);
}

TEST_F(PromptTest, TextIsCutAndTheTemplateKept) {
  const PromptTemplate prompt("{text} It was {label}", {"no", "yes"}, false, *bytes_);
  // " It was" has 7 bytes and the longest word, " yes", 4.
  const EncodedText cut = prompt.encode(*bytes_, "abcdefgh", 14);
  EXPECT_TRUE(cut.truncated);
  EXPECT_EQ(cut.tokens, bytes_of("abc It was"));
  EXPECT_FALSE(prompt.encode(*bytes_, "abc", 14).truncated);
  EXPECT_EQ(prompt.encode(*bytes_, "abc", 11).tokens, bytes_of(" It was"));
  expect_error<InputError>([&] { prompt.encode(*bytes_, "abc", 10); }, {"data.sequence_length is 10", "11 tokens"});
  const PromptTemplate of_words("{text} It was {label}", {"bad", "great"}, true, *bert_);
  for (int64_t length = 20; length < 60; ++length) {
    const EncodedText words = of_words.encode(*bert_, "the quick brown fox jumps over the lazy dog, unbelievable", length);
    const auto longest = static_cast<int64_t>(std::max(of_words.words().tokens[0].size(), of_words.words().tokens[1].size()));
    EXPECT_LE(std::ssize(words.tokens) + longest, length);
    const Tokens tail = encode(*bert_, "It was");
    EXPECT_TRUE(std::equal(tail.rbegin(), tail.rend(), words.tokens.rbegin() + 1)) << length;
  }
}

TEST_F(PromptTest, MistakesInTemplatesAreNamed) {
  const auto refused = [&](const std::string& text, const std::vector<std::string>& words, bool masked,
                           const std::vector<std::string>& parts) {
    expect_error<InputError>([&] { PromptTemplate(text, words, masked, *bytes_); }, parts);
  };
  refused("It was {label}", {"a", "b"}, false, {"data.template", "It was {label}", "{text}"});
  refused("{text} {text} {label}", {"a", "b"}, false, {"{text}", "once"});
  refused("{text} It was", {"a", "b"}, false, {"{label}"});
  refused("{label}: {text}", {"a", "b"}, false, {"{text} is expected before {label}"});
  refused("{text} {label}", {"a", ""}, false, {"data.label_words", "''"});
  refused("{text} {label}", {"a", "a"}, false, {"data.label_words", "'a'"});
  refused("{text} {label}", {"a"}, false, {"data.label_words", "1 words"});
  refused("{text} {label}", {"a", "b"}, true, {"data.template", "mask"});
}

TEST_F(PromptTest, SingleTokensShareARowAndArePredictedByItsLastToken) {
  const PromptTemplate prompt("{text}:{label}", {"n", "p"}, false, *bytes_);
  ASSERT_TRUE(prompt.words().share_row);
  const EncodedText encoded = prompt.encode(*bytes_, "abc", 50);
  EXPECT_EQ(prompt.rows(encoded), (std::vector<Tokens>{bytes_of("abc:")}));
  EXPECT_EQ(prompt.word_position(encoded), 3);
}

TEST_F(PromptTest, LongerWordsHaveARowEach) {
  const PromptTemplate prompt("{text} is {label}", {"bad", "fine"}, false, *bytes_);
  ASSERT_FALSE(prompt.words().share_row);
  const EncodedText encoded = prompt.encode(*bytes_, "x", 50);
  // Without the word's last token, which predicts nothing of it; a space before each word.
  EXPECT_EQ(prompt.rows(encoded), (std::vector<Tokens>{bytes_of("x is ba"), bytes_of("x is fin")}));
  EXPECT_EQ(prompt.word_position(encoded), 3) << "the 's' predicts the space";
}

TEST_F(PromptTest, MaskedWordsArePredictedWhereTheyStand) {
  const PromptTemplate prompt("{text} a {label} dog", {"quick", "lazy"}, true, *bert_);
  const Tokens quick = encode(*bert_, "quick"), lazy = encode(*bert_, "lazy"), dog = encode(*bert_, "dog");
  const EncodedText encoded = prompt.encode(*bert_, "the fox", 50);
  const std::vector<Tokens> rows = prompt.rows(encoded);
  const bool same = quick.size() == lazy.size();
  EXPECT_EQ(prompt.words().share_row, same);
  ASSERT_EQ(rows.size(), same ? 1 : 2);
  Tokens expected(encoded.tokens.begin(), encoded.tokens.begin() + encoded.label_position);
  expected.insert(expected.end(), quick.size(), prompt.mask());
  expected.insert(expected.end(), dog.begin(), dog.end());
  expected.push_back(3);
  EXPECT_EQ(rows[0], expected);
  EXPECT_EQ(prompt.word_position(encoded), encoded.label_position);
}

TEST_F(PromptTest, StreamsMakePromptsOfTheirSamples) {
  ClassificationOptions options;
  options.sources = {{.paths = {write("x.tsv", "good\tpos\nawful\tneg\nok\tpos\nbad\tneg\n")}}};
  options.num_labels = 2;
  options.sequence_length = 40;
  options.vocabulary_size = 257;
  const auto with_words = [&](const std::vector<std::string>& words) {
    options.prompt = std::make_shared<PromptTemplate>("{text} It was {label}", words, false, *bytes_);
    return ClassificationStream::open(options, *bytes_);
  };
  const auto stream = with_words({"bad", "great"});
  const Batch batch = stream->ordered(0, 2);
  EXPECT_EQ(values(batch.labels), (std::vector<int64_t>{1, 0})) << "neg, pos";
  // Two rows for each sample, padded to the longest.
  const std::vector<std::string> texts = {"good It was ba", "good It was grea", "awful It was ba", "awful It was grea"};
  ASSERT_EQ(batch.tokens.sizes(), (std::vector<int64_t>{4, 17}));
  for (size_t row = 0; row < texts.size(); ++row) {
    Tokens expected = bytes_of(texts[row]);
    const auto length = std::ssize(expected);
    expected.resize(17, 256);
    EXPECT_EQ(values(batch.tokens[static_cast<int64_t>(row)]), wide(expected));
    EXPECT_EQ(batch.mask[static_cast<int64_t>(row)].sum().item<int64_t>(), length);
  }
  EXPECT_EQ(values(batch.word_positions), (std::vector<int64_t>{10, 11}));
  EXPECT_EQ(batch.sample_ids, (std::vector<int64_t>{0, 0, 1, 1}));
  EXPECT_EQ(batch.valid_tokens, 2);
  // Of both rows: texts of 14 bytes, four times " It was", and " bad" and " great" without their last byte.
  EXPECT_EQ(stream->tokens_of_batch(0, 4), 2 * 14 + 4 * (2 * 7 + 3 + 5));
  // Each rank has its part of the global batch.
  for (int rank = 0; rank < 2; ++rank) {
    const Batch part = stream->batch(0, 0, {4, 2, rank, 2});
    EXPECT_EQ(part.global_valid_tokens, 4);
    EXPECT_EQ(part.valid_tokens, 2);
    EXPECT_EQ(part.sample_ids[0], 2 * rank);
  }
  const std::string first = stream->fingerprint();
  EXPECT_NE(with_words({"bad", "grand"})->fingerprint(), first) << "other words are other data";
  expect_error<InputError>([&] { with_words({"a", "b", "c"}); }, {"data.label_words", "3 words for 2 labels", "neg, pos"});
  options.num_labels = 0;
  options.vocabulary_size = 120;
  options.sources[0].paths = {write("y.tsv", "a\tpos\nb\tneg\n")};
  expect_error<InputError>([&] { with_words({"bad", "great"}); }, {"token 256", "120"});
}

}  // namespace
}  // namespace zerostep
