#include "sharding/comm/core_share.h"

#include <algorithm>

#include "base/nth.h"

namespace zerostep {

cpu_set_t allowed_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) CPU_SET(0, &cores);
  return cores;
}

double core_share(const std::vector<cpu_set_t>& allowed, int which) {
  double share = 0;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &nth(allowed, which))) continue;
    const auto users = std::count_if(allowed.begin(), allowed.end(), [&](const cpu_set_t& set) { return CPU_ISSET(core, &set); });
    share += 1.0 / static_cast<double>(users);
  }
  return share;
}

int share_of_cores(const std::vector<cpu_set_t>& allowed, int which) {
  constexpr double kRounding = 1e-6;  // more than the sum of 1,024 rounded terms of at most 1 can lack: 1,024 x 1,024 x 2^-53
  return std::max(1, static_cast<int>(core_share(allowed, which) + kRounding));
}

}  // namespace zerostep
