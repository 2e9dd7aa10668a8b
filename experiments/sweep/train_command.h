#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "experiments/sweep/sweep.h"

namespace zerostep {

// The command that runs one run of a sweep until it has `steps` steps: from its checkpoints where its folder holds some, anew where it
// holds another beginning. With mpirun where it has several ranks, unless Slurm starts them.
std::vector<std::string> train_command(const SweepRequest& request, size_t run, int64_t steps);
// Steps from one checkpoint of a run to the next, of a search those of the whole run where its file says nothing; 0: it makes none but
// those of run.keep_best.
int64_t checkpoint_interval(const SweepRequest& request, size_t run);
// How many ranks such a command starts by mpirun; nothing: it starts one, or Slurm starts them.
std::optional<int> ranks_of(const std::vector<std::string>& command);
// What such a command changes of the base: the settings of its point, without those that the sweep adds.
std::vector<Setting> point_settings(const std::vector<std::string>& command);

}  // namespace zerostep
