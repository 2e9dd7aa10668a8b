#include "models/tokenizer/utf8.h"

#include <cstring>

namespace zerostep {
namespace {

constexpr uint64_t kHighBits = 0x8080808080808080ULL;

}  // namespace

size_t skip_ascii(std::string_view text, size_t at) {
  while (at + 8 <= text.size()) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    if (word & kHighBits) break;
    at += 8;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at;
}

size_t utf8_character_length(std::string_view text) {
  const auto byte = [&](size_t i) -> unsigned { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  if (text.empty()) return 0;
  const unsigned lead = byte(0), second = byte(1);
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;
  if (lead < 0xE0) return continues(1) ? 2 : 0;
  if (lead < 0xF0) {
    if (!continues(1) || !continues(2)) return 0;
    if (lead == 0xE0 && second < 0xA0) return 0;
    if (lead == 0xED && second >= 0xA0) return 0;
    return 3;
  }
  if (lead > 0xF4 || !continues(1) || !continues(2) || !continues(3)) return 0;
  if (lead == 0xF0 && second < 0x90) return 0;
  if (lead == 0xF4 && second >= 0x90) return 0;
  return 4;
}

std::string_view with_well_formed_utf8(std::string_view text, std::string& buffer) {
  bool copied = false;
  for (size_t at = skip_ascii(text, 0); at < text.size();) {
    const size_t length = utf8_character_length(text.substr(at, 4));
    if (length == 0) {
      if (!copied) buffer.assign(text);
      copied = true;
      buffer[at] = '\x01';
    }
    at = skip_ascii(text, at + (length == 0 ? 1 : length));
  }
  return copied ? std::string_view(buffer) : text;
}

size_t last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && text.size() - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

void append_utf8(uint32_t code_point, std::string& out) {
  const auto put = [&](uint32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code_point < 0x80) return put(code_point);
  const int more = code_point < 0x800 ? 1 : code_point < 0x10000 ? 2 : 3;
  put((0xF0U << (3 - more) & 0xFF) | code_point >> 6 * more);
  for (int i = more - 1; i >= 0; --i) put(0x80 | (code_point >> 6 * i & 0x3F));
}

uint32_t take_code_point(std::string_view& text) {
  const size_t length = utf8_character_length(text.substr(0, 4));
  const auto byte = [&](size_t i) -> uint32_t { return static_cast<unsigned char>(text[i]); };
  uint32_t code_point = byte(0);
  if (length > 1) code_point &= 0x7FU >> length;
  for (size_t i = 1; i < length; ++i) code_point = code_point << 6 | (byte(i) & 0x3F);
  text.remove_prefix(length == 0 ? 1 : length);
  return code_point;
}

}  // namespace zerostep
