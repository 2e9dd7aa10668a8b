#include <dlfcn.h>

#include "base/beside_program.h"
#include "base/error.h"
#include "experiments/plot/cairo_library.h"

namespace zerostep {

std::unique_ptr<Canvas> make_cairo_canvas(const std::string& format, double width, double height, const std::string& title) {
  // Never closed: what it makes outlives the call.
  void* const library = dlopen(library_beside_program(kCairoLibrary).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail_run(
        "--format {} needs {}, which a build that finds cairo puts beside the program, and the library cairo (Debian's packages libcairo2, "
        "and libcairo2-dev to build), which --format svg does not: {}",
        format, kCairoLibrary, dlerror());
  void* const function = dlsym(library, kOpenCairoCanvas);
  if (function == nullptr) fail_run("{} is of another version than the program: {}", kCairoLibrary, dlerror());
  std::unique_ptr<Canvas> canvas;
  reinterpret_cast<OpenCairoCanvas*>(function)(format.c_str(), width, height, title.c_str(), canvas);
  return canvas;
}

}  // namespace zerostep
