#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "models/json_file.h"
#include "models/text_file.h"
#include "models/tokenizer/byte_pair_tokenizer.h"
#include "models/tokenizer/special_tokens.h"
#include "models/tokenizer/split_pattern.h"
#include "models/tokenizer/tokenizer_files.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {
namespace {

using nlohmann::json;

// The names under which byte-level vocabularies keep their end-of-document token, GPT-2's first.
constexpr std::array<const char*, 3> kEndOfDocumentNames = {"<|endoftext|>", "<|end_of_text|>", "</s>"};

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

// Collects a byte-level vocabulary from its files, checking every part.
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
  void add_added(const AddedToken& added) {
    checked_id(added.content, added.id);
    const int32_t known = id_of(added.content);
    if (known >= 0 && known != added.id)
      fail_input("'{}': added token '{}' has id {}, in the vocabulary it has {}", path_, added.content, added.id, known);
    if (known < 0) place(added.id, added.content, added.content);
    token_of_spelling_.emplace(added.content, added.id);
    vocabulary_.added_tokens.push_back(added);
  }

  // Those of the files beside the vocabulary that it has an id for and that are not there yet; the others have no token.
  void add_special(const SpecialTokens& specials) {
    for (AddedToken token : specials.tokens) {
      const auto& added = vocabulary_.added_tokens;
      if (std::any_of(added.begin(), added.end(), [&](const AddedToken& t) { return t.content == token.content; })) continue;
      if (token.id < 0) token.id = id_of(token.content);
      if (token.id >= 0) add_added(token);
    }
    end_names_.insert(end_names_.begin(), specials.role("eos_token", kEndOfDocumentNames[0]));
    const auto find = [&](const std::string& content) {
      const int32_t id = id_of(content);
      return id < 0 ? std::nullopt : std::optional(id);
    };
    vocabulary_.padding = find(specials.role("pad_token", "<pad>"));
    vocabulary_.mask = find(specials.role("mask_token", "<mask>"));
  }
  int32_t id_of(const std::string& content) const {
    const auto found = token_of_spelling_.find(content);
    return found == token_of_spelling_.end() ? -1 : found->second;
  }

  // Every token so far is also what a piece spelt so becomes.
  void ignore_merges() {
    for (const auto& [spelling, token] : token_of_spelling_) vocabulary_.whole_pieces.push_back(token);
    std::sort(vocabulary_.whole_pieces.begin(), vocabulary_.whole_pieces.end());
  }
  BytePairVocabulary& vocabulary() { return vocabulary_; }

  // `where` names the rule in messages.
  void add_merge(std::string_view left, std::string_view right, const std::string& where) {
    const auto id = [&](const std::string& spelling) {
      const int32_t found = id_of(spelling);
      if (found < 0)
        fail_input("{}: merge '{} {}' needs token '{}', which is not in the vocabulary '{}': the two files do not belong together", where,
                   left, right, spelling, path_);
      return found;
    };
    vocabulary_.merges.push_back({id(std::string(left)), id(std::string(right)), id(std::string(left).append(right))});
  }

  std::unique_ptr<Tokenizer> finish() {
    for (size_t byte = 0; byte < 256; ++byte) {
      vocabulary_.token_of_byte.push_back(id_of(characters_.spelling(byte)));
      if (vocabulary_.token_of_byte.back() < 0)
        fail_input("'{}' has no token for byte 0x{:02X} ('{}'): a byte-level vocabulary with all 256 bytes is expected", path_, byte,
                   characters_.spelling(byte));
    }
    for (const std::string& name : end_names_) {
      vocabulary_.end_of_document = id_of(name);
      if (vocabulary_.end_of_document < 0) continue;
      return make_byte_pair_tokenizer(std::move(vocabulary_));
    }
    fail_input(
        "'{}' has no end-of-document token: one of {} is expected in the vocabulary, or that which eos_token in tokenizer_config.json "
        "names",
        path_, fmt::join(kEndOfDocumentNames, ", "));
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
    auto& table = vocabulary_.text_of_token;
    const auto at = static_cast<size_t>(token);
    if (at >= table.size()) table.resize(at + 1);
    if (!table[at].empty()) fail_input("'{}': id {} belongs to two tokens, '{}' and '{}'", path_, token, table[at], spelling);
    table[at] = *bytes;
  }

  std::string path_;
  std::vector<std::string> end_names_{kEndOfDocumentNames.begin(), kEndOfDocumentNames.end()};  // the first that is there counts
  ByteCharacters characters_;
  BytePairVocabulary vocabulary_;
  std::unordered_map<std::string, int32_t> token_of_spelling_;
};

