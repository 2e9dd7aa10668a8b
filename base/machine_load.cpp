#include "base/machine_load.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace zerostep {

MachineLoad machine_load() {
  MachineLoad out;
  out.cores = std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN));
  if (double minute = 0; ::getloadavg(&minute, 1) == 1) out.wanted = minute;
  return out;
}

std::string busy_text(const MachineLoad& load) {
  return fmt::format("the load of the machine is {:.1f} on {} core{}, so that other programs hold cores", load.wanted, load.cores,
                     load.cores == 1 ? "" : "s");
}

const char* busy_help() {
  return "OMP_WAIT_POLICY=passive or OMP_NUM_THREADS=1 keeps threads from spinning while they wait for one another (docs/launching.md)";
}

}  // namespace zerostep
