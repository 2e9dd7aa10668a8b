#include <dlfcn.h>

#include "base/beside_program.h"
#include "base/error.h"
#include "runtime/data/arrow_library.h"

namespace zerostep {

std::unique_ptr<RowReader> open_columns(const ColumnFile& file) {
  // Never closed: what it makes outlives the call.
  void* const library = dlopen(library_beside_program(kArrowLibrary).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail_input(
        "{}: '{}' needs {}, which a build that finds Arrow puts beside the program: run launch/setup.sh, which brings Arrow from PyPI into "
        ".deps/pyarrow, and launch/build.sh, or convert the file to .jsonl, which needs neither ({})",
        file.key, file.path, kArrowLibrary, dlerror());
  void* const function = dlsym(library, kOpenColumns);
  if (function == nullptr) fail_input("{}: {} is of another version than the program: {}", file.key, kArrowLibrary, dlerror());
  std::unique_ptr<RowReader> reader;
  reinterpret_cast<OpenColumns*>(function)(file, reader);
  return reader;
}

}  // namespace zerostep