void read_merges(const std::string& path, VocabularyBuilder& builder) {
  const MappedFile file(path);
  std::string_view text = file.text();
  require_utf8("", path, text);
  require_lines("", path, text);
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  for_each_line(text, [&](std::string_view line, int64_t line_number) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) return;
    const size_t space = line.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == line.size() || line.find(' ', space + 1) != std::string_view::npos)
      fail_input("{}:{}: '{}' is not a merge: two tokens with one space between them are expected", path, line_number, line.substr(0, 80));
    builder.add_merge(line.substr(0, space), line.substr(space + 1), fmt::format("{}:{}", path, line_number));
  });
}

// What a tokenizer.json says of texts before their encoding.
struct Rules {
  std::vector<PreTokenizer::Rule> patterns;
  std::optional<size_t> prefixed;
  bool nfc = false;
};

// Reads the rules and refuses whatever would give other tokens than those of the known families.
class RulesReader {
 public:
  RulesReader(const std::string& path, const json& file) : path_(path), file_(file) {}

  Rules read() const {
    check_model(json_value(file_, "model"));
    Rules rules;
    rules.nfc = is_nfc(json_value(file_, "normalizer"));
    const json& pre_tokenizer = json_value(file_, "pre_tokenizer");
    if (json_value(pre_tokenizer, "type") != "Sequence") {
      read_byte_level(pre_tokenizer, rules);
    } else {
      const json& parts = json_value(pre_tokenizer, "pretokenizers");
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        if (json_value(parts[i], "type") == "ByteLevel")
          refuse(fmt::format("has a pre-tokenizer of type Sequence with the parts {}", types_of(parts)));
        rules.patterns.push_back(pattern_of(parts[i]));
      }
      read_byte_level(parts.back(), rules);
    }
    if (std::none_of(rules.patterns.begin(), rules.patterns.end(), is_split))
      refuse("has a ByteLevel pre-tokenizer without GPT-2's pattern (use_regex is false) and no Split before it");
    return rules;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    fail_input(
        "'{}' {}; the kinds of GPT-2, Llama 3, Qwen2 and DeepSeek are supported: a BPE model with a ByteLevel pre-tokenizer, alone or "
        "after "
        "Digits and Splits by patterns of characters, classes, \\s and the properties L, M, N, P and S, with no normalizer or NFC",
        path_, what);
  }

  static bool is_split(const PreTokenizer::Rule& rule) {
    return rule.pattern != PreTokenizer::Pattern::EachNumber && rule.pattern != PreTokenizer::Pattern::Numbers;
  }

  static std::string types_of(const json& parts) {
    std::vector<std::string> types;
    for (const json& part : parts) types.push_back(json_value(part, "type").dump());
    return fmt::format("[{}]", fmt::join(types, ", "));
  }

  void check_model(const json& model) const {
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const json& affix = json_value(model, key);
      if (!affix.is_null() && affix != "") refuse(fmt::format("has model.{} {}", key, affix.dump()));
    }
    if (json_value(model, "byte_fallback") == true) refuse("has model.byte_fallback true");
    const json& dropout = json_value(model, "dropout");
    if (!dropout.is_null() && dropout != 0) refuse(fmt::format("has model.dropout {}", dropout.dump()));
  }

  bool is_nfc(const json& normalizer) const {
    if (normalizer.is_null()) return false;
    const json& type = json_value(normalizer, "type");
    if (type == "NFC") return true;
    if (type != "Sequence") refuse(fmt::format("has a normalizer of type {}", type.dump()));
    bool nfc = false;
    for (const json& part : json_value(normalizer, "normalizers")) nfc = is_nfc(part) || nfc;
    return nfc;
  }

  void read_byte_level(const json& pre_tokenizer, Rules& rules) const {
    const json& type = json_value(pre_tokenizer, "type");
    if (type != "ByteLevel") refuse(fmt::format("has a pre-tokenizer of type {}", type.dump()));
    if (json_value(pre_tokenizer, "add_prefix_space") == true) rules.prefixed = rules.patterns.size();
    if (json_value(pre_tokenizer, "use_regex") == false) return;
    if (std::any_of(rules.patterns.begin(), rules.patterns.end(), is_split))
      refuse("cuts text by two patterns: that of Split and that of ByteLevel (use_regex is true)");
    rules.patterns.push_back({});
  }

  PreTokenizer::Rule pattern_of(const json& part) const {
    if (json_value(part, "type") != "Digits") return rule_of_split(part);
    return {json_value(part, "individual_digits") == true ? PreTokenizer::Pattern::EachNumber : PreTokenizer::Pattern::Numbers};
  }

  PreTokenizer::Rule rule_of_split(const json& split) const {
    const json &type = json_value(split, "type"), &behavior = json_value(split, "behavior");
    if (type != "Split") refuse(fmt::format("has a pre-tokenizer of type Sequence with the part {} before ByteLevel", type.dump()));
    if (behavior != "Isolated" || json_value(split, "invert") == true)
      refuse(fmt::format("has a Split with behavior {} and invert {} (\"Isolated\" and false are known)", behavior.dump(),
                         json_value(split, "invert").dump()));
    const json& pattern = json_value(json_value(split, "pattern"), "Regex");
    const std::string regex = pattern.is_string() ? pattern.get<std::string>() : "";
    if (const auto known = PreTokenizer::known_pattern(regex)) return {*known};
    if (regex.empty() || !split_pattern(regex))
      refuse(fmt::format("cuts text by the unknown pattern {}", json_value(split, "pattern").dump()));
    return {PreTokenizer::Pattern::Other, regex};
  }

  const std::string& path_;
  const json& file_;
};

