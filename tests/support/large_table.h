#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "runtime/data/table_writer.h"

namespace zerostep::testing {

inline int64_t rows_of_large_table(int64_t groups, int64_t row_bytes) { return groups * (int64_t{32} << 20) / row_bytes; }

// Writes a .parquet file of one column, "text": row groups of 32 MiB each, of texts that are each another. The file is small beside them.
inline void write_large_table(const std::string& path, int64_t groups, int64_t row_bytes) {
  const auto writer = write_parquet(path, {"text"}, "test");
  std::string text(static_cast<size_t>(row_bytes), ' ');
  for (size_t i = 0; i < text.size(); ++i) text[i] = "some words "[i % 11];
  for (int64_t row = 0; row < rows_of_large_table(groups, row_bytes); ++row) {
    fmt::format_to(text.begin(), "{:08}", row);
    writer->append({text});
  }
  writer->close();
}

}  // namespace zerostep::testing
