#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "experiments/plot/plot_run.h"
#include "experiments/report/absent_runs.h"

namespace zerostep {

// What a sweep was asked, as the sweep.json in its folder tells.
struct SweepQuestion {
  std::string name, asks;                                  // asks: what it is to answer; "": its file does not say
  std::vector<std::pair<std::string, std::string>> parts;  // "grid", "step.mode fo, zo; seed 1, 2"; of several runs or `when` one each
};
SweepQuestion question_of(const nlohmann::json& sweep);
// Of each sweep that any of the runs is of, ordered by folders. `notes` gains a sentence of each sweep.json that cannot be read.
std::vector<SweepQuestion> sweep_questions(const std::vector<PlotRun>& runs, const std::vector<AbsentRun>& absent,
                                           std::vector<std::string>& notes);

// The sweep.json of a folder; null where there is none that can be read. `why_not`: what is wrong with one that is there.
nlohmann::json sweep_in(const std::filesystem::path& folder, std::string* why_not = nullptr);
// The value of a name in a block; null where there is none, or no block.
const nlohmann::json& part_of(const nlohmann::json& block, const char* name);
// The folders in which the runs' own lie; "" of CSV files.
std::set<std::filesystem::path> folders_of_runs(const std::vector<PlotRun>& runs, const std::vector<AbsentRun>& absent);

}  // namespace zerostep
