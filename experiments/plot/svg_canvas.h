#pragma once
#include <memory>
#include <string>

#include "experiments/plot/canvas.h"

namespace zerostep {

// A canvas whose bytes are an SVG file: polylines with two decimals of a pixel, real text, a white ground. A panel is a group with the
// class `panel` that says in data-* attributes where its values lie, so that a page that holds the picture shows them under a pointer.
// `is_inline`: without width and height, to fill what holds it, and without the XML declaration.
std::unique_ptr<Canvas> make_svg_canvas(double width, double height, const std::string& title, bool is_inline);

// A text with the five characters that XML reserves as entities; control characters, which XML cannot hold, as U+FFFD.
std::string xml_text(std::string_view text);

}  // namespace zerostep
