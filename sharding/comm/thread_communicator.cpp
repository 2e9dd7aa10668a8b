#include "sharding/thread_communicator.h"

#include <atomic>

#include "sharding/comm/gpu_communicator.h"
#include "sharding/comm/start_transport.h"
#include "sharding/cuda/thread_transport.h"

namespace zerostep {

Communicator make_thread_communicator(const Communicator& host, const Device& device, double timeout_seconds) {
  if (host.size() < 2 || !host.shares_process())
    fail_protocol("[threads] a group of {} ranks, not of several threads of a process", host.size());
  static std::atomic<int64_t> groups = 0;
  Communicator group = host;
  const std::vector<std::string> names = group.all_gather_text(group.rank() == 0 ? std::to_string(++groups) : "", "group of threads");
  const auto call = std::make_shared<Fingerprint>(CollectiveKind::Barrier, Fingerprint::kBytes, 0, ReduceOp::Sum, "group of threads");
  auto transport = start_transport(group, device, kStartThreads, names.front(), timeout_seconds, call);
  const auto make = [=](const Communicator& part) { return make_thread_communicator(part, device, timeout_seconds); };
  return make_gpu_communicator(host, device, {"threads", std::move(transport), call, timeout_seconds, false, make});
}

}  // namespace zerostep
