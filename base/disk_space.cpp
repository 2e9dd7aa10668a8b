#include "base/disk_space.h"

#include <sys/statvfs.h>

namespace zerostep {

std::optional<DiskSpace> disk_space(const std::string& folder) {
  struct statvfs info {};
  if (::statvfs(folder.c_str(), &info) != 0) return std::nullopt;
  const auto bytes = [&](fsblkcnt_t blocks) { return static_cast<int64_t>(blocks * info.f_frsize); };
  return DiskSpace{bytes(info.f_bavail), bytes(info.f_blocks)};
}

}  // namespace zerostep
