#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/engine/prediction.h"

namespace zerostep {

// What is said of figures that are unsteady, "measured on a busy machine", and what helps, in the words of the command line.
std::string unsteady_note();
// For people: the time of a step, what bounds it, and a picture of the lanes of each kind of step.
std::string prediction_text(const TrainingPlan& plan, const Prediction& prediction);
// Adds "step_seconds", "tokens_per_second", "bound_by", "lane_seconds" and "machine_is_unsteady" to what `plan --json` prints of all steps.
void add_prediction(const Prediction& prediction, nlohmann::ordered_json& plan);
// The same of one kind of step.
void add_prediction(const Simulation& simulation, nlohmann::ordered_json& step);
// The simulated lanes, one kind of step after the other, as a Chrome trace with the rows and names that a run's has. RunError names the
// path.
void write_simulated_trace(const std::string& path, const TrainingPlan& plan, const Prediction& prediction);

}  // namespace zerostep
