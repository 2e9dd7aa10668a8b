#pragma once
#include <chrono>

namespace zerostep {

// Seconds of a clock that does not go back. Only their differences mean anything.
inline double steady_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace zerostep
