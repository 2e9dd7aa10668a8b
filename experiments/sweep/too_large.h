#pragma once
#include <cstdint>
#include <string>

#include "experiments/sweep/sweep.h"

namespace zerostep {

// Memory of this machine that a run's processes take.
int64_t machine_bytes(const SweepRequest& request, size_t run);
// Why a run has no room on this machine, though it has it for itself, with the bytes that are missing and what helps; "": it has.
// `most_gpu_bytes`: what there is of a GPU's memory for a rank, where there is most.
std::string why_too_large(const SweepRequest& request, size_t run, int64_t most_gpu_bytes);

}  // namespace zerostep
