#pragma once
#include <cstdint>

namespace zerostep {

// Memory of this process that is in use, in bytes, as the system counts it: pages that it shares with other processes count in full.
struct ResidentMemory {
  int64_t now = 0, peak = 0;  // peak: since the process began
};
// From /proc/self/status; zeros where the system does not say.
ResidentMemory resident_memory();

}  // namespace zerostep
