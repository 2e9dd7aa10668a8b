#include "launch/automatic.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "base/nth.h"
#include "base/program_name.h"
#include "launch/capacity.h"
#include "launch/device.h"
#include "launch/fit.h"
#include "launch/fit_options.h"
#include "launch/fit_text.h"
#include "launch/machine.h"
#include "launch/needed_folders.h"
#include "launch/resume.h"
#include "launch/subject.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/config/values.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_report.h"
#include "runtime/report/prediction_report.h"

namespace zerostep {
namespace {

using nlohmann::json;

// What goes with a chosen value: steps beside a micro-batch, folders beside a tier.
constexpr std::array kBeside{"gradient_accumulation_steps", "zero_optimization.offload_param.nvme_path",
                             "zero_optimization.offload_optimizer.nvme_path"};

json::json_pointer pointer_to(const std::string& path) {
  std::string at = "/" + path;
  std::replace(at.begin(), at.end(), '.', '/');
  return json::json_pointer(at);
}

schema::Document document_of(const ConfigArguments& arguments) {
  schema::Document out = schema::read_document(arguments.file, arguments.set, arguments.text);
  schema::Findings findings(out);  // load_config() says them
  schema::apply_aliases(out, findings);
  return out;
}

std::set<std::string> automatic_keys(const ConfigArguments& arguments) {
  const schema::Document document = document_of(arguments);
  std::set<std::string> out;
  for (const FitKey& key : fit_keys()) {
    const std::string path = key.path;
    for (size_t dot = path.find('.');; dot = path.find('.', dot + 1)) {
      const bool is_key = dot == std::string::npos;
      const json::json_pointer at = pointer_to(path.substr(0, dot));
      if (document.root.is_object() && document.root.contains(at) && document.root[at] == "auto" && (!is_key || !key.has_formula)) {
        out.insert(path);
        break;
      }
      if (is_key) break;
    }
  }
  return out;
}

template <typename Arguments>
Arguments readable(Arguments arguments, const std::set<std::string>& keys) {
  return keys.contains(kStage) ? at_widest_stage(std::move(arguments), kFromAuto) : arguments;
}

// Whether a key is chosen, or goes with one that is.
bool is_taken(const std::string& path, const std::set<std::string>& keys) {
  if (keys.contains(path)) return true;
  if (path == "gradient_accumulation_steps") return keys.contains(kMicroBatch);
  return path.ends_with(".nvme_path") && keys.contains(path.substr(0, path.rfind('.')) + ".device");
}

void add_setting(AutomaticValues& out, const std::string& path, const json& value, const std::string& why) {
  out.settings.push_back({fmt::format("{}={}", path, value.dump()), kFromAuto, true});
  if (!value.is_null()) out.lines.push_back(fmt::format("auto           {} = {}: {}", path, value.dump(), why));
}

// What decides about an option where memory alone does.
const char* name_of_rule(FitDimension dimension) {
  switch (dimension) {
    case FitDimension::Placement:
      return "as near to the device and at as low a stage as fits";
    case FitDimension::Recomputation:
      return "as little computed twice as fits";
    case FitDimension::QueriesPerPass:
      return "as few as there can be";
    case FitDimension::MicroBatch:
      return "the largest that fits";
    case FitDimension::Residency:
      return "as much kept gathered as fits";
  }
  return "";
}

// Why the best has its option in a dimension: what the next best one would cost.
std::string why_option(const FitResult& result, FitDimension dimension, bool by_memory) {
  const FitCandidate& best = nth(result.candidates, result.best);
  const std::string& name = result.option(best, dimension).name;
  if (by_memory) return name_of_rule(dimension);
  std::vector<const FitCandidate*> others;
  if (dimension == FitDimension::Placement) {
    for (const FitCandidate* c : result.placements())
      if (nth(c->options, dimension) != nth(best.options, dimension)) others.push_back(c);
  } else {
    others = result.neighbours(dimension);
  }
  const auto next = std::max_element(others.begin(), others.end(), [](const FitCandidate* a, const FitCandidate* b) {
    return (a->fits() ? a->tokens_per_second : -1) < (b->fits() ? b->tokens_per_second : -1);
  });
  if (next == others.end()) return name;
  return fmt::format("{} ({}: {})", name, result.option(**next, dimension).name, reason_text(result, **next));
}

AutomaticValues chosen_values(const FitResult& result, const std::set<std::string>& keys, const Target& target,
                              const std::string& why_by_memory) {
  AutomaticValues out;
  const bool by_memory = !why_by_memory.empty();
  const FitCandidate& best = nth(result.candidates, result.best);
  if (by_memory)
    out.lines.push_back(fmt::format("auto           the simplest of {} combinations for {} that fits, by memory alone: {}",
                                    result.candidates.size(), counted(target.world, "rank"), why_by_memory));
  else
    out.lines.push_back(fmt::format("auto           the fastest of {} combinations for {} of {}, predicted {}{}", result.candidates.size(),
                                    counted(target.world, "rank"), target.machine->name, speed_text(best),
                                    target.machine->is_unsteady ? "; its figures were " + unsteady_note() : ""));
  for (int d = 0; d < kFitDimensions; ++d) {
    const auto dimension = static_cast<FitDimension>(d);
    if (!has_effect(result, best, dimension)) continue;
    for (const FitSetting& setting : result.option(best, dimension).settings)
      if (is_taken(setting.path, keys)) add_setting(out, setting.path, setting.value, why_option(result, dimension, by_memory));
  }
  for (const FitSetting& setting : result.settings_of_filling(best))
    add_setting(out, setting.path, setting.value, by_memory ? "as much as there is memory for" : "fills what the rest leaves of memory");
  return out;
}

// Whether values go with what the file and --set give.
bool agrees(const ConfigArguments& arguments, const AutomaticValues& values, int world) {
  std::vector<Setting> set = arguments.set;
  set.insert(set.end(), values.settings.begin(), values.settings.end());
  try {
    load_config({arguments.file, set, world, arguments.text});
    return true;
  } catch (const InputError&) {
    return false;
  }
}

// As the run had them that has written the checkpoint; nothing where that had other ranks, or where they contradict what is given now. Of
// one that cannot be read, which is said where it is opened, no values.
std::optional<AutomaticValues> former_values(const TrainArguments& arguments, const std::set<std::string>& keys, int world) {
  try {
    const TrainArguments widest = readable(arguments, keys);
    const Config config = load_config({widest.file, widest.set, world, widest.text}).config;
    const CheckpointReader checkpoint(checkpoint_to_resume(*arguments.resume, config));
    if (checkpoint.manifest().ranks != world) return {};
    const json former = checkpoint.manifest().configuration;
    std::set<std::string> paths = keys;
    const json given = document_of(arguments).root;
    for (const char* beside : kBeside) {
      const json value = given.contains(pointer_to(beside)) ? given.at(pointer_to(beside)) : json();
      if (is_taken(beside, keys) && (value.is_null() || value == "auto")) paths.insert(beside);
    }
    AutomaticValues out;
    for (const std::string& path : paths)
      if (former.contains(pointer_to(path)))
        add_setting(out, path, former.at(pointer_to(path)), "as in the checkpoint " + checkpoint.directory());
    return agrees(arguments, out, world) ? std::optional(out) : std::nullopt;
  } catch (const InputError&) {
    return AutomaticValues();
  }
}

// The target of a run's rank.
Target target_of_job(const Job& job, int threads) {
  Target out;
  out.world = job.size();
  out.ranks_of_host = job.local_size();
  out.threads = threads;
  return out;
}

// InputError: the device that is asked for is not there.
void require_device(const PlanArguments& arguments, const Job& job) {
  Config config = load_config({arguments.file, arguments.set, job.size(), arguments.text}).config;
  settle_device(config);
  open_device(config, job.local_rank());
}

// What a rank lacks here of what a run with these values needs, for people; "": nothing.
std::string lacking_here(PlanArguments arguments, const AutomaticValues& values, Target target) {
  arguments.set.insert(arguments.set.end(), values.settings.begin(), values.settings.end());
  const Subject subject = load_subject(arguments, {.world = target.world});
  const Config& config = subject.config();
  settle_target(target, config);
  const Device device = device_of_plan(config);
  const MemoryLimit limit = memory_limit(config, target, arguments);  // before anything is measured in that memory
  const TrainingPlan plan = plan_training(config, *subject.model, *subject.objective, target.world);
  WorkspaceMeter workspaces(WorkspaceMeter::default_file(), device);
  PlanCost cost = training_cost(config, plan, *subject.model, *subject.objective, &workspaces);
  cost.host_peak_bytes += staging_bytes(config, plan);
  const PlanReport report{config, plan, cost, limit};
  if (!report.fits())
    return fmt::format("a rank needs {} of device memory and {} of the host's, {} are there", human_bytes(report.needed_bytes()),
                       human_bytes(cost.host_peak_bytes), human_bytes(limit.device_bytes));
  try {
    require_host_memory(config, cost, limit, device, target.ranks_of_host);
    return "";
  } catch (const InputError& error) {
    return error.what();
  }
}

}  // namespace

AutomaticValues automatic_values(const PlanArguments& arguments, Target target) {
  const std::set<std::string> keys = automatic_keys(arguments);
  if (keys.empty()) return {};
  const PlanArguments widest = readable(arguments, keys);
  const Subject subject = load_subject(widest, {.world = target.world, .has_gpu = target.has_gpu()});
  settle_target(target, subject.config());
  const MemoryLimit limit = memory_limit(subject.config(), target, arguments);
  const bool may_measure = target.is_here && !target.gpu_memory;
  WorkspaceMeter workspaces(WorkspaceMeter::default_file(), may_measure ? device_of_plan(subject.config()) : Device::cpu());
  FitRequest request{.arguments = arguments,
                     .world = target.world,
                     .stage_is_free = keys.contains(kStage),
                     .autos = keys,
                     .machine = target.machine ? &*target.machine : nullptr,
                     .capacity = capacity(subject.config(), target, limit),
                     .why_no_folders = target.is_here ? why_no_folders(subject.config()) : "",
                     .includes_host = limit.includes_host,
                     .meter = target.is_here ? &workspaces : nullptr};
  if (!has_choice(subject, request)) return {};
  std::string why_by_memory = target.machine ? "" : "the time of a step is not known: " + target.why_untimed;
  std::optional<FitResult> result;
  try {
    result = find_fit(subject, request);
  } catch (const InputError& error) {
    // The machine may have no figure of what these plans use; what else is wrong is so without it, too.
    if (request.machine == nullptr) throw;
    request.machine = nullptr;
    why_by_memory = error.what();
    result = find_fit(subject, request);
  }
  if (result->best < 0)
    fail_input("{}; \"auto\" for keys that are left out, which have their defaults, or `{} plan --fit`, which chooses them too",
               nowhere_text(*result, arguments.file, target.world, target.machine ? target.machine->name : "this machine"), program_name());
  return chosen_values(*result, keys, target, why_by_memory);
}

PlanArguments with_automatic(PlanArguments arguments, const Target& target) {
  const AutomaticValues values = automatic_values(arguments, target);
  for (const std::string& line : values.lines) print_err("{}\n", line);
  arguments.set.insert(arguments.set.end(), values.settings.begin(), values.settings.end());
  return arguments;
}

std::vector<std::string> settle_automatic(Job& job, TrainArguments& arguments, int threads) {
  json shared = {{"settings", json::array()}, {"lines", json::array()}};
  job.together("values of \"auto\"", [&] {
    if (!job.speaks()) return;
    const std::set<std::string> keys = automatic_keys(arguments);
    if (keys.empty()) return;
    PlanArguments asked;
    static_cast<ConfigArguments&>(asked) = arguments;
    require_device(readable(asked, keys), job);  // or all would be searched through before the run says that it has none
    const Target target = target_of_job(job, threads);
    std::optional<AutomaticValues> values;
    std::string line;
    if (arguments.resume) values = former_values(arguments, keys, job.size());
    if (values && !values->settings.empty())
      if (const std::string lacking = lacking_here(asked, *values, target); !lacking.empty()) {
        line = fmt::format("auto           not as in the checkpoint, which does not fit here ({}); chosen anew", lacking);
        values.reset();
      }
    if (!values) values = automatic_values(asked, target);
    if (!line.empty()) values->lines.insert(values->lines.begin(), line);
    for (const Setting& setting : values->settings) shared["settings"].push_back(setting.text);
    shared["lines"] = values->lines;
  });
  shared = json::parse(job.share("values of \"auto\"", shared.dump()));
  for (const std::string text : shared["settings"]) arguments.set.push_back({text, kFromAuto, true});
  return shared["lines"];
}

}  // namespace zerostep
