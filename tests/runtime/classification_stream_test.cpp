#include "runtime/data/classification_stream.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "runtime/data/length_buckets.h"
#include "runtime/data/permutation.h"
#include "tests/runtime/support/data_test_files.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

// Tokens of row `row` that are no padding.
std::vector<int64_t> row_of(const Batch& batch, int64_t row) {
  std::vector<int64_t> tokens = values(batch.tokens[row]);
  if (!batch.mask.defined()) return tokens;
  const int64_t count = batch.mask[row].sum().item<int64_t>();
  for (int64_t i = 0; i < batch.mask.size(1); ++i) EXPECT_EQ(batch.mask[row][i].item<bool>(), i < count);
  tokens.resize(static_cast<size_t>(count));
  return tokens;
}

class ClassificationStreamTest : public DataTest {
 protected:
  void SetUp() override {
    DataTest::SetUp();
    const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
    ASSERT_NE(source, nullptr) << "ctest sets it";
    bert_ = load_tokenizer(std::string(source) + "/tests/models/reference/tokenizers/vocab.txt");
  }
  ClassificationOptions classification(const std::vector<std::string>& paths, int64_t sequence_length = 16) const {
    ClassificationOptions options;
    options.sources = {{.paths = paths}};
    options.num_labels = 2;
    options.sequence_length = sequence_length;
    options.vocabulary_size = 5000;
    options.seed = 77;
    options.warn = [this](const std::string& text) { warnings_.push_back(text); };
    return options;
  }
  // Sample i is a text of some letters and has label i % 2.
  std::string numbered(int64_t count, const std::string& name = "n.tsv") const {
    std::mt19937_64 random(9);
    std::string text;
    for (int64_t i = 0; i < count; ++i) {
      std::string words = fmt::format("{}", i);
      for (uint64_t j = random() % 40; j > 0; --j) words += " a";
      text += fmt::format("{}\t{}\n", words, i % 2);
    }
    return write(name, text);
  }

  std::unique_ptr<Tokenizer> bert_, bytes_ = make_byte_tokenizer();
};

