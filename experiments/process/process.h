#pragma once
#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace zerostep {

struct ProcessRequest {
  std::vector<std::string> command;                // the first is the program, found along PATH where it has no /
  std::map<std::string, std::string> environment;  // added to this process's
  std::vector<int> cores;                          // that it may use; none: those of this process
  std::string output;                              // a file that gets what it says, both streams, at its end
  int signal_of_parents_death = 0;                 // what the system sends it when this process ends, however it ends
};

// A process that this one has started, with its own process group, so that signals of the terminal do not reach it. Ending the object does
// not end the process.
class Process {
 public:
  // RunError: it cannot be started. To be called on the thread that lives as long as the processes (the system tells a child of its
  // thread's end, not its process's).
  explicit Process(const ProcessRequest& request);
  // Exit status, or 128 + signal, once it has ended; does not wait.
  std::optional<int> ended();
  // To the process alone (mpirun hands it to its ranks), or to its whole group.
  void send(int signal) const;
  void send_to_group(int signal) const;
  pid_t id() const { return pid_; }

 private:
  pid_t pid_ = -1;
  std::optional<int> status_;
};

}  // namespace zerostep
