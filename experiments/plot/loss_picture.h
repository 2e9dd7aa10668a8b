#pragma once
#include <string>

namespace zerostep {

// The loss of a run as an SVG file; "" where it has no step with a loss.
std::string loss_picture(const std::string& run_folder);

}  // namespace zerostep
