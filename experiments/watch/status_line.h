#pragma once
#include <limits>
#include <string>

#include "experiments/watch/run_status.h"

namespace zerostep {

// The line of a run: name in so many columns, state, for how long there was no row, step, last loss with the curve of all, last evaluation,
// speed, time left, memory against the plan, load, and why it has ended. Where that is more than `most` columns of a terminal, load,
// memory, curve, speed, evaluation and time left are left out, in this order, until it fits, and then the blanks that only bring lines
// below each other; what is too long even then is cut, and ends in "~".
std::string status_line(const RunStatus& status, int name_columns, int most = std::numeric_limits<int>::max());

}  // namespace zerostep
