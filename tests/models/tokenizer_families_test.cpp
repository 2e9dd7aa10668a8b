// Byte-pair encodings of Llama 3 and Qwen2 and BERT's WordPiece, against Hugging Face's libraries
// (tests/models/reference/tokenizer_families.py).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/normalization.h"
#include "models/tokenizer/pre_tokenizer.h"
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
  static const json loaded = read_json("tokenizers/vectors.json");
  return loaded;
}

// The texts of the vectors; those of GPT-2's vectors are named alone.
const std::map<std::string, std::string>& texts() {
  static const std::map<std::string, std::string> loaded = [] {
    std::map<std::string, std::string> out;
    const json gpt2 = read_json("tokenizer_gpt2.json");
    for (const json& vector : gpt2["vectors"]) {
      if (vector.contains("text")) out[vector["name"]] = vector["text"];
    }
    for (const json& vector : reference()["vectors"]) {
      if (vector.contains("text")) out[vector["name"]] = vector["text"];
    }
    return out;
  }();
  return loaded;
}

// A folder of its own for each test.
class TokenizerFamilies : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return (folder_ / name).string();
  }
  static std::unique_ptr<Tokenizer> family(const std::string& name) {
    return load_tokenizer((reference_folder() / "tokenizers" / (name + ".json")).string());
  }
  void expect_refused(const std::string& name, const std::function<void(json&)>& change, const std::vector<std::string>& parts) const {
    json file = read_json("tokenizers/" + name + ".json");
    change(file);
    const std::string path = write("tokenizer.json", file.dump());
    try {
      load_tokenizer(path);
      ADD_FAILURE() << "no error; expected one with " << parts.front();
    } catch (const InputError& e) {
      for (const std::string& part : parts)
        EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << "'" << part << "' is not in: " << e.what();
      EXPECT_NE(std::string(e.what()).find(path), std::string::npos) << e.what();
    }
  }

  ScratchFolder scratch_;
  const fs::path& folder_ = scratch_.folder();
};

TEST_F(TokenizerFamilies, TokensEqualTheReference) {
  ASSERT_GE(reference()["vectors"].size(), 60U);
  for (const char* name : {"llama3", "qwen2", "bert"}) {
    const auto tokenizer = family(name);
    for (const json& vector : reference()["vectors"]) {
      const std::string& text = texts().at(vector["name"]);
      EXPECT_EQ(encode(*tokenizer, text), vector[name].get<std::vector<int32_t>>()) << name << ": " << vector["name"];
    }
    const json& around = reference()["around"][name];
    EXPECT_EQ(json(tokenizer->prefix()), around[0]) << name;
    EXPECT_EQ(json(tokenizer->suffix()), around[1]) << name;
  }
}

TEST_F(TokenizerFamilies, VocabularyFileWithItsConfigurationEqualsTheReference) {
  fs::copy(reference_folder() / "tokenizers/vocab.txt", folder_ / "vocab.txt");
  const auto bare = load_tokenizer(folder_.string());
  EXPECT_EQ(bare->prefix(), std::vector<int32_t>{2});
  EXPECT_EQ(bare->suffix(), std::vector<int32_t>{3});
  EXPECT_EQ(bare->end_of_document(), 3);
  EXPECT_EQ(bare->padding(), 0);
  EXPECT_EQ(bare->mask(), 4);
  for (const auto& [variant, options] : reference()["variants"].items()) {
    if (!options.empty()) write("tokenizer_config.json", options.dump());
    const auto tokenizer = load_tokenizer((folder_ / "vocab.txt").string());
    for (const json& vector : reference()["vectors"]) {
      const auto& expected = vector.contains(variant) ? vector[variant] : vector["bert"];
      EXPECT_EQ(encode(*tokenizer, texts().at(vector["name"])), expected.get<std::vector<int32_t>>()) << variant << ": " << vector["name"];
    }
    fs::remove(folder_ / "tokenizer_config.json");
  }
}

