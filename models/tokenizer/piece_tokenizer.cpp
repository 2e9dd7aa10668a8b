#include "models/tokenizer/piece_tokenizer.h"

#include <xxhash.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "models/text_file.h"
#include "models/tokenizer/scratch_pool.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {
namespace {

// Identifies the rules in this folder; to be raised when any text could get other tokens.
constexpr const char* kPieceRules = "pieces-1";
constexpr std::string_view kReplacementText = "\xEF\xBF\xBD";  // stands for bytes that belong to no character

std::string hash_of(const PieceVocabulary& v) {
  std::string all;
  for (const std::string& text : v.text_of_token) all += fmt::format("{}:{},", text.size(), text);
  all += v.model->description() + v.normalizer.description();
  all += fmt::format("{} {} {} {}", v.rules.splits_white_space, v.rules.marker, static_cast<int>(v.rules.prefix), v.rules.splits_markers);
  all += fmt::format(" end {} {} prefix {} suffix {}", v.end_of_document, v.padding, fmt::join(v.prefix, " "), fmt::join(v.suffix, " "));
  for (const AddedToken& t : v.added_tokens)
    all += fmt::format(";{} {}:{} {} {} {}", t.id, t.content.size(), t.content, t.lstrip, t.rstrip, t.normalized);
  const XXH128_hash_t hash = XXH3_128bits(all.data(), all.size());
  return fmt::format("{}-{:016x}{:016x}", kPieceRules, hash.high64, hash.low64);
}

class PieceTokenizer final : public VocabularyTokenizer<PieceVocabulary> {
 public:
  explicit PieceTokenizer(PieceVocabulary vocabulary)
      : VocabularyTokenizer(std::move(vocabulary), hash_of),
        keeps_stray_(vocabulary_.model->has_all_bytes() && vocabulary_.normalizer.keeps_stray_bytes()) {
    std::vector<AddedToken> verbatim, normalized;
    TextNormalizer::Scratch scratch;
    const std::string space = form_at_cut(' '), line_end = form_at_cut('\n');
    for (AddedToken token : vocabulary_.added_tokens) {
      if (token.normalized) {
        token.content = std::string(vocabulary_.normalizer.apply(token.content, false, scratch));
        normal_spelling_[token.id] = token.content;
        for (const std::string& over : {space, line_end, vocabulary_.rules.marker})
          if (!over.empty() && token.content.find(over, 1) != std::string::npos) reaches_over_space_ = true;
      }
      if (!token.content.empty()) (token.normalized ? normalized : verbatim).push_back(std::move(token));
    }
    written_ = AddedTokens(vocabulary_.added_tokens);
    verbatim_ = AddedTokens(std::move(verbatim));
    normalized_ = AddedTokens(std::move(normalized));
  }

  void encode(std::string_view text, std::vector<int32_t>& out) const override { encode_part(text, false, out); }
  void encode_rest(std::string_view text, std::vector<int32_t>& out) const override { encode_part(text, true, out); }

  std::string decode(const std::vector<int32_t>& tokens) const override {
    const PieceDecoder& decoder = vocabulary_.decoder;
    std::string text;
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::string_view piece = text_of(tokens[i]);
      if (const auto normal = normal_spelling_.find(tokens[i]); normal != normal_spelling_.end()) piece = normal->second;
      if (const int byte = decoder.reads_bytes ? ByteTokens::byte_of(piece) : -1; byte >= 0) {
        text += static_cast<char>(static_cast<unsigned char>(byte));
        continue;
      }
      for (size_t at = decoder.marker.empty() ? std::string_view::npos : piece.find(decoder.marker); at != std::string_view::npos;
           at = piece.find(decoder.marker)) {
        text += piece.substr(0, at);
        if (i > 0 || !decoder.drops_markers) text += ' ';
        piece.remove_prefix(at + decoder.marker.size());
      }
      text += piece;
    }
    size_t stripped = 0;
    while (stripped < decoder.num_stripped && stripped < text.size() && text[stripped] == ' ') ++stripped;
    return text.substr(stripped);
  }

