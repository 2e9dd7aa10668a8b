#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace zerostep {

// Bytes of the file system that a folder is on: those that this user may still take, and all.
struct DiskSpace {
  int64_t free = 0, total = 0;
};
// Nothing, and errno, where the system does not say.
std::optional<DiskSpace> disk_space(const std::string& folder);

}  // namespace zerostep
