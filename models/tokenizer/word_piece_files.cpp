#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "models/text_file.h"
#include "models/tokenizer/special_tokens.h"
#include "models/tokenizer/tokenizer_files.h"
#include "models/tokenizer/word_piece_tokenizer.h"

namespace zerostep {
namespace {

using nlohmann::json;

// Collects a vocabulary and the names of BERT's special tokens.
class WordPieceBuilder {
 public:
  explicit WordPieceBuilder(std::string path) : path_(std::move(path)) {}

  void add(const std::string& text, int64_t id) {
    if (id < 0 || id >= kMaxVocabulary)
      fail_input("'{}': token '{}' has id {}; a whole number from 0 to {} is expected", path_, text, id, kMaxVocabulary - 1);
    const auto at = static_cast<size_t>(id);
    if (at >= vocabulary.text_of_token.size()) vocabulary.text_of_token.resize(at + 1);
    std::string& place = vocabulary.text_of_token[at];
    if (!place.empty() && place != text) fail_input("'{}': id {} belongs to two tokens, '{}' and '{}'", path_, id, place, text);
    place = text;
    ids_[text] = static_cast<int32_t>(id);
  }
  std::optional<int32_t> find(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  int32_t require(const std::string& text, const char* role) const {
    const auto id = find(text);
    if (!id) fail_input("'{}' has no token '{}' ({}): the vocabulary of BERT's WordPiece is expected", path_, text, role);
    return *id;
  }

  WordPieceVocabulary vocabulary;

 private:
  std::string path_;
  std::unordered_map<std::string, int32_t> ids_;
};

// true, false or null (which stands for `otherwise`).
bool flag(const std::string& path, const json& object, const char* key, bool otherwise) {
  const json& value = json_value(object, key);
  if (value.is_null()) return otherwise;
  if (!value.is_boolean()) fail_input("'{}': {} is {}; true or false is expected", path, key, value.dump());
  return value.get<bool>();
}

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  fail_input("'{}' {}; BERT's kind of WordPiece is supported: a BertNormalizer and a BertPreTokenizer", path, what);
}

void read_normalizer(const std::string& path, const json& normalizer, WordPieceVocabulary& vocabulary) {
  if (!normalizer.is_null() && json_value(normalizer, "type") != "BertNormalizer")
    refuse(path, fmt::format("has a normalizer of type {}", json_value(normalizer, "type").dump()));
  const bool on = !normalizer.is_null();
  vocabulary.clean_text = flag(path, normalizer, "clean_text", on);
  vocabulary.split_ideographs = flag(path, normalizer, "handle_chinese_chars", on);
  vocabulary.lower_case = flag(path, normalizer, "lowercase", on);
  vocabulary.strip_accents = flag(path, normalizer, "strip_accents", vocabulary.lower_case);
}

// Special tokens that the files beside a vocabulary tell of, as far as it has an id for them.
void add_special(const SpecialTokens& specials, WordPieceBuilder& builder) {
  auto& added = builder.vocabulary.added_tokens;
  for (AddedToken token : specials.tokens) {
    if (std::any_of(added.begin(), added.end(), [&](const AddedToken& t) { return t.content == token.content; })) continue;
    if (token.id < 0) token.id = builder.find(token.content).value_or(-1);
    if (token.id < 0) continue;
    builder.add(token.content, token.id);
    added.push_back(std::move(token));
  }
}

// transformers takes these from tokenizer_config.json whatever tokenizer.json says.
void check_agrees(const std::string& path, const json& config, const char* key, bool in_json, const char* key_in_json) {
  const json& value = json_value(config, key);
  if (value.is_boolean() && value != in_json)
    fail_input("'{}' has normalizer.{} {} but tokenizer_config.json beside it {} {}: make them agree", path, key_in_json, in_json, key,
               value.dump());
}

}  // namespace

std::unique_ptr<Tokenizer> load_word_piece_json(const std::string& path, const json& file) {
  const json& model = json_value(file, "model");
  WordPieceBuilder builder(path);
  WordPieceVocabulary& vocabulary = builder.vocabulary;
  const json& tokens = json_value(model, "vocab");
  if (!tokens.is_object() || tokens.empty())
    fail_input("'{}': the vocabulary is {}; an object of token: id is expected", path, tokens.type_name());
  for (const auto& [text, id] : tokens.items()) {
    if (!id.is_number_integer()) fail_input("'{}': token '{}' has id {}; a whole number is expected", path, text, id.dump());
    builder.add(text, id.get<int64_t>());
  }
  vocabulary.added_tokens = parse_added_tokens(path, file);
  for (const AddedToken& token : vocabulary.added_tokens) builder.add(token.content, token.id);
  read_normalizer(path, json_value(file, "normalizer"), vocabulary);
  const json& pre_tokenizer = json_value(json_value(file, "pre_tokenizer"), "type");
  if (pre_tokenizer != "BertPreTokenizer") refuse(path, fmt::format("has a pre-tokenizer of type {}", pre_tokenizer.dump()));
  const SpecialTokens specials = special_tokens_beside(path);
  check_agrees(path, specials.config, "do_lower_case", vocabulary.lower_case, "lowercase");
  check_agrees(path, specials.config, "strip_accents", vocabulary.strip_accents, "strip_accents");
  check_agrees(path, specials.config, "tokenize_chinese_chars", vocabulary.split_ideographs, "handle_chinese_chars");
  add_special(specials, builder);
  const json &prefix = json_value(model, "continuing_subword_prefix"), &longest = json_value(model, "max_input_chars_per_word");
  if (prefix.is_string()) vocabulary.continuing_prefix = prefix.get<std::string>();
  if (longest.is_number_unsigned()) vocabulary.max_characters = longest.get<int64_t>();
  vocabulary.unknown = builder.require(json_value(model, "unk_token").is_string() ? model["unk_token"].get<std::string>() : "[UNK]",
                                       "for words that are not in it");
  TextTemplate around = parse_text_template(path, file);
  vocabulary.end_of_document = around.suffix.empty() ? builder.require("[SEP]", "the end of a text") : around.suffix.back();
  vocabulary.padding = builder.find(specials.role("pad_token", "[PAD]")).value_or(vocabulary.end_of_document);
  vocabulary.mask = builder.find(specials.role("mask_token", "[MASK]"));
  vocabulary.prefix = std::move(around.prefix);
  vocabulary.suffix = std::move(around.suffix);
  return make_word_piece_tokenizer(std::move(vocabulary));
}

std::unique_ptr<Tokenizer> load_word_piece_files(const std::string& path) {
  const MappedFile file(path);
  std::string_view text = file.text();
  require_utf8("", path, text);
  require_lines("", path, text);
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  WordPieceBuilder builder(path);
  WordPieceVocabulary& vocabulary = builder.vocabulary;
  for_each_line(text, [&](std::string_view line, int64_t number) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) builder.add(std::string(line), number - 1);
  });
  const SpecialTokens specials = special_tokens_beside(path);
  const json& config = specials.config;
  vocabulary.lower_case = flag(path, config, "do_lower_case", true);
  vocabulary.strip_accents = flag(path, config, "strip_accents", vocabulary.lower_case);
  vocabulary.split_ideographs = flag(path, config, "tokenize_chinese_chars", true);
  struct Special {
    const char *key, *name, *role;
  };
  constexpr std::array<Special, 5> kSpecials = {{{"unk_token", "[UNK]", "for words that are not in it"},
                                                 {"cls_token", "[CLS]", "the beginning of a text"},
                                                 {"sep_token", "[SEP]", "the end of a text"},
                                                 {"pad_token", "[PAD]", "after shorter texts"},
                                                 {"mask_token", "[MASK]", "to be predicted"}}};
  std::array<int32_t, 5> ids = {};
  for (size_t i = 0; i < kSpecials.size(); ++i) {
    const std::string name = specials.role(kSpecials[i].key, kSpecials[i].name);
    ids[i] = builder.require(name, kSpecials[i].role);
    vocabulary.added_tokens.push_back({.id = ids[i], .content = name, .special = true});
  }
  add_special(specials, builder);
  vocabulary.unknown = ids[0];
  vocabulary.prefix = {ids[1]};
  vocabulary.suffix = {ids[2]};
  vocabulary.end_of_document = ids[2];
  vocabulary.padding = ids[3];
  vocabulary.mask = ids[4];
  return make_word_piece_tokenizer(std::move(vocabulary));
}

}  // namespace zerostep
