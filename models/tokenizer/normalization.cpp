#include "models/tokenizer/normalization.h"

#include <algorithm>

#include "models/tokenizer/table_rows.h"
#include "models/tokenizer/unicode_tables.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {
namespace {

// Below it nothing is decomposed by NFC's rules and nothing joins what stands before it.
constexpr uint32_t kFirstMark = 0x300;
// Bytes that belong to no character pass as code points beyond the last.
constexpr uint32_t kByteBase = 0x110000;

constexpr uint32_t kHangulBase = 0xAC00, kLeadBase = 0x1100, kVowelBase = 0x1161, kTailBase = 0x11A7;
constexpr uint32_t kNumLeads = 19, kNumVowels = 21, kNumTails = 28, kNumHangul = kNumLeads * kNumVowels * kNumTails;

struct Decomposition {
  uint32_t composed, first, second;  // second 0: a single character
};
struct CombiningClass {
  uint32_t first, last;
  uint32_t order;  // above 0
};
// Every `step`-th character from first to last has its lower case `difference` further on.
struct CaseRun {
  uint32_t first, last, step;
  int32_t difference;
};
struct Tables {
  std::vector<Decomposition> compositions = unpacked<Decomposition>(kCompositions);  // sorted by their parts
  std::vector<Decomposition> decompositions = unpacked<Decomposition>(kDecompositions);
  std::vector<CombiningClass> combining_classes = unpacked<CombiningClass>(kCombiningClasses);
  std::vector<CaseRun> lower_case = unpacked<CaseRun>(kLowerCase);
  std::vector<CodePointRange> accents = unpacked<CodePointRange>(kAccents), bert_removed = unpacked<CodePointRange>(kBertRemoved),
                              bert_punctuation = unpacked<CodePointRange>(kBertPunctuation), numbers = unpacked<CodePointRange>(kNumbers);
  Tables() {
    decompositions.insert(decompositions.end(), compositions.begin(), compositions.end());
    std::sort(decompositions.begin(), decompositions.end(), [](const auto& a, const auto& b) { return a.composed < b.composed; });
    std::sort(compositions.begin(), compositions.end(),
              [](const auto& a, const auto& b) { return std::pair(a.first, a.second) < std::pair(b.first, b.second); });
  }
};
const Tables& tables() {
  static const Tables all;
  return all;
}

uint32_t combining_class(uint32_t code_point) {
  if (code_point < kFirstMark) return 0;
  const CombiningClass* found = find_range(tables().combining_classes, code_point);
  return found ? found->order : 0;
}

const Decomposition* decomposition_of(uint32_t code_point) {
  if (code_point < 0xC0) return nullptr;
  const std::vector<Decomposition>& table = tables().decompositions;
  const auto found =
      std::lower_bound(table.begin(), table.end(), code_point, [](const Decomposition& d, uint32_t c) { return d.composed < c; });
  return found != table.end() && found->composed == code_point ? &*found : nullptr;
}

void append_decomposed(uint32_t code_point, std::vector<uint32_t>& out) {
  if (const uint32_t hangul = code_point - kHangulBase; hangul < kNumHangul) {
    out.push_back(kLeadBase + hangul / (kNumVowels * kNumTails));
    out.push_back(kVowelBase + hangul / kNumTails % kNumVowels);
    if (hangul % kNumTails != 0) out.push_back(kTailBase + hangul % kNumTails);
    return;
  }
  const Decomposition* parts = decomposition_of(code_point);
  if (!parts) {
    out.push_back(code_point);
    return;
  }
  append_decomposed(parts->first, out);
  if (parts->second != 0) append_decomposed(parts->second, out);
}

// 0: the two do not compose.
uint32_t composed(uint32_t first, uint32_t second) {
  const uint32_t lead = first - kLeadBase, vowel = second - kVowelBase, hangul = first - kHangulBase, tail = second - kTailBase;
  if (lead < kNumLeads && vowel < kNumVowels) return kHangulBase + (lead * kNumVowels + vowel) * kNumTails;
  if (hangul < kNumHangul && hangul % kNumTails == 0 && tail > 0 && tail < kNumTails) return first + tail;
  if (second < kFirstMark) return 0;
  const std::vector<Decomposition>& table = tables().compositions;
  const auto found = std::lower_bound(table.begin(), table.end(), std::pair(first, second),
                                      [](const Decomposition& d, const auto& parts) { return std::pair(d.first, d.second) < parts; });
  return found != table.end() && found->first == first && found->second == second ? found->composed : 0;
}

// In place, decomposed text (UAX #15, "Canonical Composition Algorithm").
void compose(std::vector<uint32_t>& code_points) {
  size_t kept = 0, starter = 0;
  bool has_starter = false;
  int last_class = -1;  // of what stands between the starter and the next character; -1: nothing
  for (uint32_t code_point : code_points) {
    const auto order = static_cast<int>(combining_class(code_point));
    if (has_starter && last_class < order) {
      if (const uint32_t joined = composed(code_points[starter], code_point)) {
        code_points[starter] = joined;
        continue;
      }
    }
    if (order == 0) {
      starter = kept;
      has_starter = true;
      last_class = -1;
    } else {
      last_class = order;
    }
    code_points[kept++] = code_point;
  }
  code_points.resize(kept);
}

}  // namespace

