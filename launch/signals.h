#pragma once
#include <functional>
#include <thread>

namespace zerostep {

// SIGINT and SIGTERM end the process at once (exit status 128 + signal) until a run asks to be told instead; SIGUSR1 is always kept for the
// run. A pipe without a reader is an error of the write (SIGPIPE is ignored).
void install_signal_handlers();
// From now on a first signal only asks to stop after the step; a second SIGINT or SIGTERM ends the process, at once unless a ForcedEnd
// lives.
void defer_signals();
// What to exit with where the standard output is a pipe without a reader. Ends the process by SIGPIPE instead, as it would have without
// install_signal_handlers(), unless a run has begun, whose `status` that does not change.
int status_without_reader(int status);
// The signal that asks this rank to stop, 0: none.
int pending_signal();
// What a run that stopped for it exits with: 0 for SIGUSR1, else 128 + signal.
int status_of_signal(int signal);

// As long as one lives, a second SIGINT or SIGTERM first calls `last_call` with the signal, on a thread of its own, and ends the process
// (exit status 128 + signal) when that returns; a third ends it at once. One at a time.
class ForcedEnd {
 public:
  explicit ForcedEnd(std::function<void(int signal)> last_call);
  ~ForcedEnd();
  ForcedEnd(const ForcedEnd&) = delete;
  ForcedEnd& operator=(const ForcedEnd&) = delete;

 private:
  std::function<void(int signal)> last_call_;
  std::thread thread_;
};

}  // namespace zerostep
