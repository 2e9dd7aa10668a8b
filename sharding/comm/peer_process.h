#pragma once
#include <string>

#include "base/file_descriptor.h"

namespace zerostep {

// Another process of the job, watched for its end where it runs on this host.
class PeerProcess {
 public:
  // What the process to be watched tells the others: its id, the name of its host, and what tells this host and PID namespace from all
  // others (hosts may share a name, and the first PID namespace has the same number on all of them).
  static std::string introduce_myself();
  // A process that cannot be watched (another host, another PID namespace) always counts as alive.
  explicit PeerProcess(const std::string& introduction);

  // False from the moment it has ended, a zombie included.
  bool is_alive() const;
  const std::string& host() const { return host_; }

 private:
  FileDescriptor pidfd_;
  bool has_ended_ = false;  // before it could be watched
  std::string host_;
};

}  // namespace zerostep
