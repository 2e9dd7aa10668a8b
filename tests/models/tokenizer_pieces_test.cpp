// SentencePiece's tokenizers (Llama 2, T5, XLM-R), digits set apart and spaces put before texts, against Hugging Face's tokenizers
// (tests/models/reference/tokenizer_pieces.py).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "models/tokenizer/character_map.h"
#include "models/tokenizer/graphemes.h"
#include "models/tokenizer/normalization.h"
#include "models/tokenizer/pre_tokenizer.h"
#include "models/tokenizer/split_pattern.h"
#include "models/tokenizer/token_trie.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/utf8.h"
#include "tests/models/support/tokenizer_texts.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

json read_json(const std::string& name) { return json::parse(std::ifstream(reference_folder() / name)); }

const json& reference() {
  static const json loaded = read_json("tokenizer_pieces.json");
  return loaded;
}

// Draws as the script does.
class Draw {
 public:
  explicit Draw(uint64_t seed) : state_(seed) {}
  uint64_t operator()(uint64_t count) {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return (state_ >> 33) % count;
  }
  const std::string& one_of(const std::vector<std::string>& texts) { return texts[(*this)(texts.size())]; }

 private:
  uint64_t state_;
};

// The hard texts: fragments and random characters with white space of all kinds between them.
const std::vector<std::string>& blocks() {
  static const std::vector<std::string> all = [] {
    const auto fragments = reference()["fragments"].get<std::vector<std::string>>();
    const auto spaces = reference()["spaces"].get<std::vector<std::string>>();
    const auto ranges = reference()["ranges"].get<std::vector<std::pair<uint32_t, uint32_t>>>();
    std::vector<std::string> texts(reference()["blocks"].get<size_t>());
    for (size_t number = 0; number < texts.size(); ++number) {
      Draw draw(number);
      std::string& text = texts[number];
      for (int i = 0; i < 40; ++i) {
        if (draw(6) == 0) {
          for (uint64_t left = 1 + draw(8); left > 0; --left) {
            const auto [first, end] = ranges[draw(ranges.size())];
            append_utf8(first + static_cast<uint32_t>(draw(end - first)), text);
          }
        } else {
          text += draw.one_of(fragments);
        }
        const uint64_t gap = draw(4);
        text += gap == 0 ? "" : gap < 3 ? " " : draw.one_of(spaces);
      }
    }
    return texts;
  }();
  return all;
}

class TokenizerPieces : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return (folder_ / name).string();
  }
  std::unique_ptr<Tokenizer> changed(const std::string& file, const json& patch) const {
    json content = read_json("tokenizers/" + file + ".json");
    content.merge_patch(patch);
    return load_tokenizer(write("tokenizer.json", content.dump()));
  }
  std::unique_ptr<Tokenizer> kind(const std::string& name) const {
    const json& kind = reference()["kinds"][name];
    return changed(kind["of"], kind["patch"]);
  }
  void expect_refused(const std::string& file, const json& patch, const std::vector<std::string>& parts) const {
    try {
      changed(file, patch);
      ADD_FAILURE() << "no error; expected one with " << parts.front();
    } catch (const InputError& e) {
      for (const std::string& part : parts)
        EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << "'" << part << "' is not in: " << e.what();
      EXPECT_NE(std::string(e.what()).find((folder_ / "tokenizer.json").string()), std::string::npos) << e.what();
    }
  }

  ScratchFolder scratch_;
  const fs::path& folder_ = scratch_.folder();
};

