#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

namespace zerostep {

// Some editors of Windows put it before a text.
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Calls f(line without its end, number from 1) for each line of a text.
template <typename F>
void for_each_line(std::string_view text, const F& f) {
  int64_t number = 0;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    f(text.substr(begin, end - begin), ++number);
  }
}

// Checks of the text of a file; `where` comes first in messages ("data.train: ") and may be empty.

// Position of the first byte that belongs to no well-formed UTF-8 character; npos where there is none.
size_t first_ill_formed_byte(std::string_view text);

// "FILE:LINE: byte 4 of the line, 0xE9, ...": what is wrong with the byte of a text at a position, and what to do.
// What lies before the text, whole lines and then bytes of the line in which it begins, is counted with it.
std::string not_utf8(const std::string& path, std::string_view text, size_t position, int64_t lines_before = 0, int64_t bytes_before = 0);

// InputError naming file and line where a text is not UTF-8 or holds a 0 byte, as texts of UTF-16 do.
void require_utf8(const std::string& where, const std::string& path, std::string_view text);

// InputError where lines end with CR alone: the whole file would be one line.
void require_lines(const std::string& where, const std::string& path, std::string_view text);

}  // namespace zerostep
