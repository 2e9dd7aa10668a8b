#include <algorithm>
#include <map>

#include "runtime/data/data_stream.h"
#include "tests/runtime/support/data_test_files.h"

// Streams of several sources, with weights and without.
namespace zerostep {
namespace {

// A source of one letter a document, so that a sample tells of which source it is.
class MixtureTest : public DataTest {
 protected:
  std::unique_ptr<DataStream> open(const DataOptions& options) const { return DataStream::open(options, *tokenizer_); }
  DocumentSource letters(char letter, int documents, double weight) const {
    std::string text;
    for (int i = 0; i < documents; ++i) text += "{\"text\": \"" + std::string(static_cast<size_t>(20 + i % 13), letter) + "\"}\n";
    return {.name = std::string(1, letter),
            .key = std::string("data.train.") + letter,
            .paths = {write(std::string(1, letter) + ".jsonl", text)},
            .weight = weight};
  }
  DataOptions mixed(const std::vector<DocumentSource>& sources, int64_t length = 8) const {
    DataOptions out = options({}, length);
    out.sources = sources;
    return out;
  }
  static char letter_of(const std::vector<int32_t>& sample) {
    for (int32_t token : sample)
      if (token != 256) return static_cast<char>(token);
    return 0;
  }
  std::unique_ptr<Tokenizer> tokenizer_ = make_byte_tokenizer();
};

TEST_F(MixtureTest, EverySourceHasItsShareAndGoesThroughEpochsOfItsOwn) {
  const auto stream = open(mixed({letters('a', 300, 6), letters('b', 20, 3), letters('c', 40, 1)}));
  EXPECT_TRUE(stream->is_weighted());
  const std::vector<SampleSource> sources = stream->sources();
  ASSERT_EQ(sources.size(), 3U);
  // A document of 20 to 32 letters and its end; samples of 8.
  const auto alone = [&](const DocumentSource& source) { return open(mixed({source}))->num_samples(); };
  int64_t all = 0;
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(sources[i].name, std::string(1, "abc"[i]));
    EXPECT_EQ(sources[i].num_samples, alone(letters("abc"[i], i == 0 ? 300 : i == 1 ? 20 : 40, 1)));
    all += sources[i].num_samples;
  }
  EXPECT_EQ(stream->num_samples(), all) << "an epoch is as many samples as the sources have together";
  std::map<char, int64_t> counts;
  std::map<char, std::vector<std::vector<int32_t>>> of_source;
  constexpr int64_t kBatch = 7;
  const std::map<char, double> shares{{'a', 0.6}, {'b', 0.3}, {'c', 0.1}};
  for (int64_t step = 0; step < 3 * all / kBatch; ++step) {
    const std::vector<int64_t> named = stream->sources_of_batch(step, kBatch);
    for (int64_t j = 0; j < kBatch; ++j) {
      const int64_t position = step * kBatch + j;
      const std::vector<int32_t> sample = stream->sample(position);
      const char letter = letter_of(sample);
      EXPECT_EQ(sources[static_cast<size_t>(named[static_cast<size_t>(j)])].name, std::string(1, letter));
      ++counts[letter];
      of_source[letter].push_back(sample);
      for (const auto& [of, share] : shares)
        ASSERT_NEAR(static_cast<double>(counts[of]), share * static_cast<double>(position + 1), 2) << of << " after " << position + 1;
    }
  }
  // Each of the small source's epochs has all of its samples, in an order of its own.
  const auto epoch_of = [&](size_t epoch) {
    const auto n = static_cast<size_t>(sources[1].num_samples);
    const auto begin = of_source['b'].begin() + static_cast<std::ptrdiff_t>(epoch * n);
    return std::vector(begin, begin + static_cast<std::ptrdiff_t>(n));
  };
  auto first = epoch_of(0), second = epoch_of(1);
  EXPECT_NE(first, second);
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, second);
}

