#pragma once
#include "launch/job.h"

namespace zerostep {

// Parses the arguments and runs the command that they name; gives its exit status.
int run_command_line(Job& job, int argc, char** argv);

}  // namespace zerostep