TEST_F(TokenizerPieces, TokensOfEveryKindEqualTheReference) {
  const auto group = reference()["blocks_a_group"].get<size_t>();
  ASSERT_GE(reference()["kinds"].size(), 20U);
  for (const auto& [name, expected] : reference()["kinds"].items()) {
    const auto tokenizer = kind(name);
    size_t num_tokens = 0;
    std::string decoded;
    for (size_t begin = 0; begin < blocks().size(); begin += group) {
      std::string tokens;
      for (size_t i = begin; i < begin + group; ++i) {
        const std::vector<int32_t> of_block = encode(*tokenizer, blocks()[i]);
        num_tokens += of_block.size();
        for (int32_t token : of_block) tokens.append(tokens.empty() ? "" : " ").append(std::to_string(token));
        decoded.append(i == 0 ? "" : "\n").append(tokenizer->decode(of_block));
      }
      EXPECT_EQ(fnv1a(tokens), expected["groups"][begin / group].get<std::string>()) << name << ", blocks from " << begin;
    }
    EXPECT_GE(num_tokens, 100000U) << name;
    EXPECT_EQ(num_tokens, expected["tokens"].get<size_t>()) << name;
    EXPECT_EQ(fnv1a(decoded), expected["decoded"].get<std::string>()) << name;
    std::vector<int32_t> whole = tokenizer->prefix();
    tokenizer->encode("a", whole);
    for (int32_t token : tokenizer->suffix()) whole.push_back(token);
    EXPECT_EQ(json(whole), expected["with_template"]) << name;
  }
}

TEST_F(TokenizerPieces, CutTextsHaveTheSameTokens) {
  for (const auto& [name, expected] : reference()["kinds"].items()) {
    const auto tokenizer = kind(name);
    int64_t inside = 0;
    for (size_t block = 0; block < 60; ++block) {
      const std::string_view text = blocks()[block];
      const std::vector<int32_t> whole = encode(*tokenizer, text);
      for (size_t at = 0, last = 0; at <= text.size(); ++at) {
        const size_t cut = tokenizer->split_point(text, at);
        ASSERT_GE(cut, std::min(at, text.size()));
        ASSERT_LE(cut, text.size());
        if (cut == last || cut == text.size()) continue;
        last = cut;
        ++inside;
        std::vector<int32_t> parts = encode(*tokenizer, text.substr(0, cut));
        const std::string_view rest = text.substr(cut);
        const size_t second = tokenizer->split_point(rest, 5);
        tokenizer->encode_rest(rest.substr(0, second), parts);
        tokenizer->encode_rest(rest.substr(second), parts);
        ASSERT_EQ(parts, whole) << name << ", block " << block << " cut at " << cut << " and " << cut + second;
      }
    }
    if (name == "one piece") {
      EXPECT_EQ(inside, 0) << "a piece that Unigram tokenizes is never cut";
    } else {
      EXPECT_GT(inside, name == "deepseek" ? 50 : 300) << name;  // DeepSeek's are cut at line ends alone
    }
  }
}

TEST_F(TokenizerPieces, ThreadsGetTheSameTokens) {
  std::string all;
  for (size_t block = 0; block < 30; ++block) all += blocks()[block];
  for (const char* name : {"llama2", "t5"}) {
    const auto tokenizer = kind(name);
    const std::vector<int32_t> expected = encode(*tokenizer, all);
    std::vector<std::vector<int32_t>> found(4);
    {
      std::vector<std::jthread> threads;
      for (auto& tokens : found) threads.emplace_back([&] { tokens = encode(*tokenizer, all); });
    }
    for (const auto& tokens : found) EXPECT_EQ(tokens, expected) << name;
  }
}

TEST_F(TokenizerPieces, ClustersAndNumbersAtEveryCodePointEqualTheReference) {
  const CharacterMap map("the map", *base64_bytes(reference()["map"].get<std::string>()));
  for (const auto& [around, expected] : reference()["clusters"].items()) {
    const size_t place = around.find('?');
    std::string all;
    for_each_code_point([&](uint32_t c) {
      std::string text = around.substr(0, place);
      append_utf8(c, text);
      map.apply(text + around.substr(place + 1), all);
    });
    EXPECT_EQ(fnv1a(all), expected.get<std::string>()) << around;
  }
  const PreTokenizer digits(PreTokenizer::Pattern::EachNumber);
  const auto scratch = digits.make_scratch();
  std::string counts;
  for_each_code_point([&](uint32_t c) {
    std::string text = "a";
    append_utf8(c, text);
    counts += digits.piece_end(text, 0, *scratch) == text.size() ? '1' : '2';
  });
  EXPECT_EQ(fnv1a(counts), reference()["numbers"].get<std::string>());
}

