#pragma once
#include <memory>
#include <string>

#include "experiments/plot/canvas.h"

namespace zerostep {

// A canvas whose bytes are a PNG or a PDF file, drawn by cairo: `format` is "png" or "pdf". The library that does it is opened when it is
// first asked for. RunError that names what is missing.
std::unique_ptr<Canvas> make_cairo_canvas(const std::string& format, double width, double height, const std::string& title);

// What libzerostep_cairo.so is opened for.
using OpenCairoCanvas = void(const char* format, double width, double height, const char* title, std::unique_ptr<Canvas>& canvas);
constexpr const char* kCairoLibrary = "libzerostep_cairo.so";
// Its name ends with the version of Canvas and what it takes: a library of another version has no function of this name.
constexpr const char* kOpenCairoCanvas = "zerostep_open_cairo_canvas_1";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::OpenCairoCanvas zerostep_open_cairo_canvas_1;
