#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/nth.h"
#include "models/tokenizer/piece_tokenizer.h"
#include "models/tokenizer/special_tokens.h"
#include "models/tokenizer/tokenizer_files.h"

namespace zerostep {
namespace {

using nlohmann::json;

// The names under which SentencePiece's vocabularies keep their end-of-document token.
constexpr std::array<const char*, 4> kPieceEndNames = {"</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>"};

// ends every refusal
constexpr const char* kSupportedPieces =
    "the kinds of Llama 2, T5 and XLM-R are supported: a BPE or Unigram model with a normalizer of the types Prepend, Replace (a string, "
    "or "
    "runs of spaces), Strip, NFC, NFD, Lowercase and Precompiled, a pre-tokenizer Metaspace, alone or after WhitespaceSplit, and a decoder "
    "Metaspace, or a Sequence of Replace, ByteFallback, Fuse and Strip";

[[noreturn]] void refuse_part(const std::string& path, const std::string& what) { fail_input("'{}' {}; {}", path, what, kSupportedPieces); }

// A score as Hugging Face's tokenizers read it from its digits: a whole number, divided by a power of ten. The last bit may differ from the
// nearest double, and two ways through a text may have scores that differ by no more.
double read_score(double score) {
  const std::string digits = fmt::format("{}", std::abs(score));
  int exponent = 0;
  uint64_t significand = 0;
  bool fraction = false;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] == 'e') {
      exponent += std::stoi(digits.substr(i + 1));
      break;
    }
    if (digits[i] == '.') {
      fraction = true;
    } else {
      significand = 10 * significand + static_cast<uint64_t>(digits[i] - '0');
      exponent -= fraction;
    }
  }
  const auto whole = static_cast<double>(significand);
  const double power = std::pow(10.0, std::abs(exponent));
  return std::copysign(exponent < 0 ? whole / power : whole * power, score);
}

// Collects the vocabulary of a tokenizer.json, checking every part.
class PieceReader {
 public:
  PieceReader(const std::string& path, const json& file) : path_(path), file_(file), model_(file["model"]) {}

  std::unique_ptr<Tokenizer> read() {
    if (json_value(model_, "type") == "Unigram") {
      read_scored_vocabulary();
    } else {
      read_vocabulary();
    }
    vocabulary_.added_tokens = parse_added_tokens(path_, file_);
    for (const AddedToken& token : vocabulary_.added_tokens) {
      const int32_t known = id_of(token.content);
      if (known >= 0 && known != token.id)
        fail_input("'{}': added token '{}' has id {}, in the vocabulary it has {}", path_, token.content, token.id, known);
      add(token.content, token.id);
    }
    vocabulary_.normalizer = parse_normalizer(path_, json_value(file_, "normalizer"), kSupportedPieces);
    read_pre_tokenizer(json_value(file_, "pre_tokenizer"));
    if (vocabulary_.rules.prefix == PieceRules::Prefix::First && vocabulary_.normalizer.strips_left())
      refuse_part(path_, "has a Metaspace with prepend_scheme \"first\" after a normalizer that strips the text's beginning (strip_left)");
    read_decoder(json_value(file_, "decoder"));
    read_specials();
    if (json_value(model_, "type") == "Unigram") {
      vocabulary_.model = unigram();
    } else {
      vocabulary_.model = character_pairs();
    }
    return make_piece_tokenizer(std::move(vocabulary_));
  }

 private:
  void add(const std::string& text, int64_t id) {
    if (id < 0 || id >= kMaxVocabulary)
      fail_input("'{}': token '{}' has id {}; a whole number from 0 to {} is expected", path_, text, id, kMaxVocabulary - 1);
    if (text.empty()) fail_input("'{}': token {} has no text", path_, id);
    auto& table = vocabulary_.text_of_token;
    if (id >= std::ssize(table)) table.resize(static_cast<size_t>(id) + 1);
    std::string& place = nth(table, id);
    if (!place.empty() && place != text) fail_input("'{}': id {} belongs to two tokens, '{}' and '{}'", path_, id, place, text);
    place = text;
    ids_[text] = static_cast<int32_t>(id);
  }
  int32_t id_of(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
  }

  void read_vocabulary() {
    const json& tokens = json_value(model_, "vocab");
    if (!tokens.is_object() || tokens.empty())
      fail_input("'{}': the vocabulary is {}; an object of token: id is expected", path_, tokens.type_name());
    for (const auto& [text, id] : tokens.items()) {
      if (!id.is_number_integer()) fail_input("'{}': token '{}' has id {}; a whole number is expected", path_, text, id.dump());
      add(text, id.get<int64_t>());
      in_model_.push_back(id.get<int32_t>());
    }
  }

