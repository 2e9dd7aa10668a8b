#include "models/tokenizer/text_normalizer.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "models/tokenizer/graphemes.h"
#include "models/tokenizer/normalization.h"
#include "models/tokenizer/tokenizer_files.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {
namespace {

using nlohmann::json;

template <typename... Kinds>
struct Overloaded : Kinds... {
  using Kinds::operator()...;
};

void replace_all(std::string_view text, std::string_view pattern, std::string_view content, std::string& out) {
  size_t begin = 0;
  for (size_t at = text.find(pattern); at != std::string_view::npos; at = text.find(pattern, begin)) {
    out.append(text, begin, at - begin).append(content);
    begin = at + pattern.size();
  }
  out.append(text, begin);
}

void replace_spaces(std::string_view text, std::string_view content, std::string& out) {
  size_t begin = 0;
  for (size_t at = text.find("  "); at != std::string_view::npos; at = text.find("  ", begin)) {
    out.append(text, begin, at - begin).append(content);
    begin = std::min(text.find_first_not_of(' ', at), text.size());
  }
  out.append(text, begin);
}

std::string_view stripped(std::string_view text, bool left, bool right) {
  while (left && !text.empty()) {
    std::string_view rest = text;
    if (!is_white_space(take_code_point(rest))) break;
    text = rest;
  }
  while (right && !text.empty()) {
    const size_t begin = last_character(text);
    std::string_view last = text.substr(begin);
    if (!is_white_space(take_code_point(last))) break;
    text = text.substr(0, begin);
  }
  return text;
}

// Each character of a text by itself, or all of them at once; bytes of no character stay.
template <typename Change>
void change_characters(std::string_view text, std::string& out, const Change& change) {
  std::vector<uint32_t> characters;
  while (!text.empty()) {
    const size_t length = utf8_character_length(text.substr(0, 4));
    if (length > 0) {
      characters.push_back(take_code_point(text));
      continue;
    }
    for (uint32_t c : change(std::exchange(characters, {}))) append_utf8(c, out);
    out += text.front();
    text.remove_prefix(1);
  }
  for (uint32_t c : change(std::move(characters))) append_utf8(c, out);
}

void lower_case(std::string_view text, std::string& out) {
  change_characters(text, out, [](const std::vector<uint32_t>& characters) {
    std::vector<uint32_t> lower;
    for (uint32_t c : characters) append_lower_case(c, lower);
    return lower;
  });
}

void decomposed(std::string_view text, std::string& out) {
  change_characters(text, out, [](std::vector<uint32_t> characters) {
    decompose(characters);
    return characters;
  });
}

// A pattern that goes on with white space, or with what stands for it, could lie across a cut.
bool reaches_over_space(std::string_view pattern) {
  const size_t length = utf8_character_length(pattern.substr(0, 4));
  return std::any_of(pattern.begin() + static_cast<ptrdiff_t>(length), pattern.end(), [](char c) { return c <= ' ' || c == '\x7F'; });
}

bool changes_letters(const TextNormalizer::Step& step) {
  return std::holds_alternative<TextNormalizer::Compose>(step) || std::holds_alternative<TextNormalizer::Decompose>(step) ||
         std::holds_alternative<TextNormalizer::LowerCase>(step);
}

class NormalizerReader {
 public:
  NormalizerReader(const std::string& path, const std::string& supported) : path_(path), supported_(supported) {}

  std::vector<TextNormalizer::Step> steps;

