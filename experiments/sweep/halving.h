#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/sweep/sweep_file.h"

namespace zerostep {

// Where a run of a search by halving stands.
struct Contestant {
  int64_t steps = 0;        // that it has taken
  bool has_failed = false;  // it takes no part any more, nor a place among the best
};

// Whether of a column of metrics.csv the higher value is the better; of all others the lower is.
bool is_better_higher(std::string_view column);

// What is to be done next: every run but those that are out takes the steps of the first rung; of n runs the best n * keep (one at least,
// rounded up) go on to the next. `value(run, steps)` is the metric after so many steps, NaN where it has none, which is worst; it is asked
// for once a run and a rung, and of equals the first goes on. Depends on nothing else, so that a search that was interrupted goes on as it
// would have. Gives for each run the number of steps that it still has to reach now; nothing: none. RunError: no run has a value at a rung
// that is complete.
std::vector<std::optional<int64_t>> next_rung(const SweepSearch& search, const std::vector<Contestant>& runs,
                                              const std::function<double(size_t run, int64_t steps)>& value);
// The run that is best at the last rung; nothing while a run has steps to take, and where none is left.
std::optional<size_t> winner(const SweepSearch& search, const std::vector<Contestant>& runs,
                             const std::function<double(size_t run, int64_t steps)>& value);

// How many of so many runs take part in each rung where none fails.
std::vector<size_t> runs_of_rungs(const SweepSearch& search, size_t runs);
// What the search can still cost at most, whichever runs turn out the best: of each rung the most costly of those that can take part. A
// rung takes as long as its longest run, or as all of them shared by the jobs. `cost(run, from, to)` is that of these steps.
double most_cost(const SweepSearch& search, const std::vector<Contestant>& runs,
                 const std::function<double(size_t run, int64_t from, int64_t to)>& cost, size_t jobs);

}  // namespace zerostep
