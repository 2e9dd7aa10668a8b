#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/data/row_reader.h"
#include "runtime/data/table_writer.h"

namespace zerostep {

// A file of columns, and the fields that are wanted of its rows.
struct ColumnFile {
  std::string path;
  bool is_parquet = false;  // false: Arrow's IPC format, file or stream
  std::vector<std::string> fields;
  std::string key;          // comes first in messages
  int64_t batch_bytes = 0;  // of text, about, in a batch
};

// Opened by Arrow's library, which is loaded when it is first asked for. InputError naming what is missing.
std::unique_ptr<RowReader> open_columns(const ColumnFile& file);

// What libzerostep_arrow.so is opened for.
using OpenColumns = void(const ColumnFile& file, std::unique_ptr<RowReader>& reader);
using WriteParquet = void(const std::string& path, const std::vector<std::string>& columns, std::unique_ptr<TableWriter>& writer);
constexpr const char* kArrowLibrary = "libzerostep_arrow.so";
// Their names end with the version of what they give and take: a library of another version has no functions of these names.
constexpr const char* kOpenColumns = "zerostep_open_columns_3";
constexpr const char* kWriteParquet = "zerostep_write_parquet_1";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::OpenColumns zerostep_open_columns_3;
extern "C" __attribute__((visibility("default"))) zerostep::WriteParquet zerostep_write_parquet_1;
