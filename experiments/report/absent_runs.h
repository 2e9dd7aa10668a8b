#pragma once
#include <string>
#include <vector>

#include "experiments/records/run_record.h"
#include "experiments/sweep/sweep_row.h"

namespace zerostep {

// A run of a sweep that has no folder with a table of steps: `runs archive` has packed it and its folder is gone, or it has not come to its
// first step, since it is queued, was too large, or failed before.
struct AbsentRun {
  RunRecord record;     // its folder, which need not be there, and of its configuration what the sweep has set
  SweepRow row;         // as the sweep's journal tells of one that is archived, and runs.csv of any other
  std::string archive;  // the file; "": it is not archived
  bool is_archived() const { return !archive.empty(); }
};

// Those of the sweeps whose folders are these places, or lie at most two levels below them, ordered by path, the archived ones of each
// sweep first. `notes` gains a sentence of each file that cannot be read.
std::vector<AbsentRun> find_absent_runs(const std::vector<std::string>& places, std::vector<std::string>& notes);
// The runs of these places (find_runs), beside which the absent ones that are not archived count as runs too. All are named apart.
std::vector<RunRecord> find_runs_beside(const std::vector<std::string>& places, std::vector<AbsentRun>& absent);
// Those that are not archived.
std::vector<AbsentRun> without_archived(std::vector<AbsentRun> runs);

}  // namespace zerostep
