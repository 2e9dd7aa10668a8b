#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/nth.h"

namespace zerostep {

// The rows of a table of unicode_tables.h, structs of 32-bit numbers.
template <typename Row>
std::vector<Row> unpacked(std::string_view table) {
  std::array<uint32_t, sizeof(Row) / sizeof(uint32_t)> row{};
  std::vector<Row> rows;
  size_t field = 0;
  uint32_t number = 0;
  int shift = 0;
  for (const char c : table) {
    if (c == '\n') continue;
    const uint32_t digit = static_cast<unsigned char>(c) - 63;
    number |= (digit & 0x1F) << shift;
    shift += 5;
    if (digit >= 0x20) continue;  // more of this number follows
    nth(row, field++) += (number & 1) != 0 ? ~(number >> 1) : number >> 1;
    number = 0;
    shift = 0;
    if (field < row.size()) continue;
    rows.push_back(std::bit_cast<Row>(row));
    field = 0;
  }
  return rows;
}

struct CodePointRange {
  uint32_t first, last;
};

// The row that holds a code point, of rows with members `first` and `last` in ascending order; null where none does.
template <typename Range>
const Range* find_range(const std::vector<Range>& ranges, uint32_t code_point) {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), code_point, [](uint32_t c, const Range& r) { return c < r.first; });
  if (after == ranges.begin() || code_point > (after - 1)->last) return nullptr;
  return &*(after - 1);
}

}  // namespace zerostep
