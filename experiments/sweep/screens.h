#pragma once
#include <cstdio>
#include <memory>

#include "experiments/sweep/sweep.h"

namespace zerostep {

// Where the standard output is a terminal a table of the runs, redrawn in place, with what is said above it; elsewhere plain lines. `jobs`:
// runs at once, for the time that is left. The request must outlive it.
std::unique_ptr<SweepScreen> make_sweep_screen(const SweepRequest& request, size_t jobs, std::FILE* out);
// The table, whatever the standard output is.
std::unique_ptr<SweepScreen> make_terminal_screen(const SweepRequest& request, size_t jobs, std::FILE* out);

// The lines of the table, at most so many, none longer than `columns`: the runs that go on first, then those that have failed, that wait,
// that are done; and what is true of the whole. Where there is no room the speed is left out,
// and names lose what all of them say.
std::vector<std::string> sweep_table(const SweepRequest& request, const std::vector<SweepRow>& rows, const std::vector<int64_t>& steps,
                                     size_t jobs, int max_lines, int columns);
// How long the whole still takes: for what is left predicted times, as much longer as they were for the steps so far, or the mean of these;
// shared by the jobs; of a search at most. Nothing where neither is known.
std::optional<double> seconds_left(const SweepRequest& request, const std::vector<SweepRow>& rows, const std::vector<int64_t>& steps,
                                   size_t jobs);
// The same, "about 3 min left", with what the runs that go on have done by now as their files tell; "" where it is not known or none is.
std::string text_of_time_left(const SweepRequest& request, std::vector<SweepRow> rows, const std::vector<int64_t>& steps, size_t jobs);

}  // namespace zerostep
