#include "experiments/plot/short_labels.h"

#include <algorithm>
#include <set>

namespace zerostep {
namespace {

bool fit(const std::vector<std::string>& texts, const TextWidth& width, double most) {
  return std::all_of(texts.begin(), texts.end(), [&](const std::string& text) { return width(text) <= most; });
}

size_t count_of(const std::vector<std::string>& texts) { return std::set(texts.begin(), texts.end()).size(); }

// A part of a text with the separator that ends it.
struct Part {
  std::string text, separator;
};

std::vector<Part> parts_of(const std::string& text) {
  std::vector<Part> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_of(",/", at), text.size());
    const size_t next = std::min(text.find_first_not_of(",/ ", end), text.size());
    out.push_back({text.substr(at, end - at), text.substr(end, next - end)});
    at = next;
  }
  return out;
}

// "optimizer.params.lr=0.1" as "lr=0.1".
std::string with_last_of_path(const std::string& part) {
  const size_t value = part.find('=');
  const size_t dot = value == part.npos ? part.npos : part.rfind('.', value);
  return dot == part.npos ? part : part.substr(dot + 1);
}

std::vector<std::string> without_common_parts(const std::vector<std::string>& texts) {
  std::set<std::string> common;
  for (size_t i = 0; i < texts.size(); ++i) {
    std::set<std::string> own;
    for (const Part& part : parts_of(texts[i])) own.insert(part.text);
    if (i > 0) std::erase_if(own, [&](const std::string& text) { return !common.contains(text); });
    common = std::move(own);
  }
  std::vector<std::string> out;
  for (const std::string& text : texts) {
    std::string kept;
    bool has_gap = false;
    for (const Part& part : parts_of(text)) {
      if (!common.contains(part.text))
        kept += with_last_of_path(part.text) + part.separator;
      else if (!has_gap)
        kept += kEllipsis + part.separator;
      has_gap = common.contains(part.text);
    }
    out.push_back(std::move(kept));
  }
  return out;
}

// Where the name of a key ends in "queries=64" or "queries 64"; npos of a part without one, as "zo" or "zo (failed)".
size_t end_of_key(const std::string& part) {
  if (const size_t sign = part.find('='); sign != part.npos) return sign;
  const size_t blank = part.find(' ');
  return blank == part.npos || part.compare(blank, 2, " (") == 0 ? part.npos : blank;
}

// With as many letters of each key's name; of none with the values alone.
std::vector<std::string> with_short_keys(const std::vector<std::string>& texts, size_t letters) {
  std::vector<std::string> out;
  for (const std::string& text : texts) {
    std::string& label = out.emplace_back();
    for (const Part& part : parts_of(text)) {
      const size_t end = end_of_key(part.text);
      if (end == part.text.npos || end <= letters + 1)
        label += part.text;
      else if (letters == 0)
        label += part.text.substr(end + 1);
      else
        label += std::string(ends_of(part.text, letters, 0).first) + kEllipsis + part.text.substr(end);
      label += part.separator;
    }
  }
  return out;
}

// Whole parts from both ends of a text, as many as fit and, of those, as nearly as many of either end as no other text has; "" where there
// are none. `is_apart` tells whether it is to differ from the others at all.
std::string ends_apart_from(const std::string& text, const std::vector<std::string>& others, const TextWidth& width, double most,
                            bool is_apart) {
  const std::vector<Part> parts = parts_of(text);
  const auto joined = [&](size_t from, size_t to) {
    std::string out;
    for (size_t i = from; i < to; ++i) out += parts[i].text + parts[i].separator;
    return out;
  };
  for (size_t kept = parts.size(); kept-- > 1;)
    for (size_t off = 0; off <= kept; ++off) {
      // Heads of half as many, and of one more, one less, two more, ...
      const size_t half = (kept + 1) / 2, shift = (off + 1) / 2;
      if (off % 2 == 1 ? half + shift > kept : shift > half) continue;
      const size_t head = off % 2 == 1 ? half + shift : half - shift, begin = parts.size() - (kept - head);
      const std::string first = joined(0, head), last = joined(begin, parts.size());
      std::string out = first + kEllipsis + (last.empty() ? "" : parts[begin - 1].separator) + last;
      if (width(out) > most) continue;
      if (!is_apart || std::none_of(others.begin(), others.end(), [&](const std::string& other) {
            return other != text && other.starts_with(first) && other.ends_with(last);
          }))
        return out;
    }
  return "";
}

// The two ends of a text, of those that fit the nearest to equal ones that no other text has; "" where there are none.
std::string apart_from(const std::string& text, const std::vector<std::string>& others, const TextWidth& width, double most) {
  if (width(text) <= most) return text;
  size_t kept = text.size() - 1;
  while (kept > 2 && width(text.substr(0, kept) + kEllipsis) > most) --kept;
  const auto is_apart = [&](size_t head, size_t tail) {
    const auto [first, last] = ends_of(text, head, tail);
    return std::none_of(others.begin(), others.end(), [&, first = first, last = last](const std::string& other) {
      return other != text && other.starts_with(first) && other.ends_with(last);
    });
  };
  for (size_t off = 0; off <= kept; ++off)
    for (const bool is_head : {true, false}) {
      const size_t half = kept / 2;
      if (off > (is_head ? kept - half : half)) continue;
      size_t head = is_head ? half + off : half - off, tail = kept - head;
      if (!is_apart(head, tail)) continue;
      // Letters of one end may be wider than those that `kept` was counted with.
      std::string out = cut_in_middle(text, head, tail);
      while (width(out) > most && head + tail > 2) {
        --(head > tail ? head : tail);
        out = cut_in_middle(text, head, tail);
      }
      if (width(out) <= most && is_apart(head, tail)) return out;
    }
  return "";
}

}  // namespace

ShortLabels short_labels(const std::vector<std::string>& texts, double size, double most) {
  return short_labels(
      texts, [size](std::string_view text) { return text_width(text, size); }, most);
}

ShortLabels short_labels(const std::vector<std::string>& texts, const TextWidth& width, double most) {
  using Kind = ShortLabels::Kind;
  if (fit(texts, width, most)) return {Kind::Whole, texts};
  std::vector<std::string> parts = count_of(texts) > 1 ? without_common_parts(texts) : texts;
  if (count_of(parts) < count_of(texts)) parts = texts;
  if (fit(parts, width, most)) return {Kind::Parts, parts};
  for (const size_t letters : {8, 5, 3, 2, 1, 0}) {
    std::vector<std::string> keys = with_short_keys(parts, letters);
    if (count_of(keys) == count_of(texts) && fit(keys, width, most)) return {Kind::Cut, std::move(keys)};
  }
  ShortLabels out{Kind::Cut, {}};
  for (const std::string& text : parts) {
    const std::vector<Part> own = parts_of(text);
    const bool has_values = std::any_of(own.begin(), own.end(), [](const Part& part) { return end_of_key(part.text) != part.text.npos; });
    std::string label = width(text) <= most ? text : ends_apart_from(text, parts, width, most, true);
    if (label.empty() && !has_values) label = apart_from(text, parts, width, most);
    if (label.empty()) {
      out.kind = Kind::Alike;
      label = has_values ? ends_apart_from(text, parts, width, most, false) : "";
      if (label.empty()) label = shortened(text, width, most);
    }
    out.texts.push_back(std::move(label));
  }
  return out;
}

}  // namespace zerostep
