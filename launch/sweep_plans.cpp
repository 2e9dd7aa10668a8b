#include "launch/sweep_plans.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "experiments/records/run_record.h"
#include "launch/automatic.h"
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
    if (does == begins) out += path + "=" + value.value.dump() + (value.origin == schema::Origin::Auto ? " auto\n" : "\n");
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

// Whatever decides which tokens a point's samples are made of, and what of them is refused.
std::string key_of_texts(const SweepPoint& point) {
  return part_of(point,
                 {"data.", "model.path", "model.preset", "model.family", "model.task", "model.vocab_size", "model.num_labels", "step.mode",
                  "step.bp_data", "step.bp_share", "step.query_sequence_length", "run.eval_"},
                 true);
}

// A configuration with the `data` block of a point whose own is invalid: the base's with what the point says of data, with another model
// where that is what is wrong; nothing where these are invalid too.
std::optional<Config> config_of_data(const SweepBase& base, const SweepPoint& point, int ranks) {
  const Setting other_model{R"(model={"preset": "gpt2-20M"})", ""};
  for (const bool keeps_model : {true, false}) {
    ConfigRequest request{.file = base.name, .set = point.set, .world = ranks, .text = base.text};
    std::erase_if(request.set, [](const Setting& setting) { return !setting.text.starts_with("data."); });
    request.set.push_back({"run.name=\"sweep\"", ""});
    if (!keeps_model) request.set.push_back(other_model);
    try {
      return load_config(request).config;
    } catch (const InputError&) {  // which the point's own error tells
    }
  }
  return std::nullopt;
}

// Texts that are not to be read.
struct LeftOut {};

}  // namespace

SweepPlanner::OpenedTexts SweepPlanner::open_texts(const SweepPoint& point, const DataHooks& hooks) {
  OpenedTexts out;
  Subject subject = load_subject(arguments_of(base_, point), {.world = ranks_});
  const auto note = [&](const auto& open) {
    try {
      open();
    } catch (const InputError& error) {
      // A classifier's evaluation opens the training data too.
      if (std::find(out.refused.begin(), out.refused.end(), error.what()) == out.refused.end()) out.refused.emplace_back(error.what());
    } catch (const LeftOut&) {
      out.is_whole = false;
    }
  };
  note([&] { open_training_data(subject, hooks); });
  note([&] { open_backprop_data(subject, hooks); });
  if (!subject.config().data.eval.empty()) note([&] { open_evaluation_data(subject, hooks); });
  if (!subject.config().data.test.empty()) note([&] { open_test_data(subject, hooks); });
  return out;
}

void SweepPlanner::make_tokens(const std::vector<SweepPoint>& points, const std::function<void(const std::string&)>& say,
                               PointErrors& errors) {
  DataHooks hooks;
  double last = 0;
  hooks.progress = [&](const TokenizeProgress& p) {
    if (p.seconds < last) last = 0;  // the next texts
    if (p.seconds - last < 10) return;
    last = p.seconds;
    say(fmt::format("tokenizing {} of {}, {} left", human_bytes(p.bytes_done), human_bytes(p.bytes_total), human_duration(p.eta_seconds)));
  };
  std::map<std::string, OpenedTexts> opened;  // by what they depend on
  for (const SweepPoint& point : points) {
    const auto [texts, is_new] = opened.try_emplace(key_of_texts(point));
    if (is_new) texts->second = open_texts(point, hooks);
    for (const std::string& what : texts->second.refused) errors.emplace_back(point.name, what);
  }
}

MemoryLimit SweepPlanner::limit_of(const Config& config) const { return memory_limit(config, target(), PlanArguments()); }

std::vector<std::string> SweepPlanner::try_texts(const std::vector<SweepPoint>& points, PointErrors& errors) {
  std::set<std::string> wrong;
  for (const auto& [name, what] : errors) wrong.insert(name);
  std::vector<std::string> out;
  std::map<std::string, OpenedTexts> opened;  // by what they depend on
  for (const SweepPoint& point : points) {
    if (wrong.contains(point.name)) continue;
    const auto [texts, is_new] = opened.try_emplace(key_of_texts(point));
    if (is_new) {
      std::error_code error;
      DataHooks hooks;
      hooks.uses_cache = std::filesystem::is_directory(point.cache, error);
      hooks.before_reading = [](int64_t num_bytes) {
        if (num_bytes > kTriedBytes) throw LeftOut();
      };
      texts->second = open_texts(point, hooks);
    }
    if (!texts->second.is_whole) out.push_back(point.name);
    for (const std::string& what : texts->second.refused) errors.emplace_back(point.name, what);
  }
  return out;
}

void SweepPlanner::plan(const std::vector<SweepPoint>& points, std::vector<PlannedRun>& plans, PointErrors& errors) {
  plans.assign(points.size(), {});
  for (size_t i = 0; i < points.size(); ++i) {
    // Of what a plan's memory and time do not depend on.
    const std::string key = part_of(points[i], {"seed", "optimizer.params.lr", "step.epsilon", "run.name", "run.output_dir"}, false);
    if (const auto it = plans_.find(key); it != plans_.end()) {
      plans[i] = it->second;
      continue;
    }
    std::vector<std::string> wrong = wrong_data_files(points[i].loaded.config);
    try {
      PlanArguments asked;
      static_cast<ConfigArguments&>(asked) = arguments_of(base_, points[i]);
      const AutomaticValues automatic = automatic_values(asked, target());
      asked.set.insert(asked.set.end(), automatic.settings.begin(), automatic.settings.end());
      const Subject subject = load_subject(asked, {.world = ranks_});
      if (wrong.empty()) plans[i] = plans_[key] = plan(points[i], subject);
    } catch (const InputError& error) {
      wrong.emplace_back(error.what());
    }
    for (const std::string& what : wrong) errors.emplace_back(points[i].name, what);
  }
}

void SweepPlanner::look_at_files(const std::vector<SweepPoint>& invalid, PointErrors& errors) const {
  for (const SweepPoint& point : invalid) {
    const std::optional<Config> config = config_of_data(base_, point, ranks_);
    if (!config) continue;
    for (const std::string& what : wrong_data_files(*config)) errors.emplace_back(point.name, what);
    try {
      tokenizer_of(*config);
    } catch (const InputError& error) {
      errors.emplace_back(point.name, fmt::format("{}: data.tokenizer: {}", config->source("data.tokenizer"), error.what()));
    }
  }
}

Target SweepPlanner::target() const {
  Target out;
  out.world = out.ranks_of_host = ranks_;
  out.threads = threads_;
  if (gpu_.device_bytes < INT64_MAX) out.gpu_memory = gpu_;
  return out;
}

PlannedRun SweepPlanner::plan(const SweepPoint& point, const Subject& subject) {
  const Config& config = subject.config();
  const TrainingPlan training = plan_training(config, *subject.model, *subject.objective, ranks_);
  WorkspaceMeter workspaces(WorkspaceMeter::default_file());
  PlanCost cost = training_cost(config, training, *subject.model, *subject.objective, &workspaces);
  cost.host_peak_bytes += staging_bytes(config, training);
  Target target = this->target();
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
  if (!report.fits()) out.refusal = does_not_fit(report);
  return out;
}

}  // namespace zerostep
