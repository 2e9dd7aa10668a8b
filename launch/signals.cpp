#include "launch/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace zerostep {
namespace {

std::atomic<int> pending{0};
std::atomic<bool> deferred{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

extern "C" void on_signal(int signal) {
  const bool ends = signal != SIGUSR1;
  const int before = pending.load();
  if (ends && (!deferred.load() || (before != 0 && before != SIGUSR1))) _exit(128 + signal);
  if (ends || before == 0) pending.store(signal);
}

void ignore(int signal) {
  struct sigaction action {};
  action.sa_handler = SIG_IGN;
  sigaction(signal, &action, nullptr);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaction(signal, &action, nullptr);
  ignore(SIGXFSZ);  // a file size limit is an error of the write
}

void defer_signals() {
  deferred.store(true);
  ignore(SIGPIPE);  // a reader of the output that leaves does not end the run
}
int pending_signal() { return pending.load(); }
int status_of_signal(int signal) { return signal == 0 || signal == SIGUSR1 ? 0 : 128 + signal; }

const char* name_of_signal(int signal) {
  switch (signal) {
    case 0:
      return "another rank's signal";
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return "a signal";
  }
}

}  // namespace zerostep
