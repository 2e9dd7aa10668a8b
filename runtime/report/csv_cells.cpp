#include "runtime/report/csv_cells.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace zerostep {

std::vector<std::string> csv_cells(std::string_view line) {
  std::vector<std::string> cells(1);
  bool is_quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '"' && is_quoted && i + 1 < line.size() && line[i + 1] == '"')
      cells.back() += line[++i];
    else if (c == '"')
      is_quoted = !is_quoted;
    else if (c == ',' && !is_quoted)
      cells.emplace_back();
    else
      cells.back() += c;
  }
  return cells;
}

double csv_number(const char* begin, const char* end) {
  double value = std::numeric_limits<double>::quiet_NaN();
  while (begin < end && *begin == ' ') ++begin;
  const auto [rest, error] = std::from_chars(begin, end, value);
  return error == std::errc() && std::all_of(rest, end, [](char c) { return c == ' '; }) ? value : std::numeric_limits<double>::quiet_NaN();
}

std::string csv_cell(std::string_view text) {
  if (text.find_first_of(",\"\n\r") == std::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace zerostep
