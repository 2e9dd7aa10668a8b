#pragma once
#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace zerostep {

// Of the characters from ' ' to '~', in thousandths of the font's size: the widths that Helvetica and the fonts in its place share.
inline constexpr std::array<int, 95> kTextWidths{
    278, 278, 355, 556, 556, 889, 667, 191, 333,  333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667,  667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556,
    556, 222, 222, 500, 222, 833, 556, 556, 556,  556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584};
// Fonts that a machine has instead are up to so much wider.
inline constexpr double kWiderText = 1.1, kBolderText = 1.06;
inline constexpr int kOtherTextWidth = 600;

// Whether a byte of UTF-8 goes on with the character before it.
inline bool goes_on(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

// About how wide a text is in a sans-serif font of this size, in pixels; wider than Helvetica, as such fonts go. Here, for the program and
// for the library that draws by cairo.
inline double text_width(std::string_view text, double size, bool is_bold = false) {
  int sum = 0;
  for (char c : text) {
    const auto index = static_cast<unsigned char>(c) - 32U;
    if (index < kTextWidths.size())
      sum += kTextWidths[index];
    else if (!goes_on(c))
      sum += kOtherTextWidth;
  }
  return sum / 1000.0 * size * kWiderText * (is_bold ? kBolderText : 1);
}

inline constexpr const char* kEllipsis = "\u2026";

// The whole characters among the first `head` and the last `tail` bytes of a text that is longer than both together; with an ellipsis
// between them.
std::pair<std::string_view, std::string_view> ends_of(std::string_view text, size_t head, size_t tail);
std::string cut_in_middle(std::string_view text, size_t head, size_t tail);

// How wide a text is elsewhere than in a picture, in a unit of its own.
using TextWidth = std::function<double(std::string_view)>;

// The text, or its two ends around an ellipsis, where it is wider than that.
std::string shortened(std::string_view text, double size, double most);
std::string shortened(std::string_view text, const TextWidth& width, double most);

// The text in lines of at most that width, as far as its words are no wider.
std::vector<std::string> wrapped(std::string_view text, double size, double most);

}  // namespace zerostep
