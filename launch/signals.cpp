#include "launch/signals.h"

#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/console.h"
#include "base/unfinished_file.h"

namespace zerostep {
namespace {

std::atomic<int> pending{0};
std::atomic<bool> deferred{false};
// Of the ForcedEnd that lives, if any: the signal that forces the end, and what wakes its thread.
std::atomic<bool> waits{false};
std::atomic<int> forced{0};
sem_t wake;
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

extern "C" void on_signal(int signal) {
  const bool ends = signal != SIGUSR1;
  const int before = pending.load();
  if (ends && (!deferred.load() || (before != 0 && before != SIGUSR1))) {
    if (!waits.load() || forced.exchange(signal) != 0) {
      clear_status_at_end();
      remove_unfinished_files();
      _exit(128 + signal);
    }
    sem_post(&wake);
    return;
  }
  if (ends || before == 0) pending.store(signal);
}

// Gives what was there before.
struct sigaction ignore(int signal) {
  struct sigaction action {
  }, before{};
  action.sa_handler = SIG_IGN;
  sigaction(signal, &action, &before);
  return before;
}

bool pipes_end_the_process = false;  // as this process was started

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaction(signal, &action, nullptr);
  ignore(SIGXFSZ);  // a file size limit is an error of the write
  pipes_end_the_process = ignore(SIGPIPE).sa_handler == SIG_DFL;
}

void defer_signals() { deferred.store(true); }

int status_without_reader(int status) {
  if (deferred.load()) return status;
  if (!pipes_end_the_process) return 1;
  std::signal(SIGPIPE, SIG_DFL);
  std::raise(SIGPIPE);
  return 1;
}

int pending_signal() { return pending.load(); }
int status_of_signal(int signal) { return signal == 0 || signal == SIGUSR1 ? 0 : 128 + signal; }

ForcedEnd::ForcedEnd(std::function<void(int signal)> last_call) : last_call_(std::move(last_call)) {
  sem_init(&wake, 0, 0);
  forced.store(0);
  thread_ = std::thread([this] {
    while (sem_wait(&wake) != 0 && errno == EINTR) {
    }
    const int signal = forced.load();
    if (signal == 0) return;
    last_call_(signal);
    remove_unfinished_files();
    _exit(128 + signal);
  });
  waits.store(true);
}

ForcedEnd::~ForcedEnd() {
  waits.store(false);
  sem_post(&wake);
  thread_.join();
  sem_destroy(&wake);
}

}  // namespace zerostep
