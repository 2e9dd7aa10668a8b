#include "models/tokenizer/character_map.h"

#include <bit>
#include <cstring>

#include "base/error.h"
#include "models/text_file.h"
#include "models/tokenizer/graphemes.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {
namespace {

// Longer grapheme clusters are only looked up character by character.
constexpr size_t kMaxClusterBytes = 5;

// The parts of a unit of a Darts-clone double array.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
size_t offset_of(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & 1U << 9) >> 6); }
uint32_t label_of(uint32_t unit) { return unit & (1U << 31 | 0xFF); }
size_t value_of(uint32_t unit) { return unit & ~(1U << 31); }

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

}  // namespace

CharacterMap::CharacterMap(const std::string& where, std::string_view bytes) : bytes_(bytes) {
  uint32_t size = 0;
  if (bytes_.size() >= sizeof size) std::memcpy(&size, bytes_.data(), sizeof size);
  static_assert(std::endian::native == std::endian::little);
  if (size == 0 || size % sizeof(uint32_t) != 0 || size > bytes_.size() - sizeof size)
    fail_input("{} is no map of characters: it has {} bytes and says that the first {} are its array", where, bytes_.size(), size);
  units_.resize(size / sizeof(uint32_t));
  std::memcpy(units_.data(), bytes_.data() + sizeof size, size);
  texts_ = std::string_view(bytes_).substr(sizeof size + size);
  if (first_ill_formed_byte(texts_) != std::string_view::npos) fail_input("{} is no map of characters: its texts are not UTF-8", where);
  for (size_t c = 0; c < keeps_ascii_.size(); ++c) {
    const char character = static_cast<char>(c);
    keeps_ascii_[c] = !find({&character, 1});
  }
}

std::optional<std::string_view> CharacterMap::find(std::string_view text) const {
  size_t node = offset_of(unit(0));
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) break;
    node ^= byte;
    const uint32_t here = unit(node);
    if (label_of(here) != byte) break;
    node ^= offset_of(here);
    if (!has_leaf(here)) continue;
    const size_t begin = value_of(unit(node));
    if (begin >= texts_.size()) return std::string_view();
    return texts_.substr(begin, texts_.find('\0', begin) - begin);
  }
  return std::nullopt;
}

void CharacterMap::apply(std::string_view text, std::string& out) const {
  for (size_t at = 0; at < text.size();) {
    // An ASCII character before another is a cluster of its own, but for a carriage return before a line feed.
    size_t plain = at;
    while (plain < text.size() && is_ascii(text[plain]) && keeps_ascii_[static_cast<unsigned char>(text[plain])] &&
           (plain + 1 == text.size() || (is_ascii(text[plain + 1]) && text[plain] != '\r')))
      ++plain;
    out.append(text, at, plain - at);
    at = plain;
    if (at == text.size()) return;
    const std::string_view cluster = text.substr(at, grapheme_length(text.substr(at)));
    at += cluster.size();
    if (cluster.size() <= kMaxClusterBytes) {
      if (const auto becomes = find(cluster)) {
        out += *becomes;
        continue;
      }
    }
    for (size_t begin = 0, length = 0; begin < cluster.size(); begin += length) {
      length = utf8_character_length(cluster.substr(begin, 4));
      const std::string_view character = cluster.substr(begin, length);
      out += find(character).value_or(character);
    }
  }
}

std::optional<std::string> base64_bytes(std::string_view text) {
  const auto digit_of = [](char c) -> int {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
  };
  if (text.size() % 4 != 0) return std::nullopt;
  for (int i = 0; i < 2 && text.ends_with('='); ++i) text.remove_suffix(1);
  std::string out;
  uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : text) {
    const int digit = digit_of(c);
    if (digit < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    num_bits += 6;
    if (num_bits < 8) continue;
    num_bits -= 8;
    out += static_cast<char>(static_cast<unsigned char>(bits >> num_bits & 0xFF));
  }
  return out;
}

}  // namespace zerostep
