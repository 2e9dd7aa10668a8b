#pragma once
#include <optional>

#include "base/device.h"
#include "runtime/config/config.h"
#include "runtime/report/plan_report.h"
#include "runtime/timing/machine.h"

namespace zerostep {

// Cores that this process may use.
int num_cores();
// Threads of LibTorch in this rank: OMP_NUM_THREADS where it is set, else `cores`. Gives the number.
int set_threads(int cores);
// This machine as it was measured, or why its figures tell nothing of what was asked, and what helps.
struct MachineHere {
  std::optional<Machine> machine;
  bool is_measured = false;  // with any number of ranks, even if what was kept cannot be read
  std::string why_not;       // "": there is a machine
};
// Of `world` ranks, so many on each host, with so many threads each; `gpu`: of the GPUs on which they compute, "": on the processor.
MachineHere machine_here(int world, int ranks_of_host, int threads, const std::string& gpu);
// What the figures of a GPU of this model are kept under, where so many ranks of a host share those that answer here.
std::string gpu_of_figures(const std::string& model, int ranks_of_host);
// Ranks of a host that share one of its GPUs.
int ranks_of_gpu(int ranks_of_host);
// What a rank may use of device memory: run.device_memory, else the memory of this machine (or of its control groups) that is free now,
// shared by the ranks of the host.
MemoryLimit memory_limit(const Config& config, const Device& device, int ranks_of_host);
// The same of a described machine, whose file is named.
MemoryLimit memory_limit(const Config& config, const Machine& machine, const std::string& file);
// Where run.device_memory limits the device, or that has memory of its own: this machine's memory holds it, or all but it. InputError.
void require_host_memory(const Config& config, const PlanCost& cost, const MemoryLimit& limit, const Device& device, int ranks_of_host);

}  // namespace zerostep
