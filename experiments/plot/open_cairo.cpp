#include "base/beside_program.h"
#include "experiments/plot/cairo_library.h"

namespace zerostep {

std::unique_ptr<Canvas> make_cairo_canvas(const std::string& format, double width, double height, const std::string& title) {
  const std::string needs = fmt::format(
      "--format {} needs {}, which a build that finds cairo puts beside the program, and the library cairo (Debian's packages libcairo2, "
      "and "
      "libcairo2-dev to build), which --format svg does not",
      format, kCairoLibrary);
  std::unique_ptr<Canvas> canvas;
  function_beside_program<OpenCairoCanvas>(kCairoLibrary, kOpenCairoCanvas, needs)(format.c_str(), width, height, title.c_str(), canvas);
  return canvas;
}

}  // namespace zerostep
