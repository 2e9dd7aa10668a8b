#pragma once
#include <string>

#include "runtime/timing/measure_machine.h"

namespace zerostep {

// A table of what was measured, with how far the repetitions lie apart.
std::string text_of(const MeasuredMachine& measured);

}  // namespace zerostep
