#pragma once
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "experiments/plot/plot_run.h"
#include "experiments/report/absent_runs.h"

namespace zerostep {

// The keys that the sweep of a folder sets (`grid`, `when`, `runs` and `repeat` of its sweep.json); none where the folder is no sweep's, or
// that file does not tell.
std::set<std::string> keys_of_sweep(const std::filesystem::path& folder);
// Those of the sweep that all of these runs are of; nothing where they are not of one, or its file does not tell.
std::optional<std::set<std::string>> keys_of_sweep(const std::vector<PlotRun>& runs, const std::vector<AbsentRun>& absent);

// Of the keys that differ those that follow from others: of a sweep, whose keys are `swept`, those that it does not set; else those that
// the runs of some values of step.mode lack and all others have with one value. None where no key would be left. `keys`: of each run.
std::set<std::string> following_keys(const std::vector<std::string>& differing, const std::vector<RunKeys>& keys,
                                     const std::optional<std::set<std::string>>& swept);

}  // namespace zerostep
