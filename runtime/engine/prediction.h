#pragma once
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "runtime/engine/training_plan.h"
#include "runtime/timing/machine.h"
#include "runtime/timing/simulation.h"

namespace zerostep {

// How long the steps of a configuration take on a machine, from their plans alone.
struct Prediction {
  struct Step {
    StepKind kind;
    double share = 1;  // of a long run's steps
    Simulation simulation;
  };
  std::string machine;           // its name
  bool is_unsteady = false;      // its figures were measured on a busy machine
  std::vector<Step> steps;       // in the order of TrainingPlan::steps
  double step_seconds = 0;       // on average over the mode's steps, as the lanes' below
  double tokens_per_second = 0;  // of all ranks
  std::array<double, kLanes> lane_seconds = {}, bound_seconds = {};
  Lane bound_by = Lane::Compute;
  Link file_read, file_write;  // the machine's, of one rank
};
// InputError where the machine has no figure of what a plan uses: of files, or of ranks beside the one that was measured.
Prediction predict_training(const Config& config, const TrainingPlan& plan, const ModelDefinition& model, const Objective& objective,
                            const Machine& machine);
// The same where something goes on without a prediction: nothing where a figure is missing, and `why_not` says which.
std::optional<Prediction> prediction_if_known(const Config& config, const TrainingPlan& plan, const ModelDefinition& model,
                                              const Objective& objective, const Machine& machine, std::string& why_not);

}  // namespace zerostep
