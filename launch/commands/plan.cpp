#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "launch/commands/commands.h"
#include "launch/machine.h"
#include "launch/subject.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_report.h"

namespace zerostep {

int plan(const PlanArguments& arguments) {
  const Subject subject = load_subject(arguments, {.world = arguments.world});
  const Config& config = subject.config();
  print_warnings(subject.loaded);
  data_files(config);
  const TrainingPlan training = plan_training(config, *subject.model, *subject.objective, arguments.world);
  const int ranks_of_host =
      arguments.ranks_per_node > 0 ? std::min(arguments.ranks_per_node, arguments.world) : std::min(arguments.world, num_cores());
  set_threads(std::max(1, num_cores() / ranks_of_host));  // as each of them would
  WorkspaceMeter workspaces(WorkspaceMeter::default_file());
  PlanCost cost = training_cost(config, training, *subject.model, *subject.objective, &workspaces);
  cost.host_peak_bytes += staging_bytes(config, training);
  cost.workspace_estimated |= arguments.world > num_cores();  // so many ranks run elsewhere
  const PlanReport report{config, training, cost, memory_limit(config, ranks_of_host)};
  if (arguments.json)
    print_out("{}\n", plan_json(report).dump(2));
  else
    print_out(plan_text(report));
  if (arguments.actions && !arguments.json) print_out("\nActions of a step\n{}", plan_actions_text(training));
  if (!arguments.verify && !report.fits()) throw InputError(does_not_fit(report));
  if (!arguments.verify) return kDone;
  const ProofReport proof = prove_plan(training);
  const std::string text = fmt::format("\nProof\n{}", proof.text);
  arguments.json ? print_err(text) : print_out(text);
  return proof.holds ? kDone : kFailed;
}

}  // namespace zerostep