TEST_F(TokenizerFamilies, PiecesAtEveryCodePointEqualTheReference) {
  for (const auto& [name, pattern] : {std::pair{"llama3", PreTokenizer::Pattern::Llama3}, {"qwen2", PreTokenizer::Pattern::Qwen2}}) {
    const PreTokenizer pre_tokenizer(pattern);
    const auto scratch = pre_tokenizer.make_scratch();
    std::string counts;
    for_each_code_point([&](uint32_t c) {
      for (char before : {'a', '1', '!'}) {
        std::string text(1, before);
        append_utf8(c, text);
        counts += pre_tokenizer.piece_end(text, 0, *scratch) == text.size() ? '1' : '2';
      }
    });
    EXPECT_EQ(fnv1a(counts), reference()["classes"][name].get<std::string>()) << name;
  }
}

TEST_F(TokenizerFamilies, NormalFormsOfEveryCodePointEqualTheReference) {
  std::map<std::string, std::string> all;
  std::string &marks = all["marks"], &between = all["between"], &clean = all["clean_text"], &ideographs = all["handle_chinese_chars"],
              &accents = all["strip_accents"], &lowered = all["lowercase"], &words = all["words"];
  std::string buffer;
  std::vector<uint32_t> characters;
  for_each_code_point([&](uint32_t c) {
    std::string character;
    append_utf8(c, character);
    marks += nfc_form("a" + character + "\u0323\u0301", buffer);
    between += nfc_form("e\u0345" + character + "\u0334", buffer);
    clean += "a" + (is_bert_removed(c) ? "" : is_white_space(c) ? " " : character) + "b";
    ideographs += "a" + (is_bert_ideograph(c) ? " " + character + " " : character) + "b";
    characters = {'a', c, 'b'};
    decompose(characters);
    std::erase_if(characters, is_accent);
    for (uint32_t stripped : characters) append_utf8(stripped, accents);
    characters = {'a'};
    append_lower_case(c, characters);
    for (uint32_t lower : characters) append_utf8(lower, lowered);
    lowered += "b";
    words += is_white_space(c) ? "2" : is_bert_punctuation(c) ? "3" : "1";
  });
  ASSERT_EQ(all.size(), reference()["normal"].size());
  for (const auto& [name, text] : all) EXPECT_EQ(fnv1a(text), reference()["normal"][name].get<std::string>()) << name;
}

TEST_F(TokenizerFamilies, CompositionKeepsBytesThatAreNoCharacters) {
  std::string buffer;
  const std::string ascii = "plain text", broken =
                                              "e\xCC\x81\x80 \xFF"
                                              "e\xCC\x81 \xE4\xB8";
  EXPECT_EQ(nfc_form(ascii, buffer).data(), ascii.data());
  EXPECT_EQ(nfc_form(broken, buffer), "\xC3\xA9\x80 \xFF\xC3\xA9 \xE4\xB8");
  const auto qwen2 = family("qwen2");
  EXPECT_EQ(qwen2->decode(encode(*qwen2, broken)), "\xC3\xA9\x80 \xFF\xC3\xA9 \xE4\xB8");
}

TEST_F(TokenizerFamilies, ByteLevelDecodingIsTheInverse) {
  const auto llama3 = family("llama3");
  for (const auto& [name, text] : texts()) EXPECT_EQ(llama3->decode(encode(*llama3, text)), text) << name;
}

TEST_F(TokenizerFamilies, WordPieceDecodesToWords) {
  const auto bert = family("bert");
  const std::vector<int32_t> tokens = encode(*bert, "The  QUICK\tbrown fox!");
  EXPECT_EQ(bert->decode(tokens), "the quick brown fox !");
  EXPECT_THROW(bert->decode({static_cast<int32_t>(bert->vocabulary_size())}), InputError);
  EXPECT_EQ(encode(*bert,
                   "a\xFF"
                   "b\xC3"),
            encode(*bert, "ab"))
      << "bytes of no character are dropped with U+FFFD";
}

