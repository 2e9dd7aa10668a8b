#include "sharding/comm/peer_process.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <sstream>

namespace zerostep {
namespace {

std::string host_and_pid_namespace() {
  char host[HOST_NAME_MAX + 1] = {}, space[64] = {};
  gethostname(host, sizeof(host) - 1);
  if (readlink("/proc/self/ns/pid", space, sizeof(space) - 1) < 0) return "unknown";
  return fmt::format("{}/{}", host, space);
}

}  // namespace

std::string PeerProcess::introduce_myself() { return fmt::format("{} {}", getpid(), host_and_pid_namespace()); }

PeerProcess::PeerProcess(const std::string& introduction) {
  std::istringstream in(introduction);
  int pid = 0;
  std::string where;
  in >> pid >> where;
  const std::string here = host_and_pid_namespace();
  if (pid > 0 && where == here && here != "unknown") pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
}

PeerProcess::~PeerProcess() {
  if (pidfd_ >= 0) close(pidfd_);
}

bool PeerProcess::is_alive() const {
  if (pidfd_ < 0) return true;
  pollfd watched{pidfd_, POLLIN, 0};
  return poll(&watched, 1, 0) <= 0;
}

}  // namespace zerostep
