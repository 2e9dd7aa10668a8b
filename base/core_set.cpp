#include "base/core_set.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/nth.h"

namespace zerostep {

CoreSet::CoreSet(const std::vector<int>& cores) {
  const int last = cores.empty() ? 0 : *std::max_element(cores.begin(), cores.end());
  parts_.resize(static_cast<size_t>(last / CPU_SETSIZE) + 1);
  for (cpu_set_t& part : parts_) CPU_ZERO(&part);
  for (int core : cores) CPU_SET(static_cast<size_t>(core % CPU_SETSIZE), &nth(parts_, core / CPU_SETSIZE));
}

std::vector<int> CoreSet::of_process() {
  constexpr size_t kMostParts = 1024;  // a million cores
  std::vector<cpu_set_t> parts(1);
  // The system refuses a set that is smaller than its own.
  while (::sched_getaffinity(0, parts.size() * sizeof(cpu_set_t), parts.data()) != 0) {
    if (errno != EINVAL || parts.size() >= kMostParts) fail_run("which cores this process may use is not known: {}", std::strerror(errno));
    parts.resize(2 * parts.size());
  }
  std::vector<int> out;
  for (int core = 0; core < static_cast<int>(parts.size()) * CPU_SETSIZE; ++core)
    if (CPU_ISSET(static_cast<size_t>(core % CPU_SETSIZE), &nth(parts, core / CPU_SETSIZE))) out.push_back(core);
  return out;
}

bool CoreSet::bind_thread() const noexcept { return ::sched_setaffinity(0, parts_.size() * sizeof(cpu_set_t), parts_.data()) == 0; }

}  // namespace zerostep