  void read_scored_vocabulary() {
    const json& tokens = json_value(model_, "vocab");
    if (!tokens.is_array() || tokens.empty())
      fail_input("'{}': the vocabulary is {}; a list of [token, score] is expected", path_, tokens.type_name());
    for (size_t i = 0; i < tokens.size(); ++i) {
      const json& entry = tokens[i];
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
        fail_input("'{}': model.vocab[{}] is {}; [token, score] is expected", path_, i, entry.dump());
      add(entry[0].get<std::string>(), static_cast<int64_t>(i));
      in_model_.push_back(static_cast<int32_t>(i));
      scores_.push_back(read_score(entry[1].get<double>()));
    }
  }

  // The tokens of the model in views of the finished table.
  std::vector<std::pair<std::string_view, int32_t>> tokens_of_model() const {
    std::vector<std::pair<std::string_view, int32_t>> tokens;
    for (const int32_t id : in_model_) tokens.emplace_back(nth(vocabulary_.text_of_token, id), id);
    return tokens;
  }

  ByteTokens byte_tokens() const {
    ByteTokens bytes;
    for (const int32_t id : in_model_)
      if (const int byte = ByteTokens::byte_of(nth(vocabulary_.text_of_token, id)); byte >= 0) nth(bytes.token, byte) = id;
    return bytes;
  }

  std::unique_ptr<PieceModel> unigram() const {
    for (const char* key : {"alpha", "nbest_size"})
      if (!json_value(model_, key).is_null()) refuse_part(path_, fmt::format("has model.{} {}", key, model_[key].dump()));
    const json& unknown = json_value(model_, "unk_id");
    if (!unknown.is_number_integer() || unknown.get<int64_t>() < 0 || unknown.get<int64_t>() >= std::ssize(scores_))
      fail_input("'{}' has model.unk_id {}; the id of a token from 0 to {} is expected, for characters that no token spells", path_,
                 unknown.dump(), std::ssize(scores_) - 1);
    return make_unigram_model({.tokens = tokens_of_model(),
                               .scores = scores_,
                               .unknown = unknown.get<int32_t>(),
                               .has_byte_fallback = json_value(model_, "byte_fallback") == true,
                               .bytes = byte_tokens()});
  }

