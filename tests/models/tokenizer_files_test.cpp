#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/utf8.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// A folder of its own for each test.
class TokenizerFiles : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return (folder_ / name).string();
  }

  ScratchFolder scratch_;
  const fs::path& folder_ = scratch_.folder();
};

std::string byte_character(uint32_t byte) {
  const auto printable = [](uint32_t b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  uint32_t code_point = byte;
  if (!printable(byte)) {
    code_point = 256;
    for (uint32_t b = 0; b < byte; ++b) code_point += !printable(b);
  }
  std::string out;
  append_utf8(code_point, out);
  return out;
}

// The bytes in reverse order (id 255 - byte), then the merges' results, then <|endoftext|>.
struct Small {
  json vocab = json::object();
  std::vector<std::pair<std::string, std::string>> merges;
  Small() {
    for (uint32_t b = 0; b < 256; ++b) vocab[byte_character(b)] = 255 - b;
    for (const auto& [l, r] : {std::pair{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"\u0120", "w"}, {"hell", "o"}}) merges.emplace_back(l, r);
    int id = 256;
    for (const auto& [l, r] : merges) vocab[l + r] = id++;
    vocab["<|endoftext|>"] = id;
  }
  std::string merges_text(const std::string& end = "\n") const {
    std::string text = "#version: 0.2" + end;
    for (const auto& [l, r] : merges) text.append(l).append(" ").append(r).append(end);
    return text;
  }
  json tokenizer_json(bool pairs) const {
    json list = json::array();
    for (const auto& [l, r] : merges) list.push_back(pairs ? json{l, r} : json(l + " " + r));
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"added_tokens", {{{"id", 261}, {"content", "<|endoftext|>"}, {"special", true}, {"lstrip", false}}}},
            {"normalizer", nullptr},
            {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
            {"post_processor", {{"type", "ByteLevel"}}},
            {"decoder", {{"type", "ByteLevel"}}},
            {"model",
             {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", nullptr},
              {"continuing_subword_prefix", ""},
              {"vocab", vocab},
              {"merges", list}}}};
  }
};

const std::vector<int32_t> kHelloWorld = {260, 259, 255 - 'o', 255 - 'r', 255 - 'l', 255 - 'd', 255 - '\n'};

std::vector<int32_t> hello(const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens;
  tokenizer.encode("hello world\n", tokens);
  return tokens;
}

// Expects an InputError whose text holds every part.
void expect_error(const std::function<void()>& action, const std::vector<std::string>& parts) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with " << parts.front();
  } catch (const InputError& e) {
    for (const auto& part : parts)
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << "'" << part << "' is not in: " << e.what();
  }
}

TEST_F(TokenizerFiles, EveryFormGivesTheSameTokenizer) {
  const Small small;
  fs::create_directory(folder_ / "hf");
  fs::create_directory(folder_ / "openai");
  fs::create_directory(folder_ / "crlf");
  fs::create_directory(folder_ / "fast");
  write("hf/vocab.json", small.vocab.dump());
  write("hf/merges.txt", small.merges_text());
  write("openai/encoder.json", small.vocab.dump());
  write("openai/vocab.bpe", small.merges_text() + "\n");
  write("crlf/vocab.json", small.vocab.dump(2));
  write("crlf/merges.txt", small.merges_text("\r\n"));
  write("fast/tokenizer.json", small.tokenizer_json(true).dump());
  Small without_end = small;
  without_end.vocab.erase("<|endoftext|>");
  write("strings.json", small.tokenizer_json(false).dump());
  write("added.json", without_end.tokenizer_json(true).dump());
  std::string fingerprint;
  for (const char* path :
       {"hf", "hf/vocab.json", "openai", "openai/encoder.json", "crlf", "fast", "fast/tokenizer.json", "strings.json", "added.json"}) {
    const auto tokenizer = load_tokenizer((folder_ / path).string());
    EXPECT_EQ(hello(*tokenizer), kHelloWorld) << path;
    EXPECT_EQ(tokenizer->decode(kHelloWorld), "hello world\n") << path;
    EXPECT_EQ(tokenizer->end_of_document(), 261) << path;
    EXPECT_EQ(tokenizer->vocabulary_size(), 262) << path;
    if (fingerprint.empty()) fingerprint = tokenizer->fingerprint();
    EXPECT_EQ(tokenizer->fingerprint(), fingerprint) << path;
    std::vector<int32_t> tokens;
    tokenizer->encode("l<|endoftext|>", tokens);
    EXPECT_EQ(tokens, (std::vector<int32_t>{255 - 'l', 261})) << path;
  }
}

