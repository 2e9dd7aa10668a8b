#pragma once
#include <memory>
#include <string>

namespace zerostep {

// Another process of this host, watched for its end.
class PeerProcess {
 public:
  // What the process to be watched tells the others.
  static std::string introduce_myself();
  // A process that cannot be watched (another host, another PID namespace) always counts as alive.
  explicit PeerProcess(const std::string& introduction);
  ~PeerProcess();
  PeerProcess(PeerProcess&& other) noexcept : pidfd_(other.pidfd_) { other.pidfd_ = -1; }
  PeerProcess(const PeerProcess&) = delete;

  // False from the moment it has ended, a zombie included.
  bool is_alive() const;

 private:
  int pidfd_ = -1;
};

}  // namespace zerostep