TEST_F(TokenizerFamilies, TextMayBeCutAtSplitPoints) {
  for (const char* name : {"llama3", "qwen2", "bert"}) {
    json file = read_json(fmt::format("tokenizers/{}.json", name));
    // Tokens that take white space along forbid every cut.
    auto& added = file["added_tokens"];
    const std::string with_strips = write("tokenizer.json", file.dump());
    if (std::string(name) == "qwen2") {
      EXPECT_EQ(load_tokenizer(with_strips)->split_point("a b c", 1), 5U);
    }
    for (json& token : added) token["lstrip"] = token["rstrip"] = false;
    const auto tokenizer = load_tokenizer(write("tokenizer.json", file.dump()));
    int64_t inside = 0;
    for (const auto& [text_name, text] : texts()) {
      const std::vector<int32_t> whole = encode(*tokenizer, text);
      for (size_t at = 0, last = 0; at <= text.size(); ++at) {
        const size_t cut = tokenizer->split_point(text, at);
        ASSERT_GE(cut, std::min(at, text.size()));
        ASSERT_LE(cut, text.size());
        if (cut == last) continue;
        last = cut;
        inside += cut < text.size();
        std::vector<int32_t> parts = encode(*tokenizer, std::string_view(text).substr(0, cut));
        tokenizer->encode(std::string_view(text).substr(cut), parts);
        ASSERT_EQ(parts, whole) << name << ", " << text_name << " cut at " << cut;
      }
    }
    EXPECT_GT(inside, 500) << name;
  }
}

TEST_F(TokenizerFamilies, ThreadsGetTheSameTokens) {
  std::string all;
  for (const auto& [name, text] : texts()) all += text + " ";
  for (const char* name : {"llama3", "qwen2", "bert"}) {
    const auto tokenizer = family(name);
    const std::vector<int32_t> expected = encode(*tokenizer, all);
    std::vector<std::vector<int32_t>> found(4);
    {
      std::vector<std::jthread> threads;
      for (auto& tokens : found) threads.emplace_back([&] { tokens = encode(*tokenizer, all); });
    }
    for (const auto& tokens : found) EXPECT_EQ(tokens, expected) << name;
  }
}

TEST_F(TokenizerFamilies, AddedTokensAreFoundLeftmostLongest) {
  const AddedTokens tokens(
      {{.id = 1, .content = "ab"}, {.id = 2, .content = "abc"}, {.id = 3, .content = "bc", .lstrip = true, .rstrip = true}});
  const auto found = [&](std::string_view text) {
    std::vector<int32_t> out;
    std::string parts;
    tokens.split(text, out, [&](std::string_view part) { parts += "[" + std::string(part) + "]"; });
    return std::pair(out, parts);
  };
  EXPECT_EQ(found("xabcab abx"), std::pair(std::vector<int32_t>({2, 1, 1}), std::string("[x][ ][x]")));
  EXPECT_EQ(found("x \xE3\x80\x80"
                  "bc \tbcb"),
            std::pair(std::vector<int32_t>({3, 3}), std::string("[x][b]")));
  EXPECT_EQ(found(""), std::pair(std::vector<int32_t>(), std::string()));
  EXPECT_FALSE(tokens.cut_before_space());
  EXPECT_TRUE(AddedTokens(std::vector<AddedToken>{{.id = 1, .content = "a", .lstrip = true}}).cut_before_space());
  EXPECT_TRUE(tokens.may_end_at("xabc", 4));
  EXPECT_TRUE(tokens.may_end_at("xabc", 3));
  EXPECT_FALSE(tokens.may_end_at("xabc", 2));
  EXPECT_TRUE(AddedTokens(std::vector<AddedToken>{{.id = 1, .content = " a"}}).cut_before_space());
  EXPECT_FALSE(AddedTokens(std::vector<AddedToken>{{.id = 1, .content = "a b"}}).cut_before_space());
}

