#include "launch/machine.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>

namespace zerostep {
namespace {

std::optional<int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // "max", or no such file
}

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

// Page cache counts as used there, but goes when memory is asked for.
std::optional<int64_t> free_in_control_group() {
  const auto limit = number_in("/sys/fs/cgroup/memory.max"), used = number_in("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return std::nullopt;
  int64_t cache = 0;
  std::ifstream file("/sys/fs/cgroup/memory.stat");
  for (std::string name; file >> name;) {
    int64_t bytes = 0;
    file >> bytes;
    if (name == "inactive_file" || name == "active_file") cache += bytes;
  }
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - cache));
}

}  // namespace

int num_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

int set_threads(int ranks_of_host) {
  const char* given = std::getenv("OMP_NUM_THREADS");
  if (given == nullptr || *given == '\0') at::set_num_threads(std::max(1, num_cores() / std::max(1, ranks_of_host)));
  return at::get_num_threads();
}

MemoryLimit memory_limit(const Config& config, int ranks_of_host) {
  if (config.run.device_memory > 0) return {config.run.device_memory, "run.device_memory"};
  const auto group = free_in_control_group();
  const int64_t free = group ? std::min(*group, free_memory()) : free_memory();
  return {
      free / std::max(1, ranks_of_host),
      ranks_of_host > 1 ? fmt::format("free memory of this machine for each of {} ranks", ranks_of_host) : "free memory of this machine",
      true};
}

}  // namespace zerostep
