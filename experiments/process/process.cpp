#include "experiments/process/process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "experiments/process/spawn.h"

namespace zerostep {
Process::Process(const ProcessRequest& request) {
  const FileDescriptor output(::open(request.output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (!output.is_open()) fail_run("cannot write {}: {}", request.output, std::strerror(errno));
  const Spawned spawned = spawn({.command = request.command,
                                 .environment = request.environment,
                                 .cores = request.cores,
                                 .out = output.get(),
                                 .err = output.get(),
                                 .has_own_group = true,
                                 .signal_of_parents_death = request.signal_of_parents_death});
  pid_ = spawned.id;
  if (pid_ < 0) fail_run("cannot start {}: {}", request.command.front(), std::strerror(spawned.error));
}

std::optional<int> Process::ended() {
  if (status_) return status_;
  int status = 0;
  const pid_t done = ::waitpid(pid_, &status, WNOHANG);
  if (done < 0 && errno != EINTR) status_ = 1;  // somebody else has waited for it: how it ended is not known
  if (done == pid_) status_ = exit_status(status);
  return status_;
}

void Process::send(int signal) const {
  if (!status_) ::kill(pid_, signal);
}

void Process::send_to_group(int signal) const {
  if (!status_) ::kill(-pid_, signal);
}

}  // namespace zerostep
