#pragma once
#include <string>
#include <vector>

#include "base/new_folders.h"
#include "runtime/config/config.h"
#include "runtime/engine/training_plan.h"
#include "runtime/report/plan_report.h"

namespace zerostep {

// Makes the folders of what rests in files, for so many ranks of this host. They go again with what it gives unless they are kept.
// InputError naming where their names are from: they cannot be made or written, or have too little room.
NewFolders make_scratch_folders(const Config& config, const TrainingPlan& plan, int ranks_of_host);
// What a run on this machine would say of its folders, and end: a text for each. Room on their disks is not looked at: it is a limit of the
// plan. Leaves nothing.
std::vector<std::string> refusals_of_folders(const Config& config, const TrainingPlan& plan);
// Why no files can be made in the folders that are given for parameters and state; "": they can, or none are given. Leaves nothing.
std::string why_no_folders(const Config& config);
// Limits a plan to the room that is free now on the disks of its folders here, for each of so many ranks of this host. What goes beyond the
// limit is what these disks lack, each of them by itself.
void limit_files(MemoryLimit& limit, const Config& config, const TrainingPlan& plan, int ranks_of_host);

}  // namespace zerostep
