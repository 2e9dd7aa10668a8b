#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "models/tokenizer/byte_pair_tokenizer.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int64_t kMaxVocabulary = 1 << 24;
// The names under which byte-level vocabularies keep their end-of-document token, GPT-2's first.
constexpr std::array<const char*, 3> kEndOfDocumentNames = {"<|endoftext|>", "<|end_of_text|>", "</s>"};

std::string_view text_of(const MappedFile& file) { return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}; }

json parse_json(const std::string& path) {
  const MappedFile file(path);
  const std::string_view text = text_of(file);
  try {
    return json::parse(text.begin(), text.end());
  } catch (const json::exception& e) {
    fail_input("'{}' is not valid JSON: {}", path, e.what());
  }
}

// GPT-2 writes the 256 bytes as printable characters: those that are printable in Latin-1 as themselves, the others from U+0100 on.
class ByteCharacters {
 public:
  ByteCharacters() {
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const uint32_t code_point = printable ? byte : next++;
      append_utf8(code_point, spelling_[byte]);
      if (code_point >= byte_.size()) byte_.resize(code_point + 1, -1);
      byte_[code_point] = static_cast<int>(byte);
    }
  }
  const std::string& spelling(size_t byte) const { return spelling_[byte]; }
  // The bytes that a spelling stands for; nothing when it holds another character.
  std::optional<std::string> bytes(std::string_view spelling) const {
    std::string out;
    while (!spelling.empty()) {
      const uint32_t code_point = take_code_point(spelling);
      if (code_point >= byte_.size() || byte_[code_point] < 0) return std::nullopt;
      out += static_cast<char>(static_cast<unsigned char>(byte_[code_point]));
    }
    return out;
  }

 private:
  std::array<std::string, 256> spelling_;
  std::vector<int> byte_ = std::vector<int>(256, -1);  // by code point
};

// Collects a vocabulary from its files, checking every part.
class VocabularyBuilder {
 public:
  explicit VocabularyBuilder(std::string path) : path_(std::move(path)) {}

  void add_tokens(const json& vocab) {
    if (!vocab.is_object() || vocab.empty())
      fail_input("'{}': the vocabulary is {}; an object of token: id is expected", path_, vocab.type_name());
    for (const auto& [spelling, id] : vocab.items()) {
      const int32_t token = checked_id(spelling, id);
      place(token, spelling, characters_.bytes(spelling));
      token_of_spelling_.emplace(spelling, token);
    }
  }

  // Added tokens stand for their text as it is.
  void add_special(const std::string& content, const json& id) {
    const int32_t token = checked_id(content, id);
    const auto known = token_of_spelling_.find(content);
    if (known != token_of_spelling_.end() && known->second != token) {
      fail_input("'{}': added token '{}' has id {}, in the vocabulary it has {}", path_, content, token, known->second);
    }
    if (known == token_of_spelling_.end()) place(token, content, content);
    token_of_spelling_.emplace(content, token);
  }

  // `where` names the rule in messages.
  void add_merge(std::string_view left, std::string_view right, const std::string& where) {
    const auto id = [&](const std::string& spelling) {
      const auto found = token_of_spelling_.find(spelling);
      if (found == token_of_spelling_.end()) {
        fail_input("{}: merge '{} {}' needs token '{}', which is not in the vocabulary '{}': the two files do not belong together", where,
                   left, right, spelling, path_);
      }
      return found->second;
    };
    vocabulary_.merges.push_back({id(std::string(left)), id(std::string(right)), id(std::string(left).append(right))});
  }

  std::unique_ptr<Tokenizer> finish() {
    for (size_t byte = 0; byte < 256; ++byte) {
      const auto found = token_of_spelling_.find(characters_.spelling(byte));
      if (found == token_of_spelling_.end()) {
        fail_input("'{}' has no token for byte 0x{:02X} ('{}'): a byte-level vocabulary with all 256 bytes is expected", path_, byte,
                   characters_.spelling(byte));
      }
      vocabulary_.token_of_byte.push_back(found->second);
    }
    for (const char* name : kEndOfDocumentNames) {
      const auto found = token_of_spelling_.find(name);
      if (found == token_of_spelling_.end()) continue;
      vocabulary_.end_of_document = found->second;
      return make_byte_pair_tokenizer(std::move(vocabulary_));
    }
    fail_input("'{}' has no end-of-document token: one of {} is expected in the vocabulary", path_, fmt::join(kEndOfDocumentNames, ", "));
  }

 private:
  int32_t checked_id(const std::string& spelling, const json& id) const {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= kMaxVocabulary) {
      fail_input("'{}': token '{}' has id {}; a whole number from 0 to {} is expected", path_, spelling, id.dump(), kMaxVocabulary - 1);
    }
    return id.get<int32_t>();
  }

  void place(int32_t token, const std::string& spelling, const std::optional<std::string>& bytes) {
    if (!bytes || bytes->empty()) {
      fail_input("'{}': token '{}' (id {}) is not written in GPT-2's byte characters: the vocabulary of a byte-level encoding is expected",
                 path_, spelling, token);
    }
    auto& table = vocabulary_.bytes_of_token;
    const auto at = static_cast<size_t>(token);
    if (at >= table.size()) table.resize(at + 1);
    if (!table[at].empty()) fail_input("'{}': id {} belongs to two tokens, '{}' and '{}'", path_, token, table[at], spelling);
    table[at] = *bytes;
  }

  std::string path_;
  ByteCharacters characters_;
  BytePairVocabulary vocabulary_;
  std::unordered_map<std::string, int32_t> token_of_spelling_;
};

