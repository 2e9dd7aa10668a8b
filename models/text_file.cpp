#include "models/text_file.h"

#include "base/error.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {

size_t first_ill_formed_byte(std::string_view text) {
  for (size_t at = skip_ascii(text, 0); at < text.size();) {
    const size_t length = utf8_character_length(text.substr(at, 4));
    if (length == 0) return at;
    at = skip_ascii(text, at + length);
  }
  return std::string_view::npos;
}

std::string not_utf8(const std::string& path, std::string_view text, size_t position, int64_t lines_before, int64_t bytes_before) {
  if (lines_before + bytes_before == 0 && (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")))
    return fmt::format("{}: is UTF-16, and UTF-8 is expected: convert it (`iconv -f utf-16 -t utf-8`)", path);
  const std::string_view before = text.substr(0, position);
  const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  const auto byte = static_cast<unsigned char>(text[position]);
  const int64_t line = lines_before + std::count(before.begin(), before.end(), '\n') + 1;
  const int64_t place = static_cast<int64_t>(position - line_begin) + (line_begin == 0 ? bytes_before : 0) + 1;
  return fmt::format("{}:{}: byte {} of the line, 0x{:02X}, is {}: convert the file to UTF-8 ({})", path, line, place, byte,
                     byte == 0 ? "no text" : "not UTF-8", byte == 0 ? "is it UTF-16?" : "from Latin-1: `iconv -f latin1 -t utf-8`");
}

void require_utf8(const std::string& where, const std::string& path, std::string_view text) {
  const size_t position = std::min(first_ill_formed_byte(text), text.find('\0'));
  if (position != std::string_view::npos) fail_input("{}{}", where, not_utf8(path, text, position));
}

void require_lines(const std::string& where, const std::string& path, std::string_view text) {
  const size_t first = text.find('\r');
  if (first == std::string_view::npos || first + 1 == text.size() || text.find('\n') != std::string_view::npos) return;
  fail_input("{}{}: its lines end with CR alone, and LF or CR LF is expected: convert it (`tr '\\r' '\\n'`)", where, path);
}

}  // namespace zerostep
