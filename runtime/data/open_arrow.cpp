#include "base/beside_program.h"
#include "runtime/data/arrow_library.h"

namespace zerostep {
namespace {

template <typename Function>
Function* arrow_function(const char* name, const std::string& key, const std::string& path) {
  const std::string needs = fmt::format(
      "{}: '{}' needs {}, which a build that finds Arrow puts beside the program: run launch/setup.sh, which brings Arrow from PyPI into "
      ".deps/pyarrow, and launch/build.sh, or convert the file to .jsonl, which needs neither",
      key, path, kArrowLibrary);
  return function_beside_program<Function, InputError>(kArrowLibrary, name, needs);
}

}  // namespace

std::unique_ptr<RowReader> open_columns(const ColumnFile& file) {
  std::unique_ptr<RowReader> reader;
  arrow_function<OpenColumns>(kOpenColumns, file.key, file.path)(file, reader);
  return reader;
}

std::unique_ptr<TableWriter> write_parquet(const std::string& path, const std::vector<std::string>& columns, const std::string& key) {
  std::unique_ptr<TableWriter> writer;
  arrow_function<WriteParquet>(kWriteParquet, key, path)(path, columns, writer);
  return writer;
}

}  // namespace zerostep
