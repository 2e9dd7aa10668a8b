#include "experiments/plot/text_width.h"

#include <algorithm>

namespace zerostep {

std::pair<std::string_view, std::string_view> ends_of(std::string_view text, size_t head, size_t tail) {
  while (head > 0 && goes_on(text[head])) --head;
  size_t begin = text.size() - tail;
  while (begin < text.size() && goes_on(text[begin])) ++begin;
  return {text.substr(0, head), text.substr(begin)};
}

std::string cut_in_middle(std::string_view text, size_t head, size_t tail) {
  const auto [first, last] = ends_of(text, head, tail);
  return std::string(first) + kEllipsis + std::string(last);
}

std::string shortened(std::string_view text, double size, double most) {
  return shortened(
      text, [size](std::string_view part) { return text_width(part, size); }, most);
}

std::string shortened(std::string_view text, const TextWidth& width, double most) {
  if (width(text) <= most) return std::string(text);
  std::string out;
  for (size_t kept = text.size(); kept-- > 3;) {
    out = cut_in_middle(text, kept - kept / 2, kept / 2);
    if (width(out) <= most) break;
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
