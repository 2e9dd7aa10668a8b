#pragma once
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// How a program that another one has started has ended.
struct CommandResult {
  int status = -1;  // exit status, or 128 + signal
  std::string out, err;
  bool timed_out = false;
};
struct CommandOptions {
  double timeout_seconds = 0;                           // then it gets SIGTERM, and SIGKILL two seconds later; 0: as long as it takes
  std::map<std::string, std::string> environment = {};  // beside this process's
  bool has_own_group = false;                           // a signal of the terminal does not reach it
  // Takes what it writes to its standard output, in pieces, in place of CommandResult::out. What it throws ends the program.
  std::function<void(std::string_view)> on_output = {};
};

// Starts a program, which is found as a shell would find it, with these arguments, no standard input and no shell, and waits for its end.
// RunError where it cannot be started.
CommandResult run_command(const std::vector<std::string>& command, const CommandOptions& options = {});

// Of what a program has said: mostly why it ended.
std::string last_line(std::string_view text);

}  // namespace zerostep
