#include <ATen/ATen.h>

#include <cmath>
#include <numeric>

#include "runtime/data/classification_stream.h"
#include "runtime/data/prompt_batch.h"
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

// Log-probabilities in double, by their definition.
double log_probability(const at::Tensor& logits, int64_t row, int64_t position, int64_t token) {
  const at::Tensor scores = logits[row][position].to(at::kDouble);
  double sum = 0;
  for (int64_t v = 0; v < scores.numel(); ++v) sum += std::exp(scores[v].item<double>());
  return scores[token].item<double>() - std::log(sum);
}

at::Tensor some_logits(int64_t rows, int64_t length, int64_t vocabulary) {
  return at::sin(at::arange(rows * length * vocabulary, at::kFloat) * 0.37).view({rows, length, vocabulary}) * 3;
}

TEST_F(PromptTest, PromptIsWhatItsTextWouldBe) {
  const PromptTemplate prompt("Review: {text} It was {label}", {"bad", "great"}, false, *llama_);
  const EncodedText encoded = prompt.encode(*llama_, "the lazy dog.", 100);
  Tokens expected = llama_->prefix();
  const Tokens head = encode(*llama_, "Review: the lazy dog. It was");
  expected.insert(expected.end(), head.begin(), head.end());
  EXPECT_EQ(encoded.tokens, expected);
  EXPECT_EQ(encoded.label_position, std::ssize(expected));
  EXPECT_FALSE(encoded.truncated);
  EXPECT_EQ(prompt.words()[1], encode(*llama_, " great")) << "the space goes to the word";
  const PromptTemplate close("{text}={label}.", {"a", "b"}, false, *bytes_);
  EXPECT_EQ(close.words()[0], bytes_of("a"));
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
    const auto longest = static_cast<int64_t>(std::max(of_words.words()[0].size(), of_words.words()[1].size()));
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

TEST_F(PromptTest, SingleTokensShareARowAndScoreByTheLastPosition) {
  const PromptTemplate prompt("{text}:{label}", {"n", "p"}, false, *bytes_);
  ASSERT_TRUE(prompt.shares_row());
  const std::vector<LabelledPrompt> samples = {{prompt.encode(*bytes_, "abc", 50), 1, 10}, {prompt.encode(*bytes_, "d", 50), 0, 11}};
  const PromptBatch prompts = make_prompt_batch(prompt, samples, 256);
  EXPECT_EQ(prompts.batch.tokens.sizes(), (std::vector<int64_t>{2, 4}));
  EXPECT_EQ(values(prompts.batch.tokens), (std::vector<int64_t>{'a', 'b', 'c', ':', 'd', ':', 256, 256}));
  EXPECT_EQ(values(prompts.batch.mask.to(at::kLong)), (std::vector<int64_t>{1, 1, 1, 1, 1, 1, 0, 0}));
  EXPECT_EQ(values(prompts.batch.labels), (std::vector<int64_t>{-100, -100, -100, 'p', -100, 'n', -100, -100}));
  EXPECT_EQ(prompts.batch.valid_tokens, 2);
  EXPECT_EQ(prompts.batch.sample_ids, (std::vector<int64_t>{10, 11}));
  EXPECT_EQ(prompts.classes, (std::vector<int64_t>{1, 0}));
  const at::Tensor logits = some_logits(2, 4, 257), scores = prompt_scores(prompts, logits);
  ASSERT_EQ(scores.sizes(), (std::vector<int64_t>{2, 2}));
  EXPECT_NEAR(scores[0][0].item<double>(), log_probability(logits, 0, 3, 'n'), 1e-5);
  EXPECT_NEAR(scores[0][1].item<double>(), log_probability(logits, 0, 3, 'p'), 1e-5);
  EXPECT_NEAR(scores[1][0].item<double>(), log_probability(logits, 1, 1, 'n'), 1e-5);
  EXPECT_NEAR(scores[1][1].item<double>(), log_probability(logits, 1, 1, 'p'), 1e-5);
  EXPECT_THROW(prompt_scores(prompts, some_logits(2, 5, 257)), ProtocolError);
}

TEST_F(PromptTest, LongerWordsAreScoredByTheSumOfTheirTokens) {
  const PromptTemplate prompt("{text} is {label}", {"bad", "fine"}, false, *bytes_);
  ASSERT_FALSE(prompt.shares_row());
  const std::vector<LabelledPrompt> samples = {{prompt.encode(*bytes_, "x", 50), 1, 5}, {prompt.encode(*bytes_, "yz", 50), 0, 6}};
  const PromptBatch prompts = make_prompt_batch(prompt, samples, 256);
  // Rows without their last token: "x is ba", "x is fin" and so on, a space before each word.
  ASSERT_EQ(prompts.batch.tokens.sizes(), (std::vector<int64_t>{4, 9}));
  EXPECT_EQ(values(prompts.batch.tokens[0]), wide({'x', ' ', 'i', 's', ' ', 'b', 'a', 256, 256}));
  EXPECT_EQ(values(prompts.batch.tokens[3]), wide({'y', 'z', ' ', 'i', 's', ' ', 'f', 'i', 'n'}));
  EXPECT_EQ(values(prompts.batch.labels[0]), std::vector<int64_t>(9, -100)) << "the row of a wrong word";
  EXPECT_EQ(values(prompts.batch.labels[1]), (std::vector<int64_t>{-100, -100, -100, ' ', 'f', 'i', 'n', 'e', -100}));
  EXPECT_EQ(values(prompts.batch.labels[2]), (std::vector<int64_t>{-100, -100, -100, -100, ' ', 'b', 'a', 'd', -100}));
  EXPECT_EQ(prompts.batch.valid_tokens, 5 + 4);
  EXPECT_EQ(prompts.batch.sample_ids, (std::vector<int64_t>{5, 5, 6, 6}));
  const at::Tensor logits = some_logits(4, 9, 257), scores = prompt_scores(prompts, logits);
  for (int64_t sample = 0; sample < 2; ++sample) {
    for (int64_t word = 0; word < 2; ++word) {
      double expected = 0;
      const Tokens tokens = bytes_of(word == 0 ? " bad" : " fine");
      for (int64_t i = 0; i < std::ssize(tokens); ++i)
        expected += log_probability(logits, 2 * sample + word, 3 + sample + i, tokens[static_cast<size_t>(i)]);
      EXPECT_NEAR(scores[sample][word].item<double>(), expected, 1e-4);
    }
  }
}

TEST_F(PromptTest, MaskedWordsArePredictedWhereTheyStand) {
  const PromptTemplate prompt("{text} a {label} dog", {"quick", "lazy"}, true, *bert_);
  const Tokens quick = encode(*bert_, "quick"), lazy = encode(*bert_, "lazy");
  const std::vector<LabelledPrompt> samples = {{prompt.encode(*bert_, "the fox", 50), 0, 0}};
  const PromptBatch prompts = make_prompt_batch(prompt, samples, 0);
  const bool same = quick.size() == lazy.size();
  EXPECT_EQ(prompt.shares_row(), same);
  const int64_t rows = same ? 1 : 2, at = samples[0].text.label_position, length = prompts.batch.tokens.size(1);
  ASSERT_EQ(prompts.batch.tokens.size(0), rows);
  for (int64_t i = 0; i < std::ssize(quick); ++i) {
    EXPECT_EQ(values(prompts.batch.tokens[0])[static_cast<size_t>(at + i)], 4);
    EXPECT_EQ(values(prompts.batch.labels[0])[static_cast<size_t>(at + i)], quick[static_cast<size_t>(i)]);
  }
  EXPECT_EQ(values(prompts.batch.tokens[0])[static_cast<size_t>(at + std::ssize(quick))], encode(*bert_, "dog")[0]);
  const at::Tensor logits = some_logits(rows, length, bert_->vocabulary_size()), scores = prompt_scores(prompts, logits);
  double expected = 0;
  for (int64_t i = 0; i < std::ssize(lazy); ++i) expected += log_probability(logits, rows - 1, at + i, lazy[static_cast<size_t>(i)]);
  EXPECT_NEAR(scores[0][1].item<double>(), expected, 1e-4);
}

TEST_F(PromptTest, StreamsMakePromptsOfTheirSamples) {
  ClassificationOptions options;
  options.paths = {write("x.tsv", "good\tpos\nawful\tneg\nok\tpos\nbad\tneg\n")};
  options.num_labels = 2;
  options.sequence_length = 40;
  options.vocabulary_size = 257;
  options.prompt = std::make_shared<PromptTemplate>("{text} It was {label}", std::vector<std::string>{"bad", "great"}, false, *bytes_);
  const auto stream = ClassificationStream::open(options, *bytes_);
  const PromptBatch prompts = stream->ordered_prompts(0, 2);
  EXPECT_EQ(prompts.classes, (std::vector<int64_t>{1, 0})) << "neg, pos";
  std::vector<int64_t> row = wide(bytes_of("good It was grea"));
  row.resize(static_cast<size_t>(prompts.batch.tokens.size(1)), 256);
  EXPECT_EQ(values(prompts.batch.tokens[1]), row);
  // The count is of the global batch, whatever part of it this is.
  int64_t valid = 0;
  for (int rank = 0; rank < 2; ++rank) {
    const PromptBatch part = stream->prompts(0, 0, {4, 2, rank, 2});
    EXPECT_EQ(part.batch.global_valid_tokens, 2 * 4 + 2 * 6);
    valid += part.batch.valid_tokens;
    EXPECT_EQ(part.batch.sample_ids[0], 2 * rank);
  }
  EXPECT_EQ(valid, 2 * 4 + 2 * 6);
  options.prompt = std::make_shared<PromptTemplate>("{text} It was {label}", std::vector<std::string>{"a", "b", "c"}, false, *bytes_);
  expect_error<InputError>([&] { ClassificationStream::open(options, *bytes_); }, {"data.label_words", "3 words for 2 labels", "neg, pos"});
}

}  // namespace
}  // namespace zerostep
