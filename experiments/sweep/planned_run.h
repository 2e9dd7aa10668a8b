#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "offload/scratch_folder.h"

namespace zerostep {

// What the plan of a run knows before it starts.
struct PlannedRun {
  int64_t device_bytes = 0, host_bytes = 0, file_bytes = 0;  // of the busiest rank
  std::vector<DiskDemand> disks;                             // of the files of all ranks
  bool device_is_host = true;                                // the device's memory is the host's
  int64_t gpu_bytes = 0;  // of a GPU's memory that each rank needs, LibTorch's unfilled pieces among them; 0: it computes on the processor
  int64_t steps = 0;
  double flops = 0;               // of all ranks and steps
  std::optional<double> seconds;  // of all steps, where this machine was measured
  std::string refusal;            // why it cannot run here, with the bytes that are missing; "": it can

  // Memory of this machine that its processes take, `process_bytes` being what one has before it holds a model.
  int64_t machine_bytes(int ranks, int64_t process_bytes) const {
    return ranks * (process_bytes + host_bytes + (device_is_host ? device_bytes : 0));
  }
};

}  // namespace zerostep
