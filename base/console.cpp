#include "base/console.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"

namespace zerostep {
namespace {

std::atomic<int> failed_with{0};  // errno of the first write to the standard output that failed

[[noreturn]] void fail_output() {
  const int reason = failed_with.load();
  if (reason == EPIPE) throw OutputClosed();
  fail_run("cannot write to the standard output: {}", std::strerror(reason));
}

}  // namespace

void open_missing_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    while (::fcntl(stream, F_GETFD) < 0 && errno == EBADF)
      if (::open("/dev/null", stream == STDIN_FILENO ? O_RDONLY : O_WRONLY) < 0) return;
}

void remember_failed_output(int reason) {
  int none = 0;
  failed_with.compare_exchange_strong(none, reason);
}

void print_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size()) return;
  remember_failed_output(errno);
  fail_output();
}

void flush_out() {
  if (std::fflush(stdout) != 0) remember_failed_output(errno);
  if (failed_with.load() != 0) fail_output();
}

void print_err(std::string_view text) noexcept {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace zerostep
