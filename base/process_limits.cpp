#include "base/process_limits.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>

#include "base/format.h"

namespace zerostep {
namespace fs = std::filesystem;

std::string allow_open_files(int64_t more) {
  std::error_code error;
  const int64_t now = std::distance(fs::directory_iterator("/proc/self/fd", error), fs::directory_iterator());
  rlimit limit{};
  const auto needed = static_cast<rlim_t>(now + more);
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) return "";
  limit.rlim_cur = std::min(needed, limit.rlim_max);
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == needed) return "";
  return fmt::format("this process may have {} files open, has {} and needs about {} more: raise that (`ulimit -n {}`)", limit.rlim_max,
                     now, more, needed);
}

std::string address_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "";
  return fmt::format(". This process may have {} of addresses: raise that (`ulimit -v`)",
                     human_bytes(static_cast<int64_t>(limit.rlim_cur)));
}

}  // namespace zerostep
