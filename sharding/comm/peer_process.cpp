#include "sharding/comm/peer_process.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "base/host_name.h"

namespace zerostep {
namespace {

// The start of this system, and the PID namespace in it; "unknown" where they cannot be read.
std::string pid_space() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string start;
  char space[64] = {};
  if (!(file >> start) || readlink("/proc/self/ns/pid", space, sizeof(space) - 1) < 0) return "unknown";
  return start + space;
}

}  // namespace

std::string PeerProcess::introduce_myself() { return fmt::format("{} {} {}", getpid(), host_name(), pid_space()); }

PeerProcess::PeerProcess(const std::string& introduction) {
  std::istringstream in(introduction);
  int pid = 0;
  std::string space;
  in >> pid >> host_ >> space;
  if (pid <= 0 || host_ != host_name() || space != pid_space() || space == "unknown") return;
  pidfd_ = FileDescriptor(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  has_ended_ = !pidfd_.is_open() && errno == ESRCH;
}

bool PeerProcess::is_alive() const {
  if (!pidfd_.is_open()) return !has_ended_;
  pollfd watched{pidfd_.get(), POLLIN, 0};
  return poll(&watched, 1, 0) <= 0;
}

}  // namespace zerostep
