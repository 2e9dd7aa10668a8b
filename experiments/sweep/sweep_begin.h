#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/sweep/journal.h"
#include "experiments/sweep/sweep.h"

namespace zerostep {

// What a sweep begins with.
struct SweepBegin {
  std::vector<SweepRow> rows, others;  // of the request's points; of runs that stay as they are
  std::vector<int64_t> targets;        // steps that each of the points is to have
  Journal journal;
  std::vector<std::string> notes;  // what is to be said of it
};
// Begins the journal in the sweep's folder, which this process owns, or goes on with it and with what it tells. InputError: the folder
// holds runs that the journal does not know, or what goes on has a job in Slurm, or a search among whose runs are archived ones.
SweepBegin begin_sweep(const SweepRequest& request, const std::filesystem::path& folder);

}  // namespace zerostep
