#pragma once
#include <sched.h>

#include <vector>

namespace zerostep {

// Cores that this process may use; the first one alone where the system does not say.
cpu_set_t allowed_cores();
// How many cores fall to process `which` of a host when each core is shared equally by those that may use it (`allowed`, one set a
// process): all of its own where launchers bind processes to cores apart, its part where they are free, less than 1 where there are more
// processes than cores.
double core_share(const std::vector<cpu_set_t>& allowed, int which);
// The whole cores of it, at least 1.
int share_of_cores(const std::vector<cpu_set_t>& allowed, int which);

}  // namespace zerostep
