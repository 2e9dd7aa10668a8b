#include "experiments/process/spawn.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/core_set.h"
#include "base/file_descriptor.h"

namespace zerostep {
namespace {

// Between fork() and exec() only calls that are safe in a signal handler are made: this process has other threads.
[[noreturn]] void become(const SpawnRequest& request, pid_t parent, char* const* arguments, char* const* environment, const CoreSet& cores,
                         int failure) {
  if (request.has_own_group) ::setpgid(0, 0);
  if (request.signal_of_parents_death != 0) {
    ::prctl(PR_SET_PDEATHSIG, request.signal_of_parents_death);
    if (::getppid() != parent) ::_exit(127);  // it has ended meanwhile
  }
  if (!request.cores.empty()) cores.bind_thread();
  for (int signal : {SIGINT, SIGTERM, SIGUSR1, SIGPIPE, SIGHUP, SIGWINCH, SIGCHLD}) ::signal(signal, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(request.out, STDOUT_FILENO);
  ::dup2(request.err, STDERR_FILENO);
  ::execvpe(arguments[0], arguments, environment);
  const int reason = errno;
  [[maybe_unused]] const ssize_t written = ::write(failure, &reason, sizeof(reason));
  ::_exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

Spawned spawn(const SpawnRequest& request) {
  std::vector<std::string> command = request.command, environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (!request.environment.contains(std::string(text.substr(0, text.find('='))))) environment.emplace_back(text);
  }
  for (const auto& [name, value] : request.environment) environment.push_back(fmt::format("{}={}", name, value));
  const std::vector<char*> arguments = pointers(command), variables = pointers(environment);
  const CoreSet cores(request.cores);
  // Through it the child tells why it could not become the program; it closes where it could.
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {-1, errno};
  const FileDescriptor reads(ends[0]);
  FileDescriptor writes(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t id = ::fork();
  if (id < 0) return {-1, errno};
  if (id == 0) become(request, parent, arguments.data(), variables.data(), cores, writes.get());
  writes = FileDescriptor();
  int reason = 0;
  ssize_t count = 0;
  while ((count = ::read(reads.get(), &reason, sizeof(reason))) < 0 && errno == EINTR) {
  }
  if (count != sizeof(reason)) return {id, 0};
  ::waitpid(id, nullptr, 0);
  return {-1, reason};
}

int exit_status(int waited) { return WIFSIGNALED(waited) ? 128 + WTERMSIG(waited) : WEXITSTATUS(waited); }

}  // namespace zerostep
