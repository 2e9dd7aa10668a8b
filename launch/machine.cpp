#include "launch/machine.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/device.h"
#include "base/error.h"
#include "base/format.h"
#include "sharding/comm/core_share.h"

namespace zerostep {
int num_cores() { return share_of_cores({allowed_cores()}, 0); }

int set_threads(int cores) {
  const char* given = std::getenv("OMP_NUM_THREADS");
  if (given == nullptr || *given == '\0') at::set_num_threads(cores);
  return at::get_num_threads();
}

std::optional<Machine> machine_here(int ranks, int threads) {
  std::optional<Machine> out = measured_machine(ranks, threads);
  if (!out || std::lround(out->ranks_per_host * out->cores_per_rank) < ranks) return std::nullopt;
  out->ranks_per_host = ranks;
  return out;
}

MemoryLimit memory_limit(const Config& config, int ranks_of_host) {
  if (config.run.device_memory > 0) return {config.run.device_memory, "run.device_memory"};
  const int64_t free = Device::cpu().memory_info().free_bytes;
  return {
      free / std::max(1, ranks_of_host),
      ranks_of_host > 1 ? fmt::format("free memory of this machine for each of {} ranks", ranks_of_host) : "free memory of this machine",
      true};
}

MemoryLimit memory_limit(const Config& config, const Machine& machine, const std::string& file) {
  const auto or_any = [](int64_t bytes) { return bytes > 0 ? bytes : INT64_MAX; };
  MemoryLimit out{or_any(machine.host_is_device ? machine.host_bytes : machine.device_bytes), "of a rank in " + file,
                  machine.host_is_device, or_any(machine.host_bytes), or_any(machine.file_bytes)};
  if (out.device_bytes == INT64_MAX) out.source = file + " does not say how much there is";
  if (config.run.device_memory > 0) {
    out.device_bytes = config.run.device_memory;
    out.source = "run.device_memory";
    out.includes_host = false;
  }
  return out;
}

void require_host_memory(const Config& config, const PlanCost& cost, const MemoryLimit& limit, int ranks_of_host) {
  const int64_t free = Device::cpu().memory_info().free_bytes / std::max(1, ranks_of_host);
  if (limit.includes_host || cost.device_peak_bytes + cost.host_peak_bytes <= free) return;
  fail_input(
      "{}: a rank needs {} of this machine's memory, {} for the device and {} for the host, and {} are free for each of {}. What helps: "
      "\"nvme\" for zero_optimization.offload_param.device and offload_optimizer.device, a lower buffer_count, run.checkpoint_interval 0 "
      "(checkpoints are staged in memory), fewer ranks on this host",
      config.file, human_bytes(cost.device_peak_bytes + cost.host_peak_bytes), human_bytes(cost.device_peak_bytes),
      human_bytes(cost.host_peak_bytes), human_bytes(free), ranks_of_host);
}

}  // namespace zerostep
