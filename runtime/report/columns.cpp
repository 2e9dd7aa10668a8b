#include "runtime/report/columns.h"

#include <algorithm>

namespace zerostep {
namespace {

bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

}  // namespace

std::string_view first_columns(std::string_view text, int columns) {
  size_t at = 0;
  for (int taken = 0; at < text.size(); ++at)
    if (begins_character(text[at]) && taken++ == columns) break;
  return text.substr(0, at);
}

int columns_of_text(std::string_view text) { return static_cast<int>(std::count_if(text.begin(), text.end(), begins_character)); }

std::string cut_to_columns(std::string_view text, int columns) {
  if (columns_of_text(text) <= columns) return std::string(text);
  return std::string(first_columns(text, std::max(0, columns - 1))) + "~";
}

}  // namespace zerostep
