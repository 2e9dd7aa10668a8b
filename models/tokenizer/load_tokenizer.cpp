#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "models/tokenizer/tokenizer_files.h"

namespace zerostep {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

bool has_byte_level(const json& pre_tokenizer) {
  if (json_value(pre_tokenizer, "type") == "ByteLevel") return true;
  const json& parts = json_value(pre_tokenizer, "pretokenizers");
  return std::any_of(parts.begin(), parts.end(), has_byte_level);
}

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& path) {
  const json file = parse_json_file(path);
  if (!file.is_object()) fail_input("'{}' is {}; a Hugging Face tokenizer.json, an object, is expected", path, file.type_name());
  const json& model = json_value(file, "model");
  if (!model.is_object()) fail_input("'{}' has no object 'model'; a Hugging Face tokenizer.json is expected", path);
  const json& type = json_value(model, "type");
  if (type == "BPE" || (type.is_null() && model.contains("merges")))
    return has_byte_level(json_value(file, "pre_tokenizer")) ? load_byte_pair_json(path, file) : load_piece_json(path, file);
  if (type == "Unigram") return load_piece_json(path, file);
  if (type == "WordPiece") return load_word_piece_json(path, file);
  fail_input("'{}' has a model of type {}; BPE (GPT-2, Llama, Qwen2), Unigram (T5, XLM-R) and WordPiece (BERT) are supported", path,
             type.dump());
}

constexpr std::array<std::pair<const char*, const char*>, 2> kFilePairs = {{{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}}};

// Beside a vocabulary they say more of its tokens.
constexpr std::array<const char*, 5> kCompanions = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                                                    "chat_template.jinja", "chat_template.json"};
constexpr std::array<const char*, 6> kVocabularies = {"tokenizer.json", "vocab.json",   "merges.txt",
                                                      "vocab.txt",      "encoder.json", "vocab.bpe"};

}  // namespace

const std::vector<std::string>& tokenizer_file_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all(kVocabularies.begin(), kVocabularies.end());
    all.insert(all.end(), kCompanions.begin(), kCompanions.end());
    return all;
  }();
  return names;
}

std::vector<TokenizerFile> tokenizer_files(const std::string& path) {
  const fs::path given(path);
  std::error_code ignored;  // what cannot be looked at is not there
  const bool is_folder = fs::is_directory(given, ignored);
  const fs::path folder = is_folder ? given : given.parent_path();
  std::vector<TokenizerFile> out;
  const auto add = [&](const fs::path& file, const std::string& name) {
    if (fs::exists(file, ignored)) out.push_back({file.string(), name});
    return fs::exists(file, ignored);
  };
  const std::string name = given.filename().string();
  if (is_folder) {
    const bool has_json = add(folder / "tokenizer.json", "tokenizer.json");
    bool has_pair = false;
    for (const auto& [vocabulary, merges] : kFilePairs)
      if (!has_pair && fs::exists(folder / vocabulary, ignored) && fs::exists(folder / merges, ignored))
        has_pair = add(folder / vocabulary, "vocab.json") && add(folder / merges, "merges.txt");
    if (has_json || !has_pair) add(folder / "vocab.txt", "vocab.txt");
  } else if (name == "vocab.json" || name == "encoder.json") {
    if (add(given, "vocab.json") && !add(folder / "merges.txt", "merges.txt")) add(folder / "vocab.bpe", "merges.txt");
  } else {
    add(given, name == "vocab.txt" ? "vocab.txt" : "tokenizer.json");
  }
  if (out.empty()) return out;
  for (const char* companion : kCompanions) add(folder / companion, companion);
  return out;
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  std::error_code ignored;  // a path that cannot be looked at is reported as missing
  const fs::path given(path);
  if (fs::is_directory(given, ignored)) {
    if (fs::exists(given / "tokenizer.json", ignored)) return load_tokenizer_json((given / "tokenizer.json").string());
    for (const auto& [vocabulary, merges] : kFilePairs) {
      if (fs::exists(given / vocabulary, ignored) && fs::exists(given / merges, ignored)) {
        return load_byte_pair_files((given / vocabulary).string(), (given / merges).string());
      }
    }
    if (fs::exists(given / "vocab.txt", ignored)) return load_word_piece_files((given / "vocab.txt").string());
    fail_input(
        "folder '{}' holds no tokenizer: tokenizer.json, vocab.json with merges.txt, encoder.json with vocab.bpe, or vocab.txt is "
        "expected{}",
        path,
        fs::exists(given / "tokenizer.model", ignored)
            ? " (a tokenizer.model of SentencePiece is not read: AutoTokenizer's save_pretrained makes a tokenizer.json of it)"
            : "");
  }
  if (!fs::exists(given, ignored)) {
    fail_input(
        "tokenizer '{}' does not exist: 'byte', a tokenizer.json, a vocab.json, encoder.json or vocab.txt, or a folder that holds one is "
        "expected",
        path);
  }
  const std::string name = given.filename().string();
  if (name == "vocab.txt") return load_word_piece_files(path);
  if (name != "vocab.json" && name != "encoder.json" && !name.ends_with(".json")) {
    fail_input(
        "tokenizer '{}' is no .json file: a tokenizer.json, a vocab.json, encoder.json or vocab.txt, or a folder that holds one is "
        "expected",
        path);
  }
  for (const auto& [vocabulary, merges] : kFilePairs) {
    if (name != vocabulary) continue;
    for (const auto& [unused, any_merges] : kFilePairs) {
      if (fs::exists(given.parent_path() / any_merges, ignored)) {
        return load_byte_pair_files(path, (given.parent_path() / any_merges).string());
      }
    }
    fail_input("tokenizer '{}' has no merges beside it: merges.txt or vocab.bpe is expected in folder '{}'", path,
               given.parent_path().string());
  }
  return load_tokenizer_json(path);
}

}  // namespace zerostep
