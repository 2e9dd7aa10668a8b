#pragma once
#include <string>
#include <vector>

#include "base/new_folders.h"
#include "runtime/config/config.h"
#include "runtime/engine/training_plan.h"

namespace zerostep {

// Makes the folders of what rests in files, for so many ranks of this host. They go again with what it gives unless they are kept.
// InputError naming where their names are from: they cannot be made or written, or have too little room.
NewFolders make_scratch_folders(const Config& config, const TrainingPlan& plan, int ranks_of_host);
// What a run on this machine would say of its folders, and end: a text for each. Leaves nothing.
std::vector<std::string> refusals_of_folders(const Config& config, const TrainingPlan& plan, int ranks_of_host);

}  // namespace zerostep
