#pragma once
#include <optional>

#include "runtime/config/config.h"
#include "runtime/report/plan_report.h"
#include "runtime/timing/machine.h"

namespace zerostep {

// Cores that this process may use.
int num_cores();
// Threads of LibTorch in this rank: OMP_NUM_THREADS where it is set, else `cores`. Gives the number.
int set_threads(int cores);
// This machine as it was measured, with so many ranks of so many threads on it; nothing where it was never measured, or has fewer cores
// than ranks.
std::optional<Machine> machine_here(int ranks, int threads);
// What a rank may use of device memory: run.device_memory, else the memory of this machine (or of its control groups) that is free now,
// shared by the ranks of the host.
MemoryLimit memory_limit(const Config& config, int ranks_of_host);
// The same of a described machine, whose file is named.
MemoryLimit memory_limit(const Config& config, const Machine& machine, const std::string& file);
// Where run.device_memory limits the device: this machine's memory holds it and what rests on the host besides. InputError.
void require_host_memory(const Config& config, const PlanCost& cost, const MemoryLimit& limit, int ranks_of_host);

}  // namespace zerostep
