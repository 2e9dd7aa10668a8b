#include "experiments/probe/probe_input.h"

#include "base/error.h"
#include "runtime/engine/training_cost.h"

namespace zerostep {

std::unique_ptr<Engine> make_probe_engine(const ProbeInput& input, const Config& config, const ModelDefinition& model) {
  TrainingPlan plan = plan_training(config, model, input.objective, 1);
  WorkspaceMeter workspaces(WorkspaceMeter::default_file());
  const PlanCost cost = training_cost(config, plan, model, input.objective, &workspaces);
  plan.device_peak_bytes = cost.device_peak_bytes;
  const PlanReport report{config, plan, cost, input.limit};
  if (!report.fits()) throw InputError(does_not_fit(report));
  return std::make_unique<Engine>(config, model, input.objective, std::move(plan), input.values, input.self, input.device);
}

}  // namespace zerostep