  std::unique_ptr<PieceModel> character_pairs() {
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const json& affix = json_value(model_, key);
      if (!affix.is_null() && affix != "") refuse_part(path_, fmt::format("has model.{} {}", key, affix.dump()));
    }
    if (const json& dropout = json_value(model_, "dropout"); !dropout.is_null() && dropout != 0)
      refuse_part(path_, fmt::format("has model.dropout {}", dropout.dump()));
    CharacterPairs parts{.tokens = tokens_of_model(),
                         .merges = {},
                         .has_byte_fallback = json_value(model_, "byte_fallback") == true,
                         .bytes = byte_tokens(),
                         .fuses_unknown = json_value(model_, "fuse_unk") == true,
                         .ignores_merges = json_value(model_, "ignore_merges") == true};
    std::unordered_map<std::string_view, int32_t> id_in_model(parts.tokens.begin(), parts.tokens.end());
    const auto require = [&](const std::string& text, const std::string& what) {
      const auto found = id_in_model.find(text);
      if (found == id_in_model.end()) fail_input("{} token '{}', which is not in model.vocab of '{}'", what, text, path_);
      return found->second;
    };
    if (const json& unknown = json_value(model_, "unk_token"); unknown.is_string())
      parts.unknown = require(unknown.get<std::string>(), fmt::format("'{}': model.unk_token is", path_));
    for_each_merge(path_, model_, [&](std::string_view left, std::string_view right, const std::string& where) {
      const std::string what = fmt::format("{}: merge '{} {}' needs", where, left, right);
      parts.merges.push_back(
          {require(std::string(left), what), require(std::string(right), what), require(std::string(left).append(right), what)});
    });
    return make_character_pair_model(std::move(parts));
  }

  void read_pre_tokenizer(const json& part) {
    if (part.is_null()) return;
    const json& type = json_value(part, "type");
    PieceRules& rules = vocabulary_.rules;
    if (type == "Sequence") {
      for (const json& step : json_value(part, "pretokenizers")) read_pre_tokenizer(step);
    } else if (type == "WhitespaceSplit" && rules.marker.empty()) {
      rules.splits_white_space = true;
    } else if (type == "Metaspace" && rules.marker.empty()) {
      read_metaspace(part);
    } else if (type != "Split" || !splits_nothing(part)) {
      refuse_part(path_, fmt::format("has {} pre-tokenizer of type {}", rules.marker.empty() ? "a" : "behind Metaspace a", type.dump()));
    }
  }

  // Gemma's, which parts text at spaces when none are left.
  bool splits_nothing(const json& split) const {
    TextNormalizer::Scratch scratch;
    const bool has_spaces = vocabulary_.normalizer.apply("a b", true, scratch).find(' ') != std::string_view::npos;
    return !has_spaces && json_value(json_value(split, "pattern"), "String") == " " && json_value(split, "invert") != true;
  }

  void read_metaspace(const json& part) {
    PieceRules& rules = vocabulary_.rules;
    const json &marker = json_value(part, "replacement"), &scheme = json_value(part, "prepend_scheme"),
               &prefixed = json_value(part, "add_prefix_space"), &split = json_value(part, "split");
    if (!marker.is_string() || marker == "" || marker == " ")
      refuse_part(path_, fmt::format("has a Metaspace with replacement {}", marker.dump()));
    rules.marker = marker.get<std::string>();
    rules.splits_markers = split != false;
    if (scheme.is_null()) {
      rules.prefix = prefixed == false ? PieceRules::Prefix::Never : PieceRules::Prefix::Always;
    } else if (scheme == "never") {
      rules.prefix = PieceRules::Prefix::Never;
    } else if (scheme == "first") {
      rules.prefix = PieceRules::Prefix::First;
    } else if (scheme == "always") {
      rules.prefix = PieceRules::Prefix::Always;
    } else {
      refuse_part(path_, fmt::format("has a Metaspace with prepend_scheme {}", scheme.dump()));
    }
  }

  void read_decoder(const json& part) {
    PieceDecoder& decoder = vocabulary_.decoder;
    const PieceRules& rules = vocabulary_.rules;
    if (part.is_null()) {  // read as its counterpart before the model
      decoder.marker = rules.marker;
      decoder.drops_markers = rules.prefix != PieceRules::Prefix::Never;
      return;
    }
    const json& type = json_value(part, "type");
    if (type == "Metaspace") {
      const json& marker = json_value(part, "replacement");
      if (!marker.is_string() || marker == "")
        refuse_part(path_, fmt::format("has a decoder Metaspace with replacement {}", marker.dump()));
      decoder.marker = marker.get<std::string>();
      decoder.drops_markers = json_value(part, "prepend_scheme") != "never" && json_value(part, "add_prefix_space") != false;
    } else if (type == "Sequence") {
      bool fused = false;
      for (const json& step : json_value(part, "decoders")) read_decoder_step(step, fused);
    } else {
      bool fused = false;
      read_decoder_step(part, fused);
    }
  }

  void read_decoder_step(const json& step, bool& fused) {
    PieceDecoder& decoder = vocabulary_.decoder;
    const json& type = json_value(step, "type");
    if (type == "Replace" && json_value(step, "content") == " " && json_value(json_value(step, "pattern"), "String").is_string()) {
      decoder.marker = step["pattern"]["String"].get<std::string>();
    } else if (type == "ByteFallback") {
      decoder.reads_bytes = true;
    } else if (type == "Fuse") {
      fused = true;
    } else if (type == "Strip" && fused && json_value(step, "content") == " " && json_value(step, "stop") == 0 &&
               json_value(step, "start").is_number_unsigned()) {
      decoder.num_stripped = step["start"].get<size_t>();
    } else if (type == "Metaspace" && decoder.marker.empty() && !fused) {
      read_decoder(step);
    } else {
      refuse_part(path_, fmt::format("has a decoder with the part {}", step.dump()));
    }
  }

  void read_specials() {
    const SpecialTokens specials = special_tokens_beside(path_);
    auto& added = vocabulary_.added_tokens;
    for (AddedToken token : specials.tokens) {
      if (std::any_of(added.begin(), added.end(), [&](const AddedToken& t) { return t.content == token.content; })) continue;
      if (token.id < 0) token.id = id_of(token.content);
      if (token.id < 0) continue;
      add(token.content, token.id);
      added.push_back(std::move(token));
    }
    TextTemplate around = parse_text_template(path_, file_);
    vocabulary_.prefix = std::move(around.prefix);
    vocabulary_.suffix = std::move(around.suffix);
    std::vector<std::string> names(kPieceEndNames.begin(), kPieceEndNames.end());
    names.insert(names.begin(), specials.role("eos_token", names.front().c_str()));
    for (const std::string& name : names)
      if (vocabulary_.end_of_document < 0) vocabulary_.end_of_document = id_of(name);
    if (vocabulary_.end_of_document < 0)
      fail_input(
          "'{}' has no end-of-document token: one of {} is expected in the vocabulary, or that which eos_token in tokenizer_config.json "
          "names",
          path_, fmt::join(kPieceEndNames, ", "));
    const int32_t padding = id_of(specials.role("pad_token", "<pad>")), mask = id_of(specials.role("mask_token", "<mask>"));
    vocabulary_.padding = padding >= 0 ? padding : vocabulary_.end_of_document;
    if (mask >= 0) vocabulary_.mask = mask;
  }

  const std::string& path_;
  const json& file_;
  const json& model_;
  PieceVocabulary vocabulary_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<int32_t> in_model_;
  std::vector<double> scores_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_piece_json(const std::string& path, const json& file) { return PieceReader(path, file).read(); }

}  // namespace zerostep