TEST_F(TokenizerPieces, PatternsOfASplitMatchAsInTheReference) {
  for (const auto& [regex, expected] : reference()["patterns"].items()) {
    const PreTokenizer split({PreTokenizer::Pattern::Other, regex});
    const auto scratch = split.make_scratch();
    std::string lengths;
    for_each_code_point([&](uint32_t c) {
      std::string text = "a";
      append_utf8(c, text);
      text += 'b';
      const size_t end = split.piece_end(text, 0, *scratch);
      lengths += end == 1 ? '1' : end + 1 == text.size() ? '2' : '3';
    });
    EXPECT_EQ(fnv1a(lengths), expected.get<std::string>()) << regex;
  }
}

TEST_F(TokenizerPieces, PatternsThatMayMeanAnotherThingAreNotWritten) {
  for (const char* regex : {"a*",         "",       "(?!\\S)", "$",   "\\d",   "\\w+",  "\\p{Lu}", "\\P{L}", "\\p{^L}", ".",
                            "^a",         "(?i:a)", "(?<n>a)", "a++", "a{2}+", "a{,3}", "a??",     "[a&&b]", "[a[b]]",  "[[:alpha:]]",
                            "[\\p{L}-x]", "[\\S]",  "[]a]",    "(a",  "a)",    "[a",    "*a",      "\\"})
    EXPECT_EQ(split_pattern(regex), std::nullopt) << regex;
  EXPECT_EQ(split_pattern("(ab|c)?d{1,2}"), "(?:[\\x{61}][\\x{62}]|[\\x{63}])?[\\x{64}]{1,2}");
  EXPECT_EQ(split_pattern("[^a-z\\-.]x$"), "[^\\x{61}-\\x{7A}\\x{2D}\\x{2E}][\\x{78}](?=\n|\\z)");
}

TEST_F(TokenizerPieces, GraphemeClustersEndWhereTheStandardSays) {
  EXPECT_EQ(grapheme_length(""), 0U);
  EXPECT_EQ(grapheme_length("\r\nx"), 2U);
  EXPECT_EQ(grapheme_length("\n\r"), 1U);
  EXPECT_EQ(grapheme_length("e\u0301\u0323x"), 5U);
  EXPECT_EQ(grapheme_length("\U0001F1E9\U0001F1EA\U0001F1EB\U0001F1F7"), 8U) << "two regional indicators";
  EXPECT_EQ(grapheme_length("\U0001F468\u200D\U0001F469\u200D\U0001F467 "), 18U) << "a family";
  EXPECT_EQ(grapheme_length("\u0915\u094D\u0937x"), 9U) << "a conjunct";
  EXPECT_EQ(grapheme_length("\u1100\u1161\u11A8\u1100"), 9U) << "a syllable of Hangul";
}

TEST_F(TokenizerPieces, TrieFindsEveryTextThatBeginsAnother) {
  const TokenTrie trie({{"a", 1}, {"abc", 2}, {"b", 3}, {"\xE4\xB8\xAD", 4}, {"abd", 5}, {"b", 6}});
  const auto found = [&](std::string_view text) {
    std::vector<std::pair<size_t, int32_t>> all;
    trie.for_each_prefix(text, [&](size_t length, int32_t token) { all.emplace_back(length, token); });
    return all;
  };
  using Found = std::vector<std::pair<size_t, int32_t>>;
  EXPECT_EQ(found("abcd"), (Found{{1, 1}, {3, 2}}));
  EXPECT_EQ(found("b"), (Found{{1, 6}})) << "of equal texts the last counts";
  EXPECT_EQ(found("\xE4\xB8\xAD\xE5"), (Found{{3, 4}}));
  EXPECT_EQ(found("xab"), Found());
  EXPECT_EQ(found(""), Found());
  EXPECT_EQ(trie.find("abd"), 5);
  EXPECT_EQ(trie.find("ab"), -1);
}

