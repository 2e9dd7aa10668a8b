#pragma once
#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace zerostep {

struct SpawnRequest {
  std::vector<std::string> command;                // the first is the program, found along PATH where it has no /
  std::map<std::string, std::string> environment;  // in place of this process's values, or added to them
  std::vector<int> cores;                          // that it may use; none: those of this process
  int out = -1, err = -1;                          // file descriptors that it writes to; its standard input is empty
  bool has_own_group = false;                      // a signal of the terminal does not reach it
  int signal_of_parents_death = 0;                 // what the system sends it when the thread that starts it ends; 0: nothing
};

struct Spawned {
  pid_t id = -1;  // -1: it could not be started
  int error = 0;  // errno then
};
// Starts a program, no shell in between. Signals are to it what they are to a new process; files of this process that are not closed on
// exec are open in it. The caller waits for it.
Spawned spawn(const SpawnRequest& request);
// Of what waitpid() says of a program that has ended: its exit status, or 128 + signal.
int exit_status(int waited);

}  // namespace zerostep
