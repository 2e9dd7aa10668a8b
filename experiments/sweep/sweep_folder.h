#pragma once
#include <string>

#include "experiments/sweep/sweep_file.h"
#include "runtime/report/folder_lock.h"

namespace zerostep {

// InputError where the folder of a sweep holds none that could go on.
void require_sweep(const SweepFile& file);
bool holds_sweep(const SweepFile& file);
// Of a dry run where the folder holds a sweep: that the command is refused, and what goes on; `goes_on` as below.
std::string refusal_of_held_folder(const SweepFile& file, const std::string& goes_on);
// Makes the folder of a sweep and becomes its owner. InputError: it holds a sweep and `resumes` is not set, holds none and it is, has
// another owner or cannot be written. `goes_on`: the command that goes on with a sweep there; "": none does.
FolderLock claim_sweep_folder(const SweepFile& file, bool resumes, const std::string& goes_on);

}  // namespace zerostep
