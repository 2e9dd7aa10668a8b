#include "runtime/engine/prediction.h"

#include "base/error.h"

namespace zerostep {
namespace {

// Tokens of all ranks that a step goes on by, as the metrics count them.
double tokens_of(const Config& config, const StepKind& kind) {
  return kind.backprop ? static_cast<double>(config.batch.train_batch_size * config.data.sequence_length)
                       : static_cast<double>(config.samples_of_step() * config.step.query_sequence_length);
}

}  // namespace

Prediction predict_training(const Config& config, const TrainingPlan& plan, const ModelDefinition& model, const Objective& objective,
                            const Machine& machine) {
  const StepLoads loads(config, model, objective);
  Prediction out;
  out.machine = machine.name;
  out.is_unsteady = machine.is_unsteady;
  out.file_read = machine.file_read;
  out.file_write = machine.file_write;
  double tokens = 0;
  for (const TrainingPlan::Step& step : plan.steps) {
    const double share = share_of(config.step, step.kind);
    const std::vector<double> seconds = action_seconds(config, plan.layout, model, loads, step.plan, machine);
    Simulation simulation = simulate(step.plan, plan.streams_apart(machine.host_is_device), seconds, machine);
    tokens += share * tokens_of(config, step.kind);
    out.step_seconds += share * simulation.seconds;
    for (size_t lane = 0; lane < out.lane_seconds.size(); ++lane) {
      out.lane_seconds[lane] += share * simulation.lane_seconds[lane];
      out.bound_seconds[lane] += share * simulation.bound_seconds[lane];
    }
    out.steps.push_back({step.kind, share, std::move(simulation)});
  }
  if (out.step_seconds > 0) out.tokens_per_second = tokens / out.step_seconds;
  out.bound_by = lane_with_most(out.bound_seconds);
  return out;
}

std::optional<Prediction> prediction_if_known(const Config& config, const TrainingPlan& plan, const ModelDefinition& model,
                                              const Objective& objective, const Machine& machine, std::string& why_not) {
  try {
    return predict_training(config, plan, model, objective, machine);
  } catch (const InputError& missing) {
    why_not = missing.what();
    return std::nullopt;
  }
}

}  // namespace zerostep
