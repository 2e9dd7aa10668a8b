#include "models/tokenizer/graphemes.h"

#include "models/tokenizer/table_rows.h"
#include "models/tokenizer/unicode_tables.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {
namespace {

// Grapheme_Cluster_Break, with Extended_Pictographic and Indic_Conjunct_Break drawn in. The numbers are those of unicode_tables.py, but for
// the last three.
enum class GraphemeKind : uint32_t {
  Other = 0,
  Control = 2,
  Extend = 3,
  ConjunctExtend = 4,  // Extend that stands between a consonant and a linker
  Linker = 5,          // Extend that joins two consonants
  Joiner = 6,          // U+200D
  Regional = 7,
  Prepend = 8,
  SpacingMark = 9,
  Lead = 10,
  Vowel = 11,
  Tail = 12,
  Pictogram = 13,
  Consonant = 14,
  Syllable,        // of Hangul, without a tail
  TailedSyllable,  // of Hangul
  LineFeed
};

struct GraphemeRange {
  uint32_t first, last;
  GraphemeKind kind;
};

GraphemeKind kind_of(uint32_t code_point) {
  using enum GraphemeKind;
  if (code_point < 0x80) return code_point == '\n' ? LineFeed : code_point < ' ' || code_point == 0x7F ? Control : Other;
  if (code_point >= 0x3400 && code_point < 0xA000) return Other;  // ideographs
  if (code_point >= 0xAC00 && code_point < 0xD7A4) return (code_point - 0xAC00) % 28 == 0 ? Syllable : TailedSyllable;
  static const std::vector<GraphemeRange> ranges = unpacked<GraphemeRange>(kGraphemes);
  const GraphemeRange* found = find_range(ranges, code_point);
  return found ? found->kind : Other;
}

bool is_control(GraphemeKind kind) { return kind == GraphemeKind::Control || kind == GraphemeKind::LineFeed; }
bool is_extend(GraphemeKind kind) {
  return kind == GraphemeKind::Extend || kind == GraphemeKind::ConjunctExtend || kind == GraphemeKind::Linker;
}

// What the characters of a cluster so far leave for the next one.
class Cluster {
 public:
  void take(GraphemeKind kind) {
    if (kind == Consonant) {
      conjunct_ = Conjunct::Open;
    } else if (kind == Linker && conjunct_ != Conjunct::None) {
      conjunct_ = Conjunct::Linked;
    } else if (kind != ConjunctExtend && kind != Joiner) {
      conjunct_ = Conjunct::None;
    }
    if (kind == Pictogram) {
      pictures_ = Pictures::Open;
    } else if (kind == Joiner && pictures_ == Pictures::Open) {
      pictures_ = Pictures::Joined;
    } else if (!is_extend(kind) || pictures_ == Pictures::Joined) {
      pictures_ = Pictures::None;
    }
    odd_regional_ = kind == Regional && !odd_regional_;
    last_ = kind;
  }

  // The rules GB4 to GB999 in their order.
  bool joins(GraphemeKind next) const {
    if (is_control(last_) || is_control(next)) return false;
    if (last_ == Lead && (next == Lead || next == Vowel || next == Syllable || next == TailedSyllable)) return true;
    if ((last_ == Syllable || last_ == Vowel) && (next == Vowel || next == Tail)) return true;
    if ((last_ == TailedSyllable || last_ == Tail) && next == Tail) return true;
    if (is_extend(next) || next == Joiner || next == SpacingMark || last_ == Prepend) return true;
    if (next == Consonant) return conjunct_ == Conjunct::Linked;
    if (next == Pictogram) return pictures_ == Pictures::Joined;
    return next == Regional && odd_regional_;
  }

 private:
  using enum GraphemeKind;
  enum class Conjunct : uint8_t { None, Open, Linked };
  enum class Pictures : uint8_t { None, Open, Joined };
  GraphemeKind last_ = Other;
  Conjunct conjunct_ = Conjunct::None;
  Pictures pictures_ = Pictures::None;
  bool odd_regional_ = false;
};

}  // namespace

size_t grapheme_length(std::string_view text) {
  if (text.empty()) return 0;
  if (text.starts_with("\r\n")) return 2;
  std::string_view rest = text;
  Cluster cluster;
  cluster.take(kind_of(take_code_point(rest)));
  while (!rest.empty()) {
    std::string_view behind = rest;
    const GraphemeKind next = kind_of(take_code_point(behind));
    if (!cluster.joins(next)) break;
    cluster.take(next);
    rest = behind;
  }
  return text.size() - rest.size();
}

bool joins_next(uint32_t code_point) { return kind_of(code_point) == GraphemeKind::Prepend; }

}  // namespace zerostep
