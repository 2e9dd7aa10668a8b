#include "experiments/plot/text_width.h"

#include <algorithm>

namespace zerostep {

std::string shortened(std::string_view text, double size, double most) {
  if (text_width(text, size) <= most) return std::string(text);
  std::string out;
  for (size_t kept = text.size(); kept > 2; --kept) {
    size_t head = kept - kept / 2, tail = text.size() - kept / 2;
    while (head > 0 && goes_on(text[head])) --head;
    while (tail < text.size() && goes_on(text[tail])) ++tail;
    out = std::string(text.substr(0, head)) + "\u2026" + std::string(text.substr(tail));
    if (text_width(out, size) <= most) break;
  }
  return out;
}

std::vector<std::string> wrapped(std::string_view text, double size, double most) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word(text.substr(at, end - at));
    if (!out.empty() && text_width(out.back() + " " + word, size) <= most)
      out.back() += " " + word;
    else
      out.push_back(word);
    at = end + 1;
  }
  return out;
}

}  // namespace zerostep
