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

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& path) {
  const json file = parse_json_file(path);
  if (!file.is_object()) fail_input("'{}' is {}; a Hugging Face tokenizer.json, an object, is expected", path, file.type_name());
  const json& model = json_value(file, "model");
  if (!model.is_object()) fail_input("'{}' has no object 'model'; a Hugging Face tokenizer.json is expected", path);
  const json& type = json_value(model, "type");
  if (type == "BPE" || (type.is_null() && model.contains("merges"))) return load_byte_pair_json(path, file);
  if (type == "WordPiece") return load_word_piece_json(path, file);
  fail_input("'{}' has a model of type {}; byte-level BPE (GPT-2, Llama 3, Qwen2) and WordPiece (BERT) are supported", path, type.dump());
}

constexpr std::array<std::pair<const char*, const char*>, 2> kFilePairs = {{{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}}};

}  // namespace

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
        "folder '{}' holds no tokenizer: tokenizer.json, vocab.json with merges.txt, encoder.json with vocab.bpe, or vocab.txt is expected",
        path);
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
