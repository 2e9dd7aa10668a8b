#include "base/control_group.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace zerostep {
namespace fs = std::filesystem;
namespace {

// Where a version keeps its numbers.
struct Files {
  const char *limit, *used, *active_cache, *inactive_cache;
};
constexpr Files kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file", "total_inactive_file"};
constexpr Files kVersion2{"memory.max", "memory.current", "active_file", "inactive_file"};
// Version 1 has no word for "no limit" but numbers near 2^63.
constexpr int64_t kNoLimit = int64_t{1} << 60;

std::optional<int64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // "max", or no such file
}

std::optional<int64_t> free_in(const fs::path& group, const Files& files) {
  const auto limit = number_in(group / files.limit), used = number_in(group / files.used);
  if (!limit || !used || *limit >= kNoLimit) return std::nullopt;
  int64_t cache = 0;
  std::ifstream stat(group / "memory.stat");
  std::string name;
  for (int64_t bytes = 0; stat >> name >> bytes;)
    if (name == files.active_cache || name == files.inactive_cache) cache += bytes;
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - cache));
}

}  // namespace

std::optional<int64_t> free_bytes_in_control_groups(const std::string& root) {
  std::optional<int64_t> least;
  // A line a hierarchy: number, controllers, group; version 2 has the number 0 and no controllers.
  std::ifstream hierarchies(root + "/proc/self/cgroup");
  for (std::string line; std::getline(hierarchies, line);) {
    std::istringstream in(line);
    std::string number, controllers, group;
    std::getline(in, number, ':');
    std::getline(in, controllers, ':');
    std::getline(in, group);
    const bool second = number == "0" && controllers.empty();
    if (!second && ("," + controllers + ",").find(",memory,") == std::string::npos) continue;
    const fs::path top = root + (second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    // A group above this process's own may be the one with the limit. In a container the path may be that of the host: then only the top is
    // there.
    for (fs::path at = fs::path(group).relative_path();; at = at.parent_path()) {
      if (const auto free = free_in(at.empty() ? top : top / at, second ? kVersion2 : kVersion1))
        least = std::min(least.value_or(*free), *free);
      if (at.empty()) break;
    }
  }
  return least;
}

}  // namespace zerostep
