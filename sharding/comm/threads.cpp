#include <atomic>

#include "base/cuda/cuda_library.h"
#include "sharding/comm/gpu_communicator.h"
#include "sharding/cuda/thread_transport.h"
#include "sharding/thread_communicator.h"

namespace zerostep {

Communicator make_thread_communicator(const Communicator& host, const Device& device, double timeout_seconds) {
  if (host.size() < 2 || !host.shares_process())
    fail_protocol("[threads] a group of {} ranks, not of several threads of a process", host.size());
  static std::atomic<int64_t> groups = 0;
  Communicator group = host;
  const std::string mine = group.rank() == 0 ? std::to_string(++groups) : "";
  const std::vector<std::string> names = group.all_gather_text(mine, "group of threads");
  std::unique_ptr<DeviceTransport> transport;
  start_transport(group, [&] {
    reinterpret_cast<StartThreads*>(function_of_cuda_library(kStartThreads))(
        *device.impl(), {group.rank(), group.size(), names.front(), timeout_seconds, check_of_peers(group)}, transport);
  });
  const auto make = [=](const Communicator& part) { return make_thread_communicator(part, device, timeout_seconds); };
  return make_gpu_communicator(host, device, {"threads", std::move(transport), timeout_seconds, false, make});
}

}  // namespace zerostep
