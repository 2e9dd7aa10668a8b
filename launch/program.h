#pragma once

namespace zerostep {

// What main() does, once in a process: runs the command that the arguments name, and gives the exit status.
int run_program(int argc, char** argv);

}  // namespace zerostep
