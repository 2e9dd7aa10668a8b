#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "base/program_name.h"
#include "launch/agreement.h"
#include "launch/commands/commands.h"
#include "launch/model_directory.h"
#include "launch/model_files.h"
#include "launch/subject.h"
#include "runtime/engine/training_plan.h"
#include "runtime/report/zo_log.h"
#include "sharding/local_ranks.h"

namespace zerostep {
namespace {

// The run's configuration, on one rank and unsharded: the update of an element depends on neither. What a rank of the run might use is no
// limit for a rank that holds everything in its memory.
Subject subject_of_run(const std::string& log) {
  const std::string file = (std::filesystem::path(log).parent_path() / "config.json").string();
  if (!std::filesystem::exists(file))
    fail_input("rebuild: {} is missing: the log must lie in the folder of its run, beside the run's config.json", file);
  ConfigArguments unsharded{file, {}, {}};
  for (const char* text : {"zero_optimization.stage=0", "zero_optimization.offload_param=null", "zero_optimization.offload_optimizer=null",
                           "aio=null", "run.device_memory=0", "run.device=\"cpu\""})
    unsharded.set.push_back({text, ""});
  return load_subject_on_one_rank(std::move(unsharded));
}

// "step.scope is "reduced" and was "full"" of each key whose values differ.
std::string differences(const std::string& before, const std::string& now) {
  const auto a = nlohmann::json::parse(before), b = nlohmann::json::parse(now);
  const auto text = [](const nlohmann::json& values, const std::string& path) {
    return values.contains(path) ? values[path].dump() : std::string("not in use");
  };
  std::string out;
  nlohmann::json all = a;
  all.update(b);
  for (const auto& [path, value] : all.items())
    if (!a.contains(path) || !b.contains(path) || a[path] != b[path])
      out += fmt::format("{}{} is {} and was {}", out.empty() ? "" : ", ", path, text(b, path), text(a, path));
  return out;
}

// One configuration makes the updates of all steps. What the log says of their values must be the same throughout.
void check_values(const LoadedConfig& loaded, const std::string& log, const std::vector<ZoLogLine>& lines) {
  std::string values;  // that the log told first
  for (const ZoLogLine& line : lines) {
    if (line.update_values.empty()) continue;
    if (values.empty()) values = line.update_values;
    if (const std::string found = differences(values, line.update_values); !found.empty())
      fail_input(
          "{}: from step {} on {}: the run went on with other values, and rebuilding takes one set of them for all steps. `{} "
          "export` makes a model of a checkpoint of the run",
          log, line.step, found, program_name());
  }
  const std::string found = values.empty() ? "" : differences(values, loaded.update_values);
  if (!found.empty())
    fail_input("{}: was written with other values than {} has, in which {}: they are of two runs, or one of the files was changed", log,
               loaded.config.file, found);
  if (lines.front().update_values.empty())
    print_err(
        "warning: {}: does not say with which values of optimizer and step its first steps were made; those of {} are taken, and the "
        "weights are not the run's if it went on (--resume) with other ones\n",
        log, loaded.config.file);
}

void check(const Config& config, const std::string& log, const std::vector<ZoLogLine>& lines) {
  if (config.step.uses_backprop())
    fail_input("{}: step.mode is \"{}\": steps of backprop leave no scalars, so such a run cannot be rebuilt", config.file,
               config.step.mode_name);
  if (config.optimizer.orthogonal())
    fail_input(
        "{}: optimizer.type is {}: the order of the sums in its matrix products depends on the machine, so such a run cannot be rebuilt",
        config.file, config.optimizer.type_name);
  if (lines.front().seed != config.seed)
    fail_input("{}: was written with seed {}, and {} says {}: they are of two runs", log, lines.front().seed, config.file, config.seed);
  if (static_cast<int64_t>(lines.front().scalars.size()) != config.step.queries)
    fail_input("{}: holds {} scalars a step, and {} says step.queries {}", log, lines.front().scalars.size(), config.file,
               config.step.queries);
}

// The updates of a log lead to the run's weights from the values that the run began with, and from no others.
void check_base(const RebuildArguments& arguments, const std::string& first, const std::string& base, std::vector<std::string>& notes) {
  if (first.empty())
    notes.push_back(
        fmt::format("{}: does not say which values the run began with (an older version has written it): whether {} holds them is not "
                    "checked, and the rebuilt weights are the run's only where it does",
                    arguments.log, arguments.base));
  else if (first != base)
    fail_input(
        "{}: the run began with values of fingerprint {}, and {} holds values of fingerprint {}: from another base its log leads to other "
        "weights. Give --base the model that the run began with: what `{} init` writes for the run's file, or the directory that its "
        "model.path names, as it was then",
        arguments.log, first, arguments.base, base, program_name());
}

}  // namespace

int rebuild(const RebuildArguments& arguments) {
  if (is_same_place(arguments.directory, arguments.base))
    fail_input("rebuild: {} is the base, which is read while the rebuilt weights are written: name another directory", arguments.directory);
  check_model_directory(arguments.directory, arguments.overwrite);
  const std::vector<ZoLogLine> lines = read_zo_log(arguments.log);
  const Subject subject = subject_of_run(arguments.log);
  const Config& config = subject.config();
  check(config, arguments.log, lines);
  check_values(subject.loaded, arguments.log, lines);
  const ModelValues base = parameters_of_model(arguments.base, subject);
  std::vector<std::string> notes = base.notes;
  check_base(arguments, lines.front().first_values, fingerprint_of_values(*subject.model, base.read), notes);
  const ModelDirectory alone(arguments.directory, arguments.overwrite);
  run_local_ranks(1, {}, [&](Communicator one) {
    Engine engine(config, *subject.model, *subject.objective, plan_training(config, *subject.model, *subject.objective, 1), base.read, one);
    for (const ZoLogLine& line : lines) engine.replay({line.step, line.lr, line.clip_scale, line.scalars, line.skipped});
    const auto more = save_model(arguments.directory, *subject.model, origin_of(config),
                                 [&](int unit, int index, std::vector<float>& out) { engine.read_parameter(unit, index, out); });
    notes.insert(notes.end(), more.begin(), more.end());
  });
  for (const std::string& note : notes) print_err("warning: {}\n", note);
  print_out("{}: the weights after {} steps of {}\n", arguments.directory, grouped(static_cast<int64_t>(lines.size())), arguments.log);
  return kDone;
}

}  // namespace zerostep