TEST_F(TokenizerFiles, FingerprintFollowsVocabularyMergesAndOrder) {
  const Small small;
  std::vector<std::string> fingerprints;
  const auto add = [&](const Small& changed) {
    write("vocab.json", changed.vocab.dump());
    write("merges.txt", changed.merges_text());
    fingerprints.push_back(load_tokenizer(folder_.string())->fingerprint());
  };
  add(small);
  Small swapped_ids = small, swapped_merges = small, fewer = small, moved_end = small;
  std::swap(swapped_ids.vocab["a"], swapped_ids.vocab["b"]);
  std::swap(swapped_merges.merges[0], swapped_merges.merges[1]);
  fewer.merges.pop_back();
  moved_end.vocab["<|endoftext|>"] = 300;
  for (const Small& changed : {swapped_ids, swapped_merges, fewer, moved_end}) add(changed);
  std::sort(fingerprints.begin(), fingerprints.end());
  EXPECT_EQ(std::unique(fingerprints.begin(), fingerprints.end()), fingerprints.end());
}

TEST_F(TokenizerFiles, MergesAreAppliedByRankLeftmostFirst) {
  Small small;
  small.merges = {{"a", "a"}, {"b", "a"}, {"aa", "b"}};
  small.vocab = Small().vocab;
  small.vocab["aa"] = 262;
  small.vocab["ba"] = 263;
  small.vocab["aab"] = 264;
  write("vocab.json", small.vocab.dump());
  write("merges.txt", small.merges_text());
  const auto tokenizer = load_tokenizer(folder_.string());
  const auto encoded = [&](const char* text) {
    std::vector<int32_t> tokens;
    tokenizer->encode(text, tokens);
    return tokens;
  };
  EXPECT_EQ(encoded("aaa"), (std::vector<int32_t>{262, 255 - 'a'}));
  EXPECT_EQ(encoded("aab"), (std::vector<int32_t>{264}));
  EXPECT_EQ(encoded("aaba"), (std::vector<int32_t>{262, 263}));  // "ba" ranks before "aab"
}

TEST_F(TokenizerFiles, MissingFilesAreNamed) {
  expect_error([&] { load_tokenizer((folder_ / "nowhere").string()); }, {"nowhere", "does not exist"});
  expect_error([&] { load_tokenizer(folder_.string()); }, {folder_.string(), "holds no tokenizer", "merges.txt"});
  const std::string vocab = write("vocab.json", Small().vocab.dump());
  expect_error([&] { load_tokenizer(vocab); }, {vocab, "merges.txt", folder_.string()});
  const std::string text = write("tokenizer.txt", "x");
  expect_error([&] { load_tokenizer(text); }, {text, "no .json file"});
}