TEST_F(TokenizerFamilies, FingerprintFollowsEveryRule) {
  std::vector<std::string> fingerprints;
  const auto add = [&](const std::string& name, const std::function<void(json&)>& change) {
    json file = read_json("tokenizers/" + name + ".json");
    change(file);
    fingerprints.push_back(load_tokenizer(write("tokenizer.json", file.dump()))->fingerprint());
  };
  add("llama3", [](json&) {});
  add("llama3", [](json& f) { f["model"]["ignore_merges"] = false; });
  add("llama3", [](json& f) { f["normalizer"] = {{"type", "NFC"}}; });
  add("llama3", [](json& f) { f["post_processor"] = nullptr; });
  add("llama3", [](json& f) { f["added_tokens"][1]["lstrip"] = true; });
  add("llama3", [](json& f) {
    f["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] =
        R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  });
  add("bert", [](json&) {});
  for (const char* key : {"lowercase", "clean_text", "handle_chinese_chars"}) add("bert", [&](json& f) { f["normalizer"][key] = false; });
  add("bert", [](json& f) { f["normalizer"]["strip_accents"] = false; });
  add("bert", [](json& f) { f["model"]["max_input_chars_per_word"] = 99; });
  std::sort(fingerprints.begin(), fingerprints.end());
  EXPECT_EQ(std::unique(fingerprints.begin(), fingerprints.end()), fingerprints.end());
}

TEST_F(TokenizerFamilies, OtherRulesAreRefusedByName) {
  const auto split = [](json& f) -> json& { return f["pre_tokenizer"]["pretokenizers"][0]; };
  expect_refused("llama3", [&](json& f) { split(f)["pattern"]["Regex"] = "\\w+"; }, {"unknown pattern", "\\\\w+"});
  expect_refused("llama3", [&](json& f) { split(f)["pattern"] = {{"String", " "}}; }, {"unknown pattern", "String"});
  expect_refused("llama3", [&](json& f) { split(f)["behavior"] = "Removed"; }, {"Removed"});
  expect_refused("llama3", [&](json& f) { split(f)["type"] = "Punctuation"; }, {"the part \"Punctuation\" before ByteLevel"});
  expect_refused("llama3", [&](json& f) { split(f)["type"] = "Digits"; }, {"without GPT-2's pattern"});
  expect_refused("llama3", [](json& f) { f["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = true; }, {"use_regex"});
  expect_refused("llama3", [](json& f) { f["pre_tokenizer"]["pretokenizers"].push_back({{"type", "Digits"}}); }, {"Digits"});
  expect_refused("qwen2", [](json& f) { f["normalizer"] = {{"type", "NFKC"}}; }, {"normalizer", "NFKC"});
  expect_refused("llama3", [](json& f) { f["post_processor"] = {{"type", "Odd"}}; }, {"post-processor", "Odd"});
  expect_refused("llama3", [](json& f) { f["post_processor"]["processors"][1]["special_tokens"] = json::object(); },
                 {"special_tokens", "<|begin_of_text|>"});
  expect_refused("llama3", [](json& f) { f["added_tokens"][0]["single_word"] = true; }, {"<|begin_of_text|>", "single_word"});
  expect_refused("bert", [](json& f) { f["normalizer"] = {{"type", "Lowercase"}}; }, {"Lowercase", "BertNormalizer"});
  expect_refused("bert", [](json& f) { f["pre_tokenizer"] = {{"type", "Whitespace"}}; }, {"Whitespace", "BertPreTokenizer"});
  expect_refused("bert", [](json& f) { f["normalizer"]["lowercase"] = "yes"; }, {"lowercase", "yes"});
  expect_refused("bert", [](json& f) { f["model"]["unk_token"] = "<unk>"; }, {"<unk>"});
  write("tokenizer_config.json", R"({"do_lower_case": false})");
  expect_refused("bert", [](json&) {}, {"lowercase true", "do_lower_case false"});
}

TEST_F(TokenizerFamilies, VocabularyFilesWithoutSpecialTokensAreRefused) {
  const std::string path = write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nword\n");
  try {
    load_tokenizer(path);
    ADD_FAILURE() << "accepted";
  } catch (const InputError& e) {
    EXPECT_NE(std::string(e.what()).find("[MASK]"), std::string::npos) << e.what();
  }
  write("tokenizer_config.json", R"({"mask_token": {"content": "<m>"}})");
  write("vocab.txt", "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n<m>\r\nword\r\n");
  EXPECT_EQ(encode(*load_tokenizer(path), "word <m> words"), (std::vector<int32_t>{5, 4, 1}));
}

}  // namespace
}  // namespace zerostep