void decompose(std::vector<uint32_t>& code_points) {
  std::vector<uint32_t> out;
  out.reserve(code_points.size() + 8);
  for (uint32_t code_point : code_points) append_decomposed(code_point, out);
  // Runs of marks are put in the order of their classes.
  for (size_t begin = 0; begin < out.size();) {
    if (combining_class(out[begin]) == 0) {
      ++begin;
      continue;
    }
    size_t end = begin + 1;
    while (end < out.size() && combining_class(out[end]) != 0) ++end;
    std::stable_sort(out.begin() + static_cast<ptrdiff_t>(begin), out.begin() + static_cast<ptrdiff_t>(end),
                     [](uint32_t a, uint32_t b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
  code_points = std::move(out);
}

std::string_view nfc_form(std::string_view text, std::string& buffer) {
  // What comes before the first mark, and the character that it may join, stays.
  size_t first = 0;
  while (first < text.size() && static_cast<unsigned char>(text[first]) < 0xCC) ++first;
  if (first == text.size()) return text;
  while (first > 0 && (static_cast<unsigned char>(text[first - 1]) & 0xC0) == 0x80) --first;
  if (first > 0) --first;
  std::vector<uint32_t> code_points;
  for (std::string_view rest = text.substr(first); !rest.empty();) {
    if (utf8_character_length(rest.substr(0, 4)) == 0) {
      code_points.push_back(kByteBase + static_cast<unsigned char>(rest[0]));
      rest.remove_prefix(1);
    } else {
      code_points.push_back(take_code_point(rest));
    }
  }
  decompose(code_points);
  compose(code_points);
  std::string normal(text.substr(0, first));
  for (uint32_t code_point : code_points) {
    if (code_point >= kByteBase) {
      normal += static_cast<char>(static_cast<unsigned char>(code_point - kByteBase));
    } else {
      append_utf8(code_point, normal);
    }
  }
  if (normal == text) return text;
  buffer = std::move(normal);
  return buffer;
}

bool is_white_space(uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_accent(uint32_t code_point) { return code_point >= kFirstMark && find_range(tables().accents, code_point); }
bool is_number(uint32_t code_point) {
  if (code_point < 0x80) return code_point >= '0' && code_point <= '9';
  return find_range(tables().numbers, code_point) != nullptr;
}
bool is_bert_removed(uint32_t code_point) { return find_range(tables().bert_removed, code_point) != nullptr; }
bool is_bert_punctuation(uint32_t code_point) { return find_range(tables().bert_punctuation, code_point) != nullptr; }

bool is_bert_ideograph(uint32_t code_point) {
  static const std::vector<CodePointRange> ranges = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},  {0x20000, 0x2A6DF},
                                                     {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
  return code_point >= 0x3400 && find_range(ranges, code_point);
}

void append_lower_case(uint32_t code_point, std::vector<uint32_t>& out) {
  if (code_point == 0x130) {  // I with a dot above
    out.push_back('i');
    out.push_back(0x307);
    return;
  }
  const CaseRun* run = find_range(tables().lower_case, code_point);
  const bool changes = run && (code_point - run->first) % run->step == 0;
  out.push_back(changes ? static_cast<uint32_t>(static_cast<int64_t>(code_point) + run->difference) : code_point);
}

}  // namespace zerostep
