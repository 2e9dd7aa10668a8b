#include <dlfcn.h>

#include "base/beside_program.h"
#include "base/error.h"
#include "runtime/data/arrow_library.h"

namespace zerostep {

namespace {

template <typename Function>
Function* function_of_library(const char* name, const std::string& key, const std::string& path) {
  // Never closed: what it makes outlives the call.
  void* const library = dlopen(library_beside_program(kArrowLibrary).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail_input(
        "{}: '{}' needs {}, which a build that finds Arrow puts beside the program: run launch/setup.sh, which brings Arrow from PyPI into "
        ".deps/pyarrow, and launch/build.sh, or convert the file to .jsonl, which needs neither ({})",
        key, path, kArrowLibrary, dlerror());
  void* const function = dlsym(library, name);
  if (function == nullptr) fail_input("{}: {} is of another version than the program: {}", key, kArrowLibrary, dlerror());
  return reinterpret_cast<Function*>(function);
}

}  // namespace

std::unique_ptr<RowReader> open_columns(const ColumnFile& file) {
  std::unique_ptr<RowReader> reader;
  function_of_library<OpenColumns>(kOpenColumns, file.key, file.path)(file, reader);
  return reader;
}

std::unique_ptr<TableWriter> write_parquet(const std::string& path, const std::vector<std::string>& columns, const std::string& key) {
  std::unique_ptr<TableWriter> writer;
  function_of_library<WriteParquet>(kWriteParquet, key, path)(path, columns, writer);
  return writer;
}

}  // namespace zerostep
