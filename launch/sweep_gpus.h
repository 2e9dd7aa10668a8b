#pragma once
#include <cstdint>
#include <vector>

#include "experiments/sweep/machine_shares.h"
#include "experiments/sweep/points.h"
#include "runtime/report/plan_report.h"

namespace zerostep {

// The GPUs that a sweep's runs share out: those that are named, else all that this process sees where a point is of a run on GPUs. None
// under Slurm, which chooses them itself, but those that are named. Gives the bytes of each one's memory that a run finds free now; none
// where they are not this machine's (under Slurm). To be called before this process asks anything of a GPU. InputError: one that is named
// is not there. RunError: they do not answer.
std::vector<int64_t> settle_gpus(SweepResources& resources, const std::vector<SweepPoint>& points);
// `errors` gain that a point asks for GPUs, and none answers here (under Slurm others may).
void refuse_missing_gpus(const SweepResources& resources, const std::vector<SweepPoint>& points, PointErrors& errors);
// The most that a rank of a run may use of a GPU's memory, of all shares; INT64_MAX: not known.
MemoryLimit gpu_limit(const MachineShares& shares, int ranks);

}  // namespace zerostep
