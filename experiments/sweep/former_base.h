#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "experiments/sweep/points.h"
#include "experiments/sweep/sweep_file.h"

namespace zerostep {

// The base that the sweep in the file's folder began with, as its sweep.json has it. InputError: that is missing or damaged.
SweepBase former_base(const SweepFile& file);

// What is done was done with the former base: another one would mix two sweeps. InputError naming the keys that differ with both values,
// and how `command`, which asked to resume, goes on with the former ones; unless each of `points`, which `now` makes, is the same run with
// either base, as where one spells the other in another way. `now`: the base's configuration with --set in it.
void require_same_base(const SweepFile& file, const std::vector<SweepPoint>& points, const SweepBase& former, const nlohmann::json& now,
                       const std::string& command);

// `command`, which asked for a new sweep where the folder holds one, as it goes on with that: with the former values of what has changed.
// "": too much has.
std::string resuming_command(const SweepFile& file, const std::vector<SweepPoint>& points, const SweepBase& former,
                             const nlohmann::json& now, const std::string& command);

}  // namespace zerostep