  int32_t padding() const override { return vocabulary_.padding; }
  StrayBytes stray_bytes() const override { return keeps_stray_ ? StrayBytes::Kept : StrayBytes::Lost; }

  size_t split_point(std::string_view text, size_t at) const override {
    if (!verbatim_.cut_before_space() || !normalized_.cut_before_space() || reaches_over_space_) return text.size();
    for (size_t p = std::max<size_t>(at, 1); p < text.size(); ++p)
      if ((text[p] == ' ' || text[p] == '\n') && is_safe_cut(text, p)) return p;
    return text.size();
  }

 private:
  struct Scratch {
    TextNormalizer::Scratch normal;
    std::string well_formed, marked;
    std::unique_ptr<PieceModel::Scratch> model;
  };

  void encode_part(std::string_view text, bool continues, std::vector<int32_t>& out) const {
    if (text.empty()) return;
    const auto lease = scratches_.borrow([&] {
      auto scratch = std::make_unique<Scratch>();
      scratch->model = vocabulary_.model->make_scratch();
      return scratch;
    });
    Scratch& scratch = lease.get();
    if (!keeps_stray_) text = without_stray_bytes(text, scratch.well_formed);
    verbatim_.split(text, out, [&](std::string_view part) {
      const bool first = part.data() == text.data();
      const std::string_view normal = vocabulary_.normalizer.apply(part, first && continues, scratch.normal);
      normalized_.split(normal, out, [&](std::string_view plain) {
        const bool begins = first && plain.data() == normal.data();
        vocabulary_.rules.for_each_piece(plain, begins && !continues, begins && continues, scratch.marked,
                                         [&](std::string_view piece) { vocabulary_.model->encode(piece, *scratch.model, out); });
      });
    });
  }

  static std::string_view without_stray_bytes(std::string_view text, std::string& buffer) {
    if (first_ill_formed_byte(text) == std::string_view::npos) return text;
    buffer.clear();
    while (!text.empty()) {
      const size_t length = utf8_character_length(text.substr(0, 4));
      buffer += length > 0 ? text.substr(0, length) : kReplacementText;
      text.remove_prefix(std::max<size_t>(length, 1));
    }
    return buffer;
  }

  // What a space or a line end becomes that stands between letters.
  std::string form_at_cut(char space) const {
    TextNormalizer::Scratch scratch;
    std::string form(vocabulary_.normalizer.apply(std::string{space, 'x'}, true, scratch));
    if (!form.empty()) form.pop_back();
    return form;
  }

  // Whether the tokens of text[0, p) and of what continues it are those of the text. text[p] is a space or a line end.
  bool is_safe_cut(std::string_view text, size_t p) const {
    // What stands behind an added token begins as a text does.
    if (!vocabulary_.normalizer.keeps_cut(text, p) || written_.may_end_at(text, p)) return false;
    const PieceRules& rules = vocabulary_.rules;
    const std::string form = form_at_cut(text[p]);
    std::string_view next = form;
    if (next.empty()) return false;
    if (rules.splits_white_space && is_white_space(take_code_point(next))) return true;
    if (!rules.marker.empty() && rules.splits_markers && (next.starts_with(' ') || next.starts_with(rules.marker))) return true;
    // Within a piece: where it does not begin behind an added token either way, and the model parts it whatever else it holds.
    if (!normalized_.empty() && !vocabulary_.normalizer.keeps_letters()) return false;
    const std::string_view left = text.substr(0, p).substr(last_character(text.substr(0, p)));
    if (next.starts_with(' ') && !rules.marker.empty()) next = rules.marker;
    return vocabulary_.model->parts_between(left, next.substr(0, std::max<size_t>(1, utf8_character_length(next.substr(0, 4)))));
  }

  bool keeps_stray_;
  bool reaches_over_space_ = false;                           // an added token does, or over what stands for one
  std::unordered_map<int32_t, std::string> normal_spelling_;  // of the added tokens that are found in normalized text
  AddedTokens written_, verbatim_, normalized_;               // all as they are written
  mutable ScratchPool<Scratch> scratches_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_piece_tokenizer(PieceVocabulary vocabulary) {
  return std::make_unique<PieceTokenizer>(std::move(vocabulary));
}

}  // namespace zerostep
