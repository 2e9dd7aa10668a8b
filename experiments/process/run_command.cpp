#include "experiments/process/run_command.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "experiments/process/spawn.h"

namespace zerostep {
namespace {

using Clock = std::chrono::steady_clock;

struct Pipe {
  FileDescriptor read, write;
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail_run("a pipe to another program cannot be made: {}", std::strerror(errno));
    read = FileDescriptor(ends[0]);
    write = FileDescriptor(ends[1]);
  }
};

// A started program. One that nobody has waited for is killed.
class Child {
 public:
  Child(const std::vector<std::string>& command, const CommandOptions& options, int out, int err) {
    const Spawned spawned = spawn({.command = command,
                                   .environment = options.environment,
                                   .cores = {},
                                   .out = out,
                                   .err = err,
                                   .has_own_group = options.has_own_group});
    process_ = spawned.id;
    if (process_ < 0) fail_run("{} cannot be started: {}", command.front(), std::strerror(spawned.error));
  }
  ~Child() {
    if (process_ < 0) return;
    ::kill(process_, SIGKILL);
    wait();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void signal(int number) const { ::kill(process_, number); }
  // Whether it has ended; it is still to be waited for.
  bool has_ended() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(process_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
  }
  // Its exit status, or 128 + signal.
  int wait() {
    int status = 0;
    while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
    }
    process_ = -1;
    return exit_status(status);
  }

 private:
  pid_t process_ = -1;
};

// Takes what is there. False at the end.
bool take(int file, const std::function<void(std::string_view)>& use) {
  std::array<char, 1 << 16> buffer;
  const ssize_t count = ::read(file, buffer.data(), buffer.size());
  if (count < 0) return errno == EINTR || errno == EAGAIN;
  if (count > 0) use({buffer.data(), static_cast<size_t>(count)});
  return count > 0;
}

}  // namespace

std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return std::string(text.substr(text.rfind('\n') == text.npos ? 0 : text.rfind('\n') + 1));
}

CommandResult run_command(const std::vector<std::string>& command, const CommandOptions& options) {
  constexpr std::chrono::seconds kGrace(2);
  Pipe out, err;
  Child child(command, options, out.write.get(), err.write.get());
  out.write = FileDescriptor();
  err.write = FileDescriptor();
  CommandResult result;
  const std::function<void(std::string_view)> keep = [&](std::string_view text) { result.out += text; },
                                              keep_error = [&](std::string_view text) { result.err += text; };
  std::array<pollfd, 2> files{{{out.read.get(), POLLIN, 0}, {err.read.get(), POLLIN, 0}}};
  Clock::time_point end =
      options.timeout_seconds > 0
          ? Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.timeout_seconds))
          : Clock::time_point::max();
  bool is_killed = false;
  // Until it has ended and has no more to say. What it has started may hold the pipes open longer, and nobody waits for that.
  while (files[0].fd >= 0 || files[1].fd >= 0 || !child.has_ended()) {
    if (Clock::now() >= end) {
      if (is_killed) break;
      is_killed = result.timed_out;
      child.signal(result.timed_out ? SIGKILL : SIGTERM);
      result.timed_out = true;
      end = Clock::now() + kGrace;
    }
    constexpr int kMilliseconds = 100;
    const int ready = ::poll(files.data(), files.size(), files[0].fd < 0 && files[1].fd < 0 ? 10 : kMilliseconds);
    if (ready == 0 && child.has_ended()) break;
    if (ready <= 0) continue;
    if (files[0].revents != 0 && !take(files[0].fd, options.on_output ? options.on_output : keep)) files[0].fd = -1;
    if (files[1].revents != 0 && !take(files[1].fd, keep_error)) files[1].fd = -1;
  }
  result.status = child.wait();
  return result;
}

}  // namespace zerostep