TEST_F(TokenizerPieces, SpecialTokensHaveTheirPlaces) {
  const auto llama2 = kind("llama2"), t5 = kind("t5"), xlmr = kind("xlmr");
  EXPECT_EQ(llama2->end_of_document(), 2);
  EXPECT_EQ(llama2->padding(), 2);
  EXPECT_EQ(llama2->mask(), std::nullopt);
  EXPECT_EQ(t5->end_of_document(), 1);
  EXPECT_EQ(t5->padding(), 0);
  EXPECT_EQ(xlmr->end_of_document(), 2);
  EXPECT_EQ(xlmr->padding(), 1);
  EXPECT_EQ(xlmr->mask(), xlmr->vocabulary_size() - 1);
  EXPECT_EQ(encode(*xlmr, "the  <mask>").back(), *xlmr->mask());
}

TEST_F(TokenizerPieces, StrayBytesAreKeptWhereEveryByteHasAToken) {
  const std::string stray = "a\xFF b\xC3";
  const auto llama2 = kind("llama2"), t5 = kind("t5"), without = kind("no bytes");
  EXPECT_EQ(llama2->stray_bytes(), Tokenizer::StrayBytes::Kept);
  EXPECT_EQ(llama2->decode(encode(*llama2, stray)), stray);
  EXPECT_EQ(t5->stray_bytes(), Tokenizer::StrayBytes::Lost);
  EXPECT_EQ(without->stray_bytes(), Tokenizer::StrayBytes::Lost);
  EXPECT_EQ(encode(*without, stray), encode(*without, "a\uFFFD b\uFFFD"));
}

TEST_F(TokenizerPieces, FingerprintFollowsEveryRule) {
  std::vector<std::string> fingerprints;
  for (const auto& [name, unused] : reference()["kinds"].items()) fingerprints.push_back(kind(name)->fingerprint());
  std::sort(fingerprints.begin(), fingerprints.end());
  EXPECT_EQ(std::unique(fingerprints.begin(), fingerprints.end()), fingerprints.end());
}

TEST_F(TokenizerPieces, UnknownPartsAreRefusedByName) {
  expect_refused("llama2", {{"pre_tokenizer", {{"type", "Mystery"}}}}, {"pre-tokenizer", "Mystery"});
  expect_refused("llama2", {{"normalizer", {{"type", "Nmt"}}}}, {"normalizer", "Nmt"});
  const json regex = {{"type", "Replace"}, {"pattern", {{"Regex", "\\d"}}}, {"content", ""}};
  expect_refused("llama2", {{"normalizer", {{"type", "Sequence"}, {"normalizers", {regex}}}}}, {"Replace", "\\\\d"});
  expect_refused("llama2", {{"model", {{"dropout", 0.1}}}}, {"dropout"});
  expect_refused("llama2", {{"model", {{"end_of_word_suffix", "</w>"}}}}, {"end_of_word_suffix", "</w>"});
  expect_refused("llama2", {{"model", {{"unk_token", "[UNK]"}}}}, {"unk_token", "[UNK]"});
  expect_refused("llama2", {{"model", {{"merges", {"a xyzzy"}}}}}, {"model.merges[0]", "xyzzy"});
  expect_refused("llama2", {{"decoder", {{"type", "CTC"}}}}, {"decoder", "CTC"});
  expect_refused("t5", {{"model", {{"unk_id", nullptr}}}}, {"unk_id", "null"});
  expect_refused("t5", {{"model", {{"vocab", json::array({json::array({"<unk>", "high"})})}}}}, {"model.vocab[0]", "high"});
  expect_refused("t5", {{"normalizer", {{"precompiled_charsmap", "###"}}}}, {"precompiled_charsmap", "Base64"});
  expect_refused("t5", {{"normalizer", {{"precompiled_charsmap", "AAAA"}}}}, {"precompiled_charsmap", "no map"});
  expect_refused("t5", {{"pre_tokenizer", {{"pretokenizers", {{{"type", "Metaspace"}, {"replacement", "_"}}, {{"type", "Digits"}}}}}}},
                 {"Digits", "behind Metaspace"});
  const json first = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "first"}};
  expect_refused("t5", {{"pre_tokenizer", first}, {"normalizer", {{"type", "Strip"}, {"strip_left", true}}}},
                 {"prepend_scheme", "strip_left"});
  expect_refused("t5", {{"model", {{"type", "Ngrams"}}}}, {"Ngrams", "Unigram"});
}

}  // namespace
}  // namespace zerostep
