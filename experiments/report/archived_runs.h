#pragma once
#include <string>
#include <vector>

#include "experiments/records/run_record.h"
#include "experiments/sweep/sweep_row.h"

namespace zerostep {

// A run of a sweep that `runs archive` has packed and whose folder is gone: what the sweep's journal tells of it.
struct ArchivedRun {
  RunRecord record;     // its folder, which is gone, and of its configuration what the sweep has set
  SweepRow row;         // with the figures of its end
  std::string archive;  // the file
};

// Those of the sweeps whose folders are these places, or lie at most two levels below them, ordered by path. `notes` gains a sentence of
// each journal that cannot be read.
std::vector<ArchivedRun> find_archived_runs(const std::vector<std::string>& places, std::vector<std::string>& notes);

}  // namespace zerostep
