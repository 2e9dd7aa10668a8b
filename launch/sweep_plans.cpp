#include "launch/sweep_plans.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/format.h"
#include "experiments/records/run_record.h"
#include "launch/device.h"
#include "launch/machine.h"
#include "launch/subject.h"
#include "launch/target.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/config/values.h"
#include "runtime/engine/tier_options.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_report.h"
#include "runtime/state/store.h"

namespace zerostep {
namespace {

// Values of a point whose paths begin so, or do not.
std::string part_of(const SweepPoint& point, const std::vector<std::string_view>& beginnings, bool begins) {
  std::string out;
  for (const auto& [path, value] : point.loaded.values->all()) {
    const bool does = std::any_of(beginnings.begin(), beginnings.end(), [&](std::string_view text) { return path.starts_with(text); });
    if (does == begins) out += path + "=" + value.value.dump() + "\n";
  }
  return out;
}

ConfigArguments arguments_of(const SweepBase& base, const SweepPoint& point) {
  ConfigArguments out;
  out.file = base.name;
  out.text = base.text;
  out.set = point.set;
  out.set.push_back({"run.name=\"sweep\"", ""});
  return out;
}

}  // namespace

void SweepPlanner::make_tokens(const SweepPoint& point, const std::function<void(const std::string&)>& say) {
  const std::string key = part_of(point, {"data.", "model.path", "model.task", "step.bp_data", "step.bp_share", "run.eval_"}, true);
  if (samples_.contains(key)) return;
  Subject subject = load_subject(arguments_of(base_, point), {.world = ranks_});
  DataHooks hooks;
  double last = 0;
  hooks.progress = [&](const TokenizeProgress& p) {
    if (p.seconds - last < 10) return;
    last = p.seconds;
    say(fmt::format("tokenizing {} of {}, {} left", human_bytes(p.bytes_done), human_bytes(p.bytes_total), human_duration(p.eta_seconds)));
  };
  samples_[key] = open_training_data(subject, hooks)->num_samples();
  open_backprop_data(subject, hooks);
  if (!subject.config().data.eval.empty()) open_evaluation_data(subject, hooks);
  if (!subject.config().data.test.empty()) open_test_data(subject, hooks);
}

MemoryLimit SweepPlanner::limit_of(const Config& config) const {
  if (config.run.device == "cuda" && gpu_.device_bytes < INT64_MAX)
    return config.run.device_memory > 0 && config.run.device_memory <= gpu_.device_bytes
               ? MemoryLimit{config.run.device_memory, "run.device_memory"}
               : gpu_;
  Target target;
  target.world = target.ranks_of_host = ranks_;
  return memory_limit(config, target, PlanArguments());
}

PlannedRun SweepPlanner::plan(const SweepPoint& point) {
  // Of what a plan's memory and time do not depend on.
  const std::string key = part_of(point, {"seed", "optimizer.params.lr", "step.epsilon", "run.name", "run.output_dir"}, false);
  if (const auto it = plans_.find(key); it != plans_.end()) return it->second;
  const Subject subject = load_subject(arguments_of(base_, point), {.world = ranks_});
  const Config& config = subject.config();
  data_files(config);
  const TrainingPlan training = plan_training(config, *subject.model, *subject.objective, ranks_);
  WorkspaceMeter workspaces(WorkspaceMeter::default_file());
  PlanCost cost = training_cost(config, training, *subject.model, *subject.objective, &workspaces);
  cost.host_peak_bytes += staging_bytes(config, training);
  Target target;
  target.world = target.ranks_of_host = ranks_;
  MachineHere here = machine_here(ranks_, ranks_, threads_);
  target.machine = std::move(here.machine);
  target.why_untimed = std::move(here.why_not);
  settle_target(target, config);
  std::optional<Prediction> prediction;
  if (target.machine)
    prediction = prediction_if_known(config, training, *subject.model, *subject.objective, *target.machine, target.why_untimed);
  if (!prediction) why_untimed_ = target.why_untimed;
  const PlanReport report{config, training, cost, limit_of(config), prediction ? &*prediction : nullptr};
  PlannedRun out;
  out.device_bytes = cost.device_peak_bytes;
  out.host_bytes = cost.host_peak_bytes;
  out.file_bytes = cost.file_peak_bytes;
  out.disks = demands_of_disks(scratch_demands(training.any_step().buffers, tier_options(config, 0)), ranks_);
  out.device_is_host = config.run.device != "cuda";
  if (!out.device_is_host) out.gpu_bytes = cost.device_needed_bytes();
  out.steps = config.run.steps;
  if (out.steps == 0 && config.run.epochs > 0) {
    Subject opened = load_subject(arguments_of(base_, point), {.world = ranks_});
    out.steps =
        std::max<int64_t>(1, static_cast<int64_t>(config.run.epochs * static_cast<double>(open_training_data(opened)->num_samples()) /
                                                  static_cast<double>(config.samples_of_step())));
  }
  const nlohmann::json told = plan_json(report);
  out.flops = told.value("flops", 0.0) * static_cast<double>(ranks_) * static_cast<double>(out.steps);
  if (prediction) out.seconds = told.value("step_seconds", 0.0) * static_cast<double>(out.steps);
  if (!report.fits())
    out.refusal = fmt::format("{} are missing: {}", human_bytes(report.needed_bytes() - report.limit.device_bytes), does_not_fit(report));
  plans_[key] = out;
  return out;
}

}  // namespace zerostep