void read_merges(const std::string& path, VocabularyBuilder& builder) {
  const MappedFile file(path);
  const std::string_view text = text_of(file);
  int64_t line_number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == line.size() || line.find(' ', space + 1) != std::string_view::npos) {
      fail_input("{}:{}: '{}' is not a merge: two tokens with one space between them are expected", path, line_number, line.substr(0, 80));
    }
    builder.add_merge(line.substr(0, space), line.substr(space + 1), fmt::format("{}:{}", path, line_number));
  }
}

std::unique_ptr<Tokenizer> load_vocabulary_and_merges(const std::string& vocabulary, const std::string& merges) {
  VocabularyBuilder builder(vocabulary);
  builder.add_tokens(parse_json(vocabulary));
  read_merges(merges, builder);
  return builder.finish();
}

// Refuses whatever in a tokenizer.json would give other tokens than GPT-2's rules.
void check_kind(const std::string& path, const json& file) {
  const auto refuse = [&](const std::string& what) {
    fail_input("'{}' {}; only GPT-2's kind is supported: a BPE model with ByteLevel pre-tokenizer and no normalizer", path, what);
  };
  const auto value = [](const json& object, const char* key) { return object.is_object() && object.contains(key) ? object[key] : json(); };
  const json model = value(file, "model");
  if (!model.is_object()) refuse("has no object 'model'");
  const json type = value(model, "type");
  if (type.is_string() ? type != "BPE" : !model.contains("merges")) refuse(fmt::format("has a model of type {}", type.dump()));
  if (!value(file, "normalizer").is_null()) refuse(fmt::format("has a normalizer ({})", value(value(file, "normalizer"), "type").dump()));
  const json pre_tokenizer = value(file, "pre_tokenizer");
  if (value(pre_tokenizer, "type") != "ByteLevel")
    refuse(fmt::format("has a pre-tokenizer of type {}", value(pre_tokenizer, "type").dump()));
  if (value(pre_tokenizer, "use_regex") == false) refuse("has a ByteLevel pre-tokenizer without GPT-2's pattern (use_regex is false)");
  if (value(pre_tokenizer, "add_prefix_space") == true) refuse("adds a space before every text (add_prefix_space is true)");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const json affix = value(model, key);
    if (!affix.is_null() && affix != "") refuse(fmt::format("has model.{} {}", key, affix.dump()));
  }
  for (const char* key : {"byte_fallback", "ignore_merges"}) {
    if (value(model, key) == true) refuse(fmt::format("has model.{} true", key));
  }
  const json dropout = value(model, "dropout");
  if (!dropout.is_null() && dropout != 0) refuse(fmt::format("has model.dropout {}", dropout.dump()));
}

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& path) {
  const json file = parse_json(path);
  if (!file.is_object()) fail_input("'{}' is {}; a Hugging Face tokenizer.json, an object, is expected", path, file.type_name());
  check_kind(path, file);
  const json& model = file["model"];
  VocabularyBuilder builder(path);
  builder.add_tokens(model.contains("vocab") ? model["vocab"] : json());
  if (file.contains("added_tokens") && file["added_tokens"].is_array()) {
    for (const json& token : file["added_tokens"]) {
      if (!token.is_object() || !token.contains("content") || !token["content"].is_string() || !token.contains("id")) {
        fail_input("'{}': added token {} has no content and id", path, token.dump());
      }
      if (!token.contains("special") || token["special"] != true) {
        fail_input("'{}': added token {} is not special: tokens that are found in the text before its encoding are not supported", path,
                   token["content"].dump());
      }
      builder.add_special(token["content"].get<std::string>(), token["id"]);
    }
  }
  const json merges = model.contains("merges") ? model["merges"] : json();
  if (!merges.is_array()) fail_input("'{}': model.merges is {}; a list is expected", path, merges.type_name());
  for (size_t i = 0; i < merges.size(); ++i) {
    const json& merge = merges[i];
    const std::string where = fmt::format("'{}', model.merges[{}]", path, i);
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      builder.add_merge(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(), where);
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = text.find(' ');
    if (space == std::string::npos) fail_input("{} is {}; two tokens are expected", where, merge.dump());
    builder.add_merge(std::string_view(text).substr(0, space), std::string_view(text).substr(space + 1), where);
  }
  return builder.finish();
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
        return load_vocabulary_and_merges((given / vocabulary).string(), (given / merges).string());
      }
    }
    fail_input("folder '{}' holds no tokenizer: tokenizer.json, vocab.json with merges.txt, or encoder.json with vocab.bpe is expected",
               path);
  }
  if (!fs::exists(given, ignored)) {
    fail_input(
        "tokenizer '{}' does not exist: 'byte', a tokenizer.json, a vocab.json or encoder.json, or a folder that holds one is expected",
        path);
  }
  const std::string name = given.filename().string();
  if (name != "vocab.json" && name != "encoder.json" && !name.ends_with(".json")) {
    fail_input("tokenizer '{}' is no .json file: a tokenizer.json, a vocab.json or encoder.json, or a folder that holds one is expected",
               path);
  }
  for (const auto& [vocabulary, merges] : kFilePairs) {
    if (name != vocabulary) continue;
    for (const auto& [unused, any_merges] : kFilePairs) {
      if (fs::exists(given.parent_path() / any_merges, ignored)) {
        return load_vocabulary_and_merges(path, (given.parent_path() / any_merges).string());
      }
    }
    fail_input("tokenizer '{}' has no merges beside it: merges.txt or vocab.bpe is expected in folder '{}'", path,
               given.parent_path().string());
  }
  return load_tokenizer_json(path);
}

}  // namespace zerostep
