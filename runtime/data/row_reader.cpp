#include "runtime/data/row_reader.h"

#include "runtime/data/arrow_library.h"
#include "runtime/data/compressed_file.h"
#include "runtime/data/json_rows.h"

namespace zerostep {

std::unique_ptr<RowReader> open_rows(const std::string& path, const std::vector<std::string>& fields, const std::string& key) {
  constexpr int64_t kBatchBytes = 1 << 20;
  if (uncompressed_name(path).ends_with(".jsonl")) return open_json_lines(path, fields, key);
  return open_columns({path, path.ends_with(".parquet"), fields, key, kBatchBytes});
}

}  // namespace zerostep
