#pragma once
#include <string_view>

namespace zerostep {

// The style sheet and the script of a report.
std::string_view report_style();
std::string_view report_script();

}  // namespace zerostep
