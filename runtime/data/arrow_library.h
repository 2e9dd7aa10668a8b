#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/data/row_reader.h"

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
constexpr const char* kArrowLibrary = "libzerostep_arrow.so";
// Its name ends with the version of RowReader, RowBatch and ColumnFile: a library of another version has no function of this name.
constexpr const char* kOpenColumns = "zerostep_open_columns_1";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::OpenColumns zerostep_open_columns_1;