TEST_F(ClassificationStreamTest, SamplesStandBetweenTheirSpecialTokensAndArePadded) {
  std::vector<int32_t> one, three;
  bert_->encode("a", one);
  bert_->encode("the quick a", three);
  ASSERT_EQ(one.size(), 1U);
  const auto stream = ClassificationStream::open(classification({write("x.tsv", "a\t1\nThe  QUICK a\t0\n")}), *bert_);
  ASSERT_EQ(stream->num_samples(), 2);
  const Batch batch = stream->ordered(0, 2);
  std::vector<int64_t> expected = {2, one[0], 3};
  EXPECT_EQ(row_of(batch, 0), expected);
  expected = {2};
  expected.insert(expected.end(), three.begin(), three.end());
  expected.push_back(3);
  EXPECT_EQ(row_of(batch, 1), expected);
  EXPECT_EQ(values(batch.tokens[0])[4], bert_->padding());
  EXPECT_EQ(values(batch.labels), (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(batch.labels.sizes(), (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(batch.valid_tokens, 2);
  EXPECT_EQ(batch.global_valid_tokens, 2);
  EXPECT_EQ(batch.sample_ids, (std::vector<int64_t>{0, 1}));
  EXPECT_FALSE(stream->ordered(0, 1).mask.defined());
  EXPECT_EQ(stream->ordered(0, 1).tokens.size(1), 3);
  EXPECT_EQ(stream->count(0), 1);
  EXPECT_EQ(stream->count(1), 1);
  EXPECT_EQ(stream->num_truncated(), 0);
}

TEST_F(ClassificationStreamTest, LongTextsAreCutBeforeTheLastSpecialToken) {
  std::vector<int32_t> all;
  const std::string text = "a quick brown fox jumps over the lazy dog";
  bert_->encode(text, all);
  const auto stream = ClassificationStream::open(classification({write("x.tsv", text + "\t1\na\t0\n")}, 7), *bert_);
  const std::vector<int64_t> row = row_of(stream->ordered(0, 1), 0);
  ASSERT_EQ(row.size(), 7U);
  EXPECT_EQ(row.front(), 2);
  EXPECT_EQ(row.back(), 3);
  EXPECT_TRUE(std::equal(row.begin() + 1, row.end() - 1, all.begin()));
  EXPECT_EQ(stream->num_truncated(), 1);
  expect_error<InputError>([&] { ClassificationStream::open(classification({path("x.tsv")}, 2), *bert_); },
                           {"data.sequence_length is 2", "3 or more"});
}

TEST_F(ClassificationStreamTest, BatchesDoNotDependOnTheWorld) {
  const auto stream = ClassificationStream::open(classification({numbered(203)}, 64), *bytes_);
  constexpr int64_t kGlobal = 24;
  for (int64_t step : {0, 3, 8, 9, 20}) {
    std::map<int64_t, std::pair<std::vector<int64_t>, int64_t>> reference;
    for (const auto& [world, micro] : {std::pair<int, int64_t>{1, 24}, {1, 3}, {2, 4}, {3, 8}, {4, 6}, {4, 2}}) {
      std::map<int64_t, std::pair<std::vector<int64_t>, int64_t>> found;
      for (int rank = 0; rank < world; ++rank) {
        for (int64_t accumulation = 0; accumulation < kGlobal / micro / world; ++accumulation) {
          const Batch batch = stream->batch(step, accumulation, {kGlobal, micro, rank, world});
          EXPECT_EQ(batch.valid_tokens, micro);
          EXPECT_EQ(batch.global_valid_tokens, kGlobal);
          int64_t longest = 0;
          for (int64_t i = 0; i < micro; ++i) {
            const int64_t j = batch.sample_ids[static_cast<size_t>(i)] - step * kGlobal;
            EXPECT_EQ(j / (micro * world), accumulation);
            EXPECT_EQ(j / micro % world, rank);
            found[j] = {row_of(batch, i), batch.labels[i][0].item<int64_t>()};
            longest = std::max(longest, std::ssize(found[j].first));
          }
          EXPECT_EQ(batch.tokens.size(1), longest) << "padded to the longest";
        }
      }
      if (reference.empty()) reference = found;
      EXPECT_EQ(found, reference) << "step " << step << ", world " << world;
    }
  }
}

TEST_F(ClassificationStreamTest, EverySampleComesOnceAnEpochWithItsLabel) {
  const auto stream = ClassificationStream::open(classification({numbered(96)}, 64), *bytes_);
  std::vector<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t> order;
    for (int64_t step = epoch * 12; step < (epoch + 1) * 12; ++step) {
      const Batch batch = stream->batch(step, 0, {8, 8, 0, 1});
      for (int64_t i = 0; i < 8; ++i) {
        std::string text;
        for (int64_t token : row_of(batch, i)) text += static_cast<char>(token);
        order.push_back(std::stoll(text));
        EXPECT_EQ(batch.labels[i][0].item<int64_t>(), order.back() % 2);
      }
    }
    std::vector<int64_t> sorted = order, all(96);
    std::sort(sorted.begin(), sorted.end());
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(sorted, all);
    orders.push_back(order);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
}

TEST_F(ClassificationStreamTest, WithoutShufflingTheOrderIsTheFiles) {
  ClassificationOptions options = classification({numbered(10)}, 64);
  options.shuffle = false;
  const auto stream = ClassificationStream::open(options, *bytes_);
  const Batch batch = stream->batch(2, 0, {4, 4, 0, 1});
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(row_of(batch, i)[0], '0' + (8 + i) % 10);
  EXPECT_EQ(stream->sample(13), stream->sample(3));
}

TEST_F(ClassificationStreamTest, NamesOfLabelsAreThoseOfTheTrainingData) {
  ClassificationOptions options = classification({write("train.csv", "text,label\na,pos\nb,neg\nc,pos\n")});
  const auto train = ClassificationStream::open(options, *bytes_);
  EXPECT_EQ(train->labels().names(), (std::vector<std::string>{"neg", "pos"}));
  EXPECT_EQ(values(train->ordered(0, 3).labels), (std::vector<int64_t>{1, 0, 1}));
  options.labels = train->labels();
  options.key = "data.eval";
  options.sources[0].paths = {write("eval.jsonl", "{\"text\": \"x\", \"label\": \"pos\"}\n")};
  EXPECT_EQ(values(ClassificationStream::open(options, *bytes_)->ordered(0, 1).labels), std::vector<int64_t>{1});
  options.sources[0].paths.push_back(write("eval.tsv", "y\tneg\nz\tbad\n"));
  expect_error<InputError>([&] { ClassificationStream::open(options, *bytes_); },
                           {"data.eval", path("eval.tsv") + ":2", "'bad'", "neg, pos"});
}

TEST_F(ClassificationStreamTest, MistakesAreNamed) {
  const auto refused = [&](const ClassificationOptions& options, const std::vector<std::string>& parts) {
    expect_error<InputError>([&] { ClassificationStream::open(options, *bytes_); }, parts);
  };
  refused(classification({write("x.tsv", "a\t0\n\t1\n")}), {"data.train", path("x.tsv") + ":2", "no token"});
  refused(classification({write("x.tsv", "a\t0\nb\t1\nc\t2\n")}), {"3 labels", "model.num_labels to 3"});
  refused(classification({write("x.tsv", "\n")}), {"x.tsv", "no row"});
  ClassificationOptions small = classification({write("x.tsv", "a\t0\nb\t1\n")});
  small.vocabulary_size = 98;
  refused(small, {"data.train", "token 256", "98", "257"});
  const auto stream = ClassificationStream::open(classification({path("x.tsv")}), *bytes_);
  EXPECT_THROW(stream->batch(0, 2, {8, 2, 0, 2}), ProtocolError);
  EXPECT_THROW(stream->batch(-1, 0, {8, 2, 0, 2}), ProtocolError);
  EXPECT_THROW(stream->ordered(0, 3), ProtocolError);
}

TEST_F(ClassificationStreamTest, TokensAreCached) {
  CountingTokenizer tokenizer;
  ClassificationOptions options = classification({write_old("x.tsv", "abc\t0\nde\t1\n")});
  options.cache = path("cache");
  options.before_reading = [](int64_t num_bytes) { throw num_bytes; };
  try {
    ClassificationStream::open(options, tokenizer);
    ADD_FAILURE() << "nobody was asked";
  } catch (int64_t num_bytes) {
    EXPECT_EQ(num_bytes, 11);
  }
  options.before_reading = nullptr;
  const auto first = ClassificationStream::open(options, tokenizer);
  EXPECT_FALSE(first->is_from_cache());
  EXPECT_EQ(tokenizer.bytes, 5);
  const auto second = ClassificationStream::open(options, tokenizer);
  EXPECT_TRUE(second->is_from_cache());
  EXPECT_EQ(tokenizer.bytes, 5);
  EXPECT_EQ(values(second->ordered(0, 2).tokens), values(first->ordered(0, 2).tokens));
  EXPECT_EQ(second->labels().names(), first->labels().names());
  options.sources[0].text_field = "1";
  options.label_field = "0";
  options.num_labels = 0;
  EXPECT_FALSE(ClassificationStream::open(options, tokenizer)->is_from_cache()) << "other columns";
  EXPECT_EQ(tokenizer.bytes, 7);
  options = classification({path("x.tsv")}, 2);
  options.cache = path("cache");
  EXPECT_EQ(ClassificationStream::open(options, tokenizer)->num_truncated(), 1);
  EXPECT_EQ(tokenizer.bytes, 12) << "another length";
  const std::string copy = write_old("y.tsv", "abc\t0\nde\t1\n");
  options.sources[0].paths = {copy};
  EXPECT_TRUE(ClassificationStream::open(options, tokenizer)->is_from_cache()) << "the same content";
}

TEST_F(ClassificationStreamTest, AFieldThatNoRowHasIsToldAtEveryStart) {
  ClassificationOptions options = classification({write("x.jsonl", R"({"text": "a", "label": 0})"
                                                                   "\n"
                                                                   R"({"text": "b", "label": 1})")});
  options.sources[0].text = "{text}[[ {answre}]]";
  options.cache = path("cache");
  for (const bool is_second : {false, true}) {
    warnings_.clear();
    EXPECT_EQ(ClassificationStream::open(options, *bytes_)->is_from_cache(), is_second);
    ASSERT_EQ(warnings_.size(), 1U);
    EXPECT_SAYS(warnings_[0], "data.train: no row has a field 'answre'");
  }
}

TEST_F(ClassificationStreamTest, ThreadsAndManyRowsChangeNothing) {
  const std::string file = numbered(1000);
  ClassificationOptions options = classification({file}, 32);
  options.num_threads = 1;
  const auto one = ClassificationStream::open(options, *bert_);
  options.num_threads = 5;
  const auto five = ClassificationStream::open(options, *bert_);
  EXPECT_EQ(values(one->ordered(0, 1000).tokens), values(five->ordered(0, 1000).tokens));
  EXPECT_EQ(one->num_truncated(), five->num_truncated());
  EXPECT_GT(one->num_truncated(), 0);
  options.max_samples = 7;
  EXPECT_EQ(ClassificationStream::open(options, *bert_)->num_samples(), 7);
}

TEST_F(ClassificationStreamTest, SpreadSamplesAreTheMiddlesOfEvenShares) {
  ClassificationOptions options = classification({numbered(1000)}, 32);
  options.shuffle = false;
  const auto whole = ClassificationStream::open(options, *bert_);
  options.max_samples = 10;
  options.spread = true;
  const auto stream = ClassificationStream::open(options, *bert_);
  int64_t tokens = 0;
  std::vector<int64_t> counts(static_cast<size_t>(whole->labels().size()), 0);
  for (int64_t i = 0; i < 10; ++i) {
    const int64_t place = 50 + 100 * i;
    EXPECT_EQ(stream->sample(i), whole->sample(place));
    const Batch found = stream->ordered(i, i + 1), expected = whole->ordered(place, place + 1);
    EXPECT_EQ(values(found.tokens), values(expected.tokens));
    EXPECT_EQ(values(found.labels), values(expected.labels));
    tokens += std::ssize(whole->sample(place));
    ++counts[static_cast<size_t>(values(expected.labels)[0])];
  }
  EXPECT_EQ(stream->num_sample_tokens(), tokens);
  for (size_t label = 0; label < counts.size(); ++label) EXPECT_EQ(stream->count(static_cast<int64_t>(label)), counts[label]);
}

LengthBuckets buckets_of(const std::vector<int32_t>& lengths, uint64_t seed) {
  return {lengths, SampleOrder::whole(std::ssize(lengths), true, seed), seed};
}

TEST(LengthBuckets, BatchesHaveLikeLengthsAndEachEpochEverySampleOnce) {
  constexpr int64_t kSamples = 10007, kBatch = 16;
  std::mt19937_64 random(4);
  std::vector<int32_t> lengths(kSamples);
  for (int32_t& length : lengths) length = static_cast<int32_t>(5 + random() % 120);
  const LengthBuckets buckets = buckets_of(lengths, 5);
  int64_t padded = 0, tokens = 0, padded_without = 0;
  std::vector<int64_t> stream;
  for (int64_t step = 0; step < 3 * kSamples / kBatch; ++step) {
    const std::vector<int64_t> batch = buckets.batch(step, kBatch);
    ASSERT_EQ(std::ssize(batch), kBatch);
    int32_t longest = 0, longest_without = 0;
    for (int64_t i = 0; i < kBatch; ++i) {
      const int64_t position = step * kBatch + i;
      longest = std::max(longest, lengths[static_cast<size_t>(batch[static_cast<size_t>(i)])]);
      tokens += lengths[static_cast<size_t>(batch[static_cast<size_t>(i)])];
      longest_without =
          std::max(longest_without, lengths[static_cast<size_t>(Permutation(kSamples, 5, position / kSamples)(position % kSamples))]);
    }
    padded += kBatch * longest;
    padded_without += kBatch * longest_without;
    stream.insert(stream.end(), batch.begin(), batch.end());
  }
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    const std::set<int64_t> seen(stream.begin() + epoch * kSamples, stream.begin() + (epoch + 1) * kSamples);
    EXPECT_EQ(std::ssize(seen), kSamples) << "epoch " << epoch;
  }
  EXPECT_LT(static_cast<double>(padded) / static_cast<double>(tokens), 1.03);
  EXPECT_GT(static_cast<double>(padded_without) / static_cast<double>(tokens), 1.7);
}

TEST(LengthBuckets, TheOrderStaysRandom) {
  // When a sample comes says nothing of its length: lengths and places in the epoch do not correlate, and neighbours in time change.
  constexpr int64_t kSamples = 8192, kBatch = 8;
  std::vector<int32_t> lengths(kSamples);
  for (size_t i = 0; i < lengths.size(); ++i) lengths[i] = static_cast<int32_t>(i / 64);
  const LengthBuckets buckets = buckets_of(lengths, 1);
  std::vector<double> correlation;
  std::vector<std::set<int64_t>> first_batches;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    double sum = 0, squares = 0, lengths_sum = 0, lengths_squares = 0;
    for (int64_t step = 0; step < kSamples / kBatch; ++step) {
      const auto batch = buckets.batch(epoch * kSamples / kBatch + step, kBatch);
      if (step == 0) first_batches.emplace_back(batch.begin(), batch.end());
      double length = 0;
      for (int64_t sample : batch) length += lengths[static_cast<size_t>(sample)] / 8.0;
      const double place = static_cast<double>(step) - (kSamples / kBatch - 1) / 2.0, centred = length - 63.5;
      sum += place * centred;
      squares += place * place;
      lengths_sum += centred;
      lengths_squares += centred * centred;
    }
    EXPECT_NEAR(lengths_sum / (kSamples / kBatch), 0, 1e-9);
    EXPECT_LT(std::abs(sum / std::sqrt(squares * lengths_squares)), 0.12) << "epoch " << epoch;
  }
  EXPECT_NE(first_batches[0], first_batches[1]);
  EXPECT_NE(first_batches[1], first_batches[2]);
  const LengthBuckets other = buckets_of(lengths, 2);
  EXPECT_NE(other.batch(0, kBatch), buckets.batch(0, kBatch));
  EXPECT_EQ(buckets_of(lengths, 1).batch(5, kBatch), buckets.batch(5, kBatch));
  EXPECT_THROW(buckets.batch(-1, 8), ProtocolError);
  EXPECT_EQ(buckets_of({3, 4}, 1).batch(0, 5).size(), 5U) << "a batch of more than an epoch";
}

// A person who labels with the model's names in other cases means them, and where labels are matched otherwise it is said.
TEST_F(ClassificationStreamTest, LabelsAreMatchedWithTheModelsClassesOrTheDifferenceIsSaid) {
  const auto labels_of = [&](const std::vector<std::string>& classes, const std::string& rows) {
    warnings_.clear();
    ClassificationOptions options = classification({write("x.tsv", rows)});
    options.class_names = classes;
    options.num_labels = std::ssize(classes);
    const auto stream = ClassificationStream::open(options, *bytes_);
    return values(stream->ordered(0, stream->num_samples()).labels);
  };
  using Labels = std::vector<int64_t>;
  const std::vector<std::string> reversed{"POSITIVE", "NEGATIVE"};
  EXPECT_EQ(labels_of(reversed, "a\tPOSITIVE\nb\tNEGATIVE\n"), (Labels{0, 1}));
  EXPECT_EQ(warnings_.size(), 0U);
  EXPECT_EQ(labels_of(reversed, "a\tpositive\nb\tnegative\n"), (Labels{0, 1})) << "by name, not in the order of letters";
  ASSERT_EQ(warnings_.size(), 2U);
  EXPECT_EQ(warnings_[0], "data.train: " + path("x.tsv") + ":1: the label 'positive' is taken as 'POSITIVE'");
  EXPECT_EQ(labels_of(reversed, "a\tgood\nb\tbad\n"), (Labels{1, 0})) << "sorted";
  ASSERT_EQ(warnings_.size(), 1U);
  for (const char* part : {"POSITIVE, NEGATIVE", "'good' is 'NEGATIVE'", "'bad' is 'POSITIVE'", "by their order"})
    EXPECT_NE(warnings_[0].find(part), std::string::npos) << warnings_[0];
  EXPECT_EQ(labels_of(reversed, "a\t1.0\nb\t0.0\n"), (Labels{1, 0}));
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_NE(warnings_[0].find("'1' is 'NEGATIVE'"), std::string::npos) << warnings_[0];
}

TEST_F(ClassificationStreamTest, AnEvaluationMayWriteLabelsInOtherCases) {
  ClassificationOptions options =
      classification({write("train.jsonl", "{\"text\": \"a\", \"label\": true}\n{\"text\": \"b\", \"label\": false}\n")});
  const auto train = ClassificationStream::open(options, *bytes_);
  EXPECT_EQ(train->labels().names(), (std::vector<std::string>{"false", "true"}));
  options.labels = train->labels();
  options.key = "data.eval";
  options.sources[0].paths = {write("eval.csv", "a,True\nb,False\nc,True\n")};
  EXPECT_EQ(values(ClassificationStream::open(options, *bytes_)->ordered(0, 3).labels), (std::vector<int64_t>{1, 0, 1}));
  EXPECT_EQ(warnings_.size(), 2U);
  options.sources[0].paths = {write("eval.csv", "a,yes\n")};
  expect_error<InputError>([&] { ClassificationStream::open(options, *bytes_); }, {"data.eval", "eval.csv:1", "'yes'", "false, true"});
}

TEST_F(ClassificationStreamTest, ClassesThatTheDataLacksAreThere) {
  ClassificationOptions options = classification({write("x.tsv", "a\tpositive\nb\tnegative\n")});
  options.num_labels = 3;
  const auto stream = ClassificationStream::open(options, *bytes_);
  EXPECT_EQ(stream->labels().names(), (std::vector<std::string>{"negative", "positive", "LABEL_2"}));
  EXPECT_EQ(values(stream->ordered(0, 2).labels), (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(stream->count(2), 0);
}

}  // namespace
}  // namespace zerostep
