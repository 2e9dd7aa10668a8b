#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "experiments/sweep/sweep.h"

namespace zerostep {

// Where a run that is asked to stop goes on at --resume.
enum class AfterStop : uint8_t {
  GoesOn,     // from a checkpoint that it makes when it stops, as all runs of a search do
  GoesBack,   // to the checkpoint of its best evaluation (run.keep_best), which is older; anew where it had no evaluation yet
  BeginsAnew  // it makes no checkpoints
};
AfterStop after_stop(const SweepRequest& request, size_t run);
// Names the runs that wait, have minutes to go as predicted, and make no checkpoints. "": there are none.
std::string unsaved_runs_text(const SweepRequest& request, const std::vector<SweepRow>& rows);
// What an interrupt asks of the runs that go on, and what becomes of each at --resume.
std::string interrupt_text(const std::vector<AfterStop>& runs);

}  // namespace zerostep