TEST_F(MixtureTest, BatchesAreTheSameAtEveryWorldSize) {
  const auto stream = open(mixed({letters('a', 50, 2), letters('b', 50, 1)}));
  constexpr int64_t kBatch = 8;
  for (int64_t step : {0, 5, 31}) {
    std::vector<int64_t> whole;
    for (int64_t j = 0; j < kBatch; ++j) {
      const std::vector<int32_t> sample = stream->sample(step * kBatch + j);
      whole.insert(whole.end(), sample.begin(), sample.end() - 1);
    }
    for (const int world : {1, 2, 4})
      for (const int64_t micro : {1, 2}) {
        std::vector<int64_t> joined;
        for (int64_t part = 0; part < kBatch / (micro * world); ++part)
          for (int rank = 0; rank < world; ++rank) {
            const std::vector<int64_t> tokens = values(stream->batch(step, part, {kBatch, micro, rank, world}).tokens);
            joined.insert(joined.end(), tokens.begin(), tokens.end());
          }
        EXPECT_EQ(joined, whole) << world << " ranks, micro-batches of " << micro;
      }
  }
}

TEST_F(MixtureTest, TheFingerprintKnowsTheWeights) {
  const auto fingerprint = [&](double a, double b) { return open(mixed({letters('a', 30, a), letters('b', 30, b)}))->fingerprint(); };
  EXPECT_EQ(fingerprint(3, 1), fingerprint(0.75, 0.25));
  EXPECT_NE(fingerprint(3, 1), fingerprint(1, 3));
  EXPECT_NE(fingerprint(1, 1), fingerprint(0, 0)) << "mixed, or one after the other";
}

TEST_F(MixtureTest, LimitsAndSplitsHoldForEachSource) {
  DataOptions options = mixed({letters('a', 200, 3), letters('b', 200, 1)});
  options.max_samples = 40;
  const std::vector<SampleSource> limited = open(options)->sources();
  EXPECT_EQ(limited[0].num_samples, 30);
  EXPECT_EQ(limited[1].num_samples, 10);
  options.max_samples = 0;
  const std::vector<SampleSource> all = open(options)->sources();
  options.first_share = 0.2;
  options.part = DataOptions::Part::First;
  const auto first = open(options);
  options.part = DataOptions::Part::Rest;
  const auto rest = open(options);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(first->sources()[i].num_samples, all[i].num_samples / 5);
    EXPECT_EQ(rest->sources()[i].num_samples, all[i].num_samples - all[i].num_samples / 5);
  }
  expect_error<InputError>(
      [&] {
        open(mixed({letters('a', 200, 3), {.key = "data.train[1]", .paths = {write("c.txt", "abc")}, .weight = 1}}));
      },
      {"data.train[1]", "c.txt", "fewer than one sample"});
}

TEST_F(MixtureTest, SourcesWithoutWeightsFollowEachOther) {
  DataOptions options = mixed({letters('a', 9, 0), letters('b', 4, 0)}, 5);
  options.shuffle = false;
  const auto stream = open(options);
  EXPECT_FALSE(stream->is_weighted());
  const std::vector<int64_t> named = stream->sources_of_batch(0, stream->num_samples());
  std::vector<int64_t> counts(2);
  for (int64_t i = 0; i < stream->num_samples(); ++i) {
    const int64_t source = named[static_cast<size_t>(i)];
    ++counts[static_cast<size_t>(source)];
    const int32_t first = stream->sample(i).front();
    if (first != 256) {
      EXPECT_EQ(first, source == 0 ? 'a' : 'b') << i;
    }
  }
  const std::vector<SampleSource> sources = stream->sources();
  EXPECT_EQ(sources[0].num_samples, counts[0]);
  EXPECT_EQ(sources[1].num_samples, counts[1]);
  EXPECT_DOUBLE_EQ(sources[0].share + sources[1].share, 1);
}

}  // namespace
}  // namespace zerostep