  void read(const json& part) {
    const json& type = json_value(part, "type");
    if (type == "Sequence") {
      for (const json& step : json_value(part, "normalizers")) read(step);
    } else if (type == "Prepend") {
      steps.emplace_back(TextNormalizer::Prepend{text(part, "prepend")});
    } else if (type == "Replace") {
      read_replace(part);
    } else if (type == "Strip") {
      steps.emplace_back(TextNormalizer::Strip{json_value(part, "strip_left") == true, json_value(part, "strip_right") == true});
    } else if (type == "NFC") {
      steps.emplace_back(TextNormalizer::Compose{});
    } else if (type == "NFD") {
      steps.emplace_back(TextNormalizer::Decompose{});
    } else if (type == "Lowercase") {
      steps.emplace_back(TextNormalizer::LowerCase{});
    } else if (type == "Precompiled") {
      read_map(part);
    } else {
      refuse(fmt::format("has a normalizer of type {}", type.dump()));
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const { fail_input("'{}' {}; {}", path_, what, supported_); }

  std::string text(const json& part, const char* key) const {
    const json& value = json_value(part, key);
    if (!value.is_string()) refuse(fmt::format("has a normalizer {} whose {} is {}", part["type"].dump(), key, value.dump()));
    return value.get<std::string>();
  }

  void read_replace(const json& part) {
    const json& pattern = json_value(part, "pattern");
    const json &literal = json_value(pattern, "String"), &regex = json_value(pattern, "Regex");
    if (literal.is_string() && literal != "") {
      steps.emplace_back(TextNormalizer::Replace{literal.get<std::string>(), text(part, "content")});
    } else if (regex == " {2,}") {
      steps.emplace_back(TextNormalizer::ReplaceSpaces{text(part, "content")});
    } else {
      refuse(fmt::format("has a normalizer \"Replace\" with the unknown pattern {}", pattern.dump()));
    }
  }

  void read_map(const json& part) {
    const std::string where = fmt::format("'{}': precompiled_charsmap", path_);
    const json& map = json_value(part, "precompiled_charsmap");
    if (map.is_null() || map == "") return;  // SentencePiece's rule "identity"
    const auto bytes = map.is_string() ? base64_bytes(map.get_ref<const std::string&>()) : std::nullopt;
    if (!bytes) fail_input("{} is not written in Base64", where);
    steps.emplace_back(std::make_shared<const CharacterMap>(where, *bytes));
  }

  const std::string& path_;
  const std::string& supported_;
};

}  // namespace

std::string_view TextNormalizer::apply(std::string_view text, bool continues, Scratch& scratch) const {
  if (text.empty()) return text;
  for (const Step& step : steps_) {
    std::string& out = scratch.next;
    out.clear();
    const auto changed = std::visit(  // false: `text` is the form already
        Overloaded{[&](const Prepend& prepend) {
                     if (continues || text.empty()) return false;
                     out.append(prepend.text).append(text);
                     return true;
                   },
                   [&](const Replace& replace) {
                     if (text.find(replace.pattern) == std::string_view::npos) return false;
                     out.reserve(text.size() + text.size() / 2);
                     replace_all(text, replace.pattern, replace.content, out);
                     return true;
                   },
                   [&](const ReplaceSpaces& replace) {
                     if (text.find("  ") == std::string_view::npos) return false;
                     replace_spaces(text, replace.content, out);
                     return true;
                   },
                   [&](const Strip& strip) {
                     text = stripped(text, strip.left && !continues, strip.right);
                     return false;
                   },
                   [&](const Compose&) {
                     text = nfc_form(text, out);
                     return text.data() == out.data();
                   },
                   [&](const Decompose&) {
                     decomposed(text, out);
                     return true;
                   },
                   [&](const LowerCase&) {
                     lower_case(text, out);
                     return true;
                   },
                   [&](const std::shared_ptr<const CharacterMap>& map) {
                     out.reserve(text.size());
                     map->apply(text, out);
                     return true;
                   }},
        step);
    if (!changed) continue;
    std::swap(scratch.text, scratch.next);
    text = scratch.text;
  }
  return text;
}

bool TextNormalizer::keeps_cut(std::string_view text, size_t p) const {
  const size_t begin = last_character(text.substr(0, p));
  const std::string_view before = text.substr(begin, p - begin);
  if (utf8_character_length(before) != before.size()) return false;
  std::string_view rest = before;
  const uint32_t character = take_code_point(rest);
  if (is_white_space(character)) return false;
  for (const Step& step : steps_) {
    if (const auto* replace = std::get_if<Replace>(&step)) {
      // The character before the cut may be the end of what is replaced, by white space say.
      if (reaches_over_space(replace->pattern) || replace->pattern.ends_with(before)) return false;
    } else if (const auto* map = std::get_if<std::shared_ptr<const CharacterMap>>(&step)) {
      // It stays what it is where the map has no such entry and it is not in a cluster with the character before it.
      if ((*map)->find(before) || joins_next(character)) return false;
      if (begin == 0) continue;
      const size_t second = last_character(text.substr(0, begin));
      const std::string_view pair = text.substr(second, p - second);
      if (utf8_character_length(pair.substr(0, 4)) != begin - second || grapheme_length(pair) != begin - second) return false;
    } else if (changes_letters(step) && (character >= 0x80 || (character >= 'A' && character <= 'Z'))) {
      return false;
    }
  }
  return true;
}

bool TextNormalizer::keeps_letters() const {
  return std::none_of(steps_.begin(), steps_.end(), [](const Step& step) {
    return changes_letters(step) || std::holds_alternative<std::shared_ptr<const CharacterMap>>(step);
  });
}

bool TextNormalizer::keeps_stray_bytes() const {
  return std::none_of(steps_.begin(), steps_.end(), [](const Step& step) {
    return std::holds_alternative<std::shared_ptr<const CharacterMap>>(step) || std::holds_alternative<Strip>(step);
  });
}

bool TextNormalizer::strips_left() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const Step& step) {
    const auto* strip = std::get_if<Strip>(&step);
    return strip && strip->left;
  });
}

std::string TextNormalizer::description() const {
  const auto counted = [](std::string_view text) { return fmt::format("{}:{}", text.size(), text); };
  std::string all;
  for (const Step& step : steps_) {
    all += std::visit(Overloaded{[&](const Prepend& s) { return "prepend " + counted(s.text); },
                                 [&](const Replace& s) { return "replace " + counted(s.pattern) + counted(s.content); },
                                 [&](const ReplaceSpaces& s) { return "spaces " + counted(s.content); },
                                 [&](const Strip& s) { return fmt::format("strip {} {}", s.left, s.right); },
                                 [&](const Compose&) { return std::string("nfc"); }, [&](const Decompose&) { return std::string("nfd"); },
                                 [&](const LowerCase&) { return std::string("lower"); },
                                 [&](const std::shared_ptr<const CharacterMap>& map) {
                                   const XXH128_hash_t hash = XXH3_128bits(map->bytes().data(), map->bytes().size());
                                   return fmt::format("map {:016x}{:016x}", hash.high64, hash.low64);
                                 }},
                      step);
    all += ';';
  }
  return all;
}

TextNormalizer parse_normalizer(const std::string& path, const json& normalizer, const std::string& supported) {
  NormalizerReader reader(path, supported);
  if (!normalizer.is_null()) reader.read(normalizer);
  return TextNormalizer(std::move(reader.steps));
}

}  // namespace zerostep
