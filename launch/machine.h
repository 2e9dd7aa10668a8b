#pragma once
#include "runtime/config/config.h"
#include "runtime/report/plan_report.h"

namespace zerostep {

// Cores that this process may use.
int num_cores();
// Threads of LibTorch in this rank: OMP_NUM_THREADS where it is set, else `cores`. Gives the number.
int set_threads(int cores);
// What a rank may use of device memory: run.device_memory, else the memory of this machine (or of its control groups) that is free now,
// shared by the ranks of the host.
MemoryLimit memory_limit(const Config& config, int ranks_of_host);

}  // namespace zerostep
