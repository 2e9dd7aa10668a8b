#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "models/tokenizer/normalization.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {

// Cuts a normalized text into the pieces that a model tokenizes each by itself, by the rules WhitespaceSplit and Metaspace of a
// tokenizer.json, in this order; without either a text is one piece.
struct PieceRules {
  enum class Prefix : uint8_t { Never, First, Always };
  bool splits_white_space = false;  // words between white space
  std::string marker;               // stands for a space, U+2581 mostly; empty: no Metaspace
  Prefix prefix = Prefix::Never;    // a marker before the text's first word, or before each
  bool splits_markers = false;      // a piece ends before each marker

  // `begins`: it is the beginning of what was given to encode. `continues`: see Tokenizer::encode_rest. Working memory: `buffer`.
  template <typename Take>
  void for_each_piece(std::string_view text, bool begins, bool continues, std::string& buffer, const Take& take) const {
    if (!splits_white_space) return mark(text, begins, continues, buffer, take);
    size_t begin = 0;
    for (std::string_view rest = text; !rest.empty();) {
      const size_t at = text.size() - rest.size();
      const bool space = is_white_space(take_code_point(rest));
      const size_t next = text.size() - rest.size();
      if (!space && next < text.size()) continue;
      const size_t end = space ? at : next;
      if (begin < end) mark(text.substr(begin, end - begin), begins && begin == 0, false, buffer, take);
      begin = next;
    }
  }

 private:
  template <typename Take>
  void mark(std::string_view word, bool begins, bool continues, std::string& buffer, const Take& take) const {
    if (marker.empty()) return take(word);
    const bool prefixed = prefix == Prefix::Always || (prefix == Prefix::First && begins);
    buffer.clear();
    if (prefixed && !continues && !word.starts_with(' ') && !word.starts_with(marker)) buffer = marker;
    size_t begin = 0;
    for (size_t at = word.find(' '); at != std::string_view::npos; at = word.find(' ', begin)) {
      buffer.append(word, begin, at - begin).append(marker);
      begin = at + 1;
    }
    buffer.append(word, begin);
    const std::string_view marked = buffer;
    if (!splits_markers) return take(marked);
    for (size_t at = 0, end = 0; at < marked.size(); at = end) {
      end = std::min(marked.find(marker, at + 1), marked.size());
      take(marked.substr(at, end - at));
    }
  }
};

}  // namespace zerostep
