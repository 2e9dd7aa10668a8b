#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "experiments/sweep/sweep.h"

namespace zerostep {

// Whether a run makes a checkpoint when it is asked to stop, from which --resume goes on. All runs of a search do.
bool is_saved_at_stop(const SweepRequest& request, size_t run);
// Names the runs that wait, have minutes to go as predicted, and make no checkpoints. "": there are none.
std::string unsaved_runs_text(const SweepRequest& request, const std::vector<SweepRow>& rows);
// What an interrupt asks of the runs that go on: so many save, so many others do not.
std::string interrupt_text(size_t saved, size_t others);

}  // namespace zerostep
