#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "experiments/plot/plot_run.h"
#include "experiments/report/absent_runs.h"

namespace zerostep {

// The keys that the sweep of these runs sets (`grid`, `when`, `runs` and `repeat` of its sweep.json); nothing where they are not all of one
// sweep, or that file does not tell.
std::optional<std::set<std::string>> keys_of_sweep(const std::vector<PlotRun>& runs, const std::vector<AbsentRun>& absent);

// Of the keys that differ those that follow from others: of a sweep, whose keys are `swept`, those that it does not set; else those that
// the runs of some values of step.mode lack and all others have with one value. None where no key would be left. `values`: of each run.
std::set<std::string> following_keys(const std::vector<std::string>& differing,
                                     const std::vector<std::map<std::string, std::string>>& values,
                                     const std::optional<std::set<std::string>>& swept);

}  // namespace zerostep