TEST_F(TokenizerFiles, OtherKindsOfTokenizersAreRefused) {
  const auto refused = [&](const std::function<void(json&)>& change, const std::vector<std::string>& parts) {
    json file = Small().tokenizer_json(true);
    change(file);
    const std::string path = write("tokenizer.json", file.dump());
    std::vector<std::string> all = parts;
    all.push_back(path);
    expect_error([&] { load_tokenizer(path); }, all);
  };
  refused([](json& f) { f["model"] = {{"type", "WordLevel"}, {"vocab", json::object()}}; }, {"WordLevel", "GPT-2"});
  refused([](json& f) { f["model"] = {{"type", "Unigram"}, {"vocab", json::array()}}; }, {"vocabulary is array", "[token, score]"});
  refused([](json& f) { f["model"].erase("type"), f["model"].erase("merges"); }, {"type null"});
  refused([](json& f) { f.erase("model"); }, {"no object 'model'"});
  refused([](json& f) { f = json::array(); }, {"array"});
  refused([](json& f) { f["normalizer"] = {{"type", "NFKC"}}; }, {"normalizer", "NFKC"});
  refused([](json& f) { f["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", json::array()}}; }, {"decoder", "ByteLevel"});
  refused([](json& f) { f["pre_tokenizer"] = nullptr; }, {"decoder", "ByteLevel"});
  refused([](json& f) { f["pre_tokenizer"] = {{"type", "Whitespace"}}; }, {"pre-tokenizer", "Whitespace"});
  refused([](json& f) { f["pre_tokenizer"]["use_regex"] = false; }, {"use_regex"});
  refused([](json& f) { f["model"]["end_of_word_suffix"] = "</w>"; }, {"end_of_word_suffix", "</w>"});
  refused([](json& f) { f["model"]["byte_fallback"] = true; }, {"byte_fallback"});
  refused([](json& f) { f["model"]["dropout"] = 0.1; }, {"dropout", "0.1"});
  refused([](json& f) { f["added_tokens"][0]["id"] = 300; }, {"<|endoftext|>", "300", "261"});
  refused([](json& f) { f["added_tokens"].push_back("x"); }, {"added token"});
  refused([](json& f) { f["model"]["merges"] = "x"; }, {"model.merges", "string"});
  refused([](json& f) { f["model"]["merges"][2] = 5; }, {"model.merges[2]", "5"});
  refused([](json& f) { f["model"]["merges"][1] = {"q", "q"}; }, {"model.merges[1]", "'qq'"});
}

TEST_F(TokenizerFiles, MalformedVocabulariesAreRefused) {
  const auto refused = [&](const std::string& vocab, const std::string& merges, const std::vector<std::string>& parts) {
    const std::string path = write("vocab.json", vocab);
    write("merges.txt", merges);
    expect_error([&] { load_tokenizer(path); }, parts);
  };
  const Small small;
  const std::string good = small.merges_text();
  const auto changed = [&](const std::function<void(json&)>& change) {
    json vocab = small.vocab;
    change(vocab);
    return vocab.dump();
  };
  const std::string path = (folder_ / "vocab.json").string();
  refused("{\"a\": 1", good, {path, "not valid JSON"});
  refused("", good, {path, "not valid JSON"});
  refused("[1, 2]", good, {path, "array"});
  refused("{}", good, {path, "object"});
  refused(changed([](json& v) { v.erase("Q"); }), good, {path, "0x51"});
  refused(changed([](json& v) { v["Q"] = v["R"]; }), good, {path, "two tokens"});
  refused(changed([](json& v) { v["Q"] = -1; }), good, {path, "'Q'", "-1"});
  refused(changed([](json& v) { v["Q"] = 1e15; }), good, {path, "'Q'"});
  refused(changed([](json& v) { v["Q"] = "7"; }), good, {path, "'Q'"});
  refused(changed([](json& v) { v["\u2581the"] = 999; }), good, {path, "\u2581the", "byte-level"});
  refused(changed([](json& v) { v[""] = 999; }), good, {path, "999"});
  refused(changed([](json& v) { v.erase("<|endoftext|>"); }), good, {path, "<|endoftext|>"});
  const std::string merges = (folder_ / "merges.txt").string();
  refused(small.vocab.dump(), good + "abc\n", {merges + ":7", "'abc'"});
  refused(small.vocab.dump(), good + "a b c\n", {merges + ":7"});
  refused(small.vocab.dump(), good + " b\n", {merges + ":7"});
  refused(small.vocab.dump(), good + "x y\n", {merges + ":7", "'xy'", "belong together"});
}

}  // namespace
}  // namespace zerostep
