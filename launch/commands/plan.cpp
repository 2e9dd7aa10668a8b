#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "launch/automatic.h"
#include "launch/commands/commands.h"
#include "launch/device.h"
#include "launch/needed_folders.h"
#include "launch/replaceable.h"
#include "launch/subject.h"
#include "launch/target.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_report.h"
#include "runtime/report/plan_warnings.h"
#include "runtime/report/prediction_report.h"

namespace zerostep {
int plan(const PlanArguments& given) {
  constexpr const char* kTraceBegins = R"({"displayTimeUnit":"ms","traceEvents":[)";
  if (!given.trace.empty()) check_replaceable("--trace", given.trace, kTraceBegins);
  Target target = target_of(given);
  const PlanArguments arguments = with_automatic(given, target);
  const Subject subject = load_subject(arguments, {.world = target.world, .has_gpu = target.has_gpu()});
  const Config& config = subject.config();
  settle_target(target, config);
  print_warnings(subject.loaded);
  data_files(config);
  const TrainingPlan training = plan_training(config, *subject.model, *subject.objective, target.world);
  // Before anything is measured, which may leave something in memory of a GPU.
  MemoryLimit limit = memory_limit(config, target, arguments);
  // What libraries take is measured here, for this machine alone.
  WorkspaceMeter workspaces(WorkspaceMeter::default_file(), target.is_here ? device_of_plan(config) : Device::cpu());
  const int64_t multiprocessors = target.machine ? target.machine->multiprocessors : 0;
  PlanCost cost =
      training_cost(config, training, *subject.model, *subject.objective, target.is_here ? &workspaces : nullptr, multiprocessors);
  cost.host_peak_bytes += staging_bytes(config, training);
  cost.workspace_estimated |= !target.is_here || target.world > num_cores();  // so many ranks run elsewhere
  cost.workspace_known &= target.is_here;
  std::optional<Prediction> prediction;
  std::string why_untimed = target.why_untimed;
  if (target.machine) prediction = prediction_if_known(config, training, *subject.model, *subject.objective, *target.machine, why_untimed);
  if (arguments.json && target.machine && !prediction)  // else the plan's text says it
    print_err("warning: the time of a step is not predicted: {}\n", why_untimed);
  if (target.is_here) limit_files(limit, config, training, target.ranks_of_host);
  const PlanReport report{config, training, cost, limit, prediction ? &*prediction : nullptr};
  if (target.is_here)
    for (const std::string& refusal : refusals_of_folders(config, training)) print_err("warning: {}\n", refusal);
  for (const std::string& warning : plan_warnings(config, training, *subject.model, *subject.objective))
    print_err("warning: {}\n", warning);
  if (arguments.json)
    print_out("{}\n", plan_json(report).dump(2));
  else
    print_out(visible(plan_text(report) + (prediction ? "" : fmt::format("\nTime of a step: {}\n", why_untimed))));
  if (!arguments.trace.empty()) {
    if (!prediction) fail_without_times("--trace", why_untimed);
    write_simulated_trace(arguments.trace, training, *prediction);
  }
  if (arguments.actions && !arguments.json) print_out(visible("\nActions of a step\n" + plan_actions_text(training)));
  if (!arguments.verify && !report.fits()) throw InputError(does_not_fit(report));
  if (!arguments.verify) return kDone;
  const ProofReport proof = prove_plan(training);
  const std::string text = fmt::format("\nProof\n{}", proof.text);
  arguments.json ? print_err(text) : print_out(text);
  return proof.holds ? kDone : kFailed;
}

}  // namespace zerostep
