#include "launch/machine.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

#include "base/control_group.h"
#include "sharding/comm/core_share.h"

namespace zerostep {
namespace {

int64_t free_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string name, unit; file >> name;) {
    int64_t kibibytes = 0;
    if (name == "MemAvailable:" && file >> kibibytes >> unit) return kibibytes * 1024;
    std::getline(file, unit);
  }
  struct sysinfo info {};
  return ::sysinfo(&info) == 0 ? static_cast<int64_t>(info.freeram) * info.mem_unit : INT64_MAX;
}

}  // namespace

int num_cores() { return share_of_cores({allowed_cores()}, 0); }

int set_threads(int cores) {
  const char* given = std::getenv("OMP_NUM_THREADS");
  if (given == nullptr || *given == '\0') at::set_num_threads(cores);
  return at::get_num_threads();
}

MemoryLimit memory_limit(const Config& config, int ranks_of_host) {
  if (config.run.device_memory > 0) return {config.run.device_memory, "run.device_memory"};
  const auto group = free_bytes_in_control_groups();
  const int64_t free = group ? std::min(*group, free_memory()) : free_memory();
  return {
      free / std::max(1, ranks_of_host),
      ranks_of_host > 1 ? fmt::format("free memory of this machine for each of {} ranks", ranks_of_host) : "free memory of this machine",
      true};
}

}  // namespace zerostep