// What transformers takes for the type of the model in config.json beside a vocabulary.
std::string class_of_model(const std::string& path) {
  const std::filesystem::path config = std::filesystem::path(path).parent_path() / "config.json";
  std::error_code ignored;  // what cannot be looked at is not there
  if (!std::filesystem::exists(config, ignored)) return "GPT2Tokenizer";
  const json file = parse_json_file(config.string());
  const json& type = json_value(file, "model_type");
  return type == "qwen2" ? "Qwen2Tokenizer" : type == "roberta" ? "RobertaTokenizer" : "GPT2Tokenizer";
}

std::string class_of(const std::string& path, const SpecialTokens& specials) {
  const json& given = json_value(specials.config, "tokenizer_class");
  std::string name = given.is_string() ? given.get<std::string>() : class_of_model(path);
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

// RoBERTa's vocabulary has its special tokens, and puts two of them around a text.
void read_roberta(SpecialTokens& specials, VocabularyBuilder& builder) {
  const std::string first = specials.role("cls_token", "<s>"), last = specials.role("sep_token", "</s>");
  for (const std::string& token :
       {first, last, specials.role("pad_token", "<pad>"), specials.role("unk_token", "<unk>"), specials.role("mask_token", "<mask>")})
    specials.add(token);
  for (const auto& [token, place] : {std::pair{first, &builder.vocabulary().prefix}, {last, &builder.vocabulary().suffix}})
    if (const int32_t id = builder.id_of(token); id >= 0) place->push_back(id);
}

// The rules of vocab.json with merges.txt, which do not say them: those of the class that tokenizer_config.json names,
// or else of the model's type.
void read_class(const std::string& path, SpecialTokens& specials, VocabularyBuilder& builder) {
  const std::string name = class_of(path, specials);
  if (name != "GPT2Tokenizer" && name != "Qwen2Tokenizer" && name != "RobertaTokenizer")
    fail_input(
        "'{}': tokenizer_config.json beside it has tokenizer_class {}; vocab.json with merges.txt is read by the rules of GPT2Tokenizer, "
        "Qwen2Tokenizer or RobertaTokenizer: give the tokenizer.json that transformers saves for it",
        path, json_value(specials.config, "tokenizer_class").dump());
  if (json_value(specials.config, "add_prefix_space") == true) builder.vocabulary().prefixed = 0;
  if (name == "RobertaTokenizer") return read_roberta(specials, builder);
  if (name == "Qwen2Tokenizer") {
    builder.vocabulary().patterns = {{PreTokenizer::Pattern::Qwen2}};
    builder.vocabulary().nfc = true;
  }
  specials.add(kEndOfDocumentNames[0]);
  if (json_value(specials.config, "add_bos_token") == true) {
    const int32_t first = builder.id_of(specials.role("bos_token", kEndOfDocumentNames[0]));
    if (first >= 0) builder.vocabulary().prefix = {first};
  }
}

}  // namespace

std::string byte_pair_class(const std::string& vocabulary) { return class_of(vocabulary, special_tokens_beside(vocabulary)); }

std::unique_ptr<Tokenizer> load_byte_pair_files(const std::string& vocabulary, const std::string& merges) {
  VocabularyBuilder builder(vocabulary);
  builder.add_tokens(parse_json_file(vocabulary));
  read_merges(merges, builder);
  SpecialTokens specials = special_tokens_beside(vocabulary);
  read_class(vocabulary, specials, builder);
  builder.add_special(specials);
  return builder.finish();
}

std::unique_ptr<Tokenizer> load_byte_pair_json(const std::string& path, const json& file) {
  const Rules rules = RulesReader(path, file).read();
  const json& model = file["model"];
  VocabularyBuilder builder(path);
  builder.add_tokens(json_value(model, "vocab"));
  if (json_value(model, "ignore_merges") == true) builder.ignore_merges();
  for (const AddedToken& token : parse_added_tokens(path, file)) builder.add_added(token);
  builder.add_special(special_tokens_beside(path));
  for_each_merge(path, model,
                 [&](std::string_view left, std::string_view right, const std::string& where) { builder.add_merge(left, right, where); });
  TextTemplate around = parse_text_template(path, file);
  builder.vocabulary().patterns = rules.patterns;
  builder.vocabulary().prefixed = rules.prefixed;
  builder.vocabulary().nfc = rules.nfc;
  builder.vocabulary().prefix = std::move(around.prefix);
  builder.vocabulary().suffix = std::move(around.suffix);
  return builder.finish();
}

}  // namespace zerostep
