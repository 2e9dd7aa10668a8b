#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// Writes a .parquet file of columns of texts, in row groups of about 32 MiB compressed by zstd.
class TableWriter {
 public:
  virtual ~TableWriter() = default;
  // One text for each column.
  virtual void append(const std::vector<std::string_view>& row) = 0;
  // RunError where it, or an earlier call, cannot write. Nothing is promised of a file that was not closed.
  virtual void close() = 0;
};
// By Arrow's library, which is loaded when it is first asked for: InputError naming what is missing. `key` comes first in messages.
// RunError where the file cannot be made.
std::unique_ptr<TableWriter> write_parquet(const std::string& path, const std::vector<std::string>& columns, const std::string& key);

}  // namespace zerostep
