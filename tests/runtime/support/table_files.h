#pragma once
#include <cstdlib>
#include <string>

namespace zerostep {

// A file that tests/runtime/tables/make_tables.py has made.
inline std::string table_file(const std::string& name) {
  const char* set = std::getenv("ZEROSTEP_SOURCE_DIR");
  return std::string(set != nullptr ? set : ".") + "/tests/runtime/tables/" + name;
}

// All kinds of tables that hold the rows of rows.jsonl.
inline const char* const kTableForms[] = {"none.parquet",     "snappy.parquet", "gzip.parquet",  "zstd.parquet",
                                          "lz4.parquet",      "brotli.parquet", "large.parquet", "dictionary.parquet",
                                          "stream.arrow",     "packed.arrow",   "file.arrow",    "large.arrow",
                                          "dictionary.arrow", "view.arrow",     "rows.jsonl.gz", "rows.jsonl.zst"};

}  // namespace zerostep
