#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "experiments/sweep/journal.h"
#include "experiments/sweep/points.h"

namespace zerostep {

// The runs of a sweep that goes on, by their names.
using FormerRuns = std::map<std::string, FormerRun>;

// A key that is new in the file of a sweep changes the names of its points, not the runs that there are. Points whose configuration is that
// of a former run get its name; one whose name a former run of another configuration has gets a number. `base` is what the sweep began with
// (the same as now), `slurm_ranks` the ranks of a run where Slurm starts them (else the journal's commands tell). Gives what is to be said
// of it: which points have other names than their values give them, and which former runs are no points any more. A run whose configuration
// is not known, since the journal has no command of it or one that is none any more, is known by its name alone.
std::vector<std::string> keep_former_names(std::vector<SweepPoint>& points, const FormerRuns& former, const SweepBase& base,
                                           int slurm_ranks);

// The runs of a sweep that goes on, as it finds them.
struct FormerRows {
  std::vector<SweepRow> rows;         // of each point: Done, Failed, or Queued to be started or to go on
  std::vector<size_t> ended_unheard;  // rows that are Done and of which the journal does not know that
  std::vector<size_t> archived;       // rows that are Done, whose folder is gone and which `runs archive` has packed
  std::vector<std::string> notes;     // what is to be said of it
};
// A run whose folder somebody has removed is to be started again, unless it was archived when it was done, as the journal tells. `folder`
// is the sweep's; failed runs are started again where `retries_failed` is set.
FormerRows former_rows(const std::vector<SweepPoint>& points, const FormerRuns& former, const std::filesystem::path& folder,
                       bool retries_failed);
// Done runs that have fewer than these steps (of each point), as a search leaves them, are to go on.
void queue_shorter_runs(FormerRows& former, const std::vector<int64_t>& steps);
// InputError where the folder of a point holds a run and the journal knows none of its name: starting it would replace that.
void refuse_unknown_folders(const std::vector<SweepPoint>& points, const FormerRuns& former, const std::filesystem::path& folder);
// Rows of what is not to be started: of the points `others`, and of former runs that are points no more, with the values that they were
// started with. Each stands as its folder and the journal tell.
std::vector<SweepRow> rows_that_stay(const std::vector<SweepPoint>& points, const std::vector<SweepPoint>& others, const FormerRuns& former,
                                     const std::filesystem::path& folder);

}  // namespace zerostep
