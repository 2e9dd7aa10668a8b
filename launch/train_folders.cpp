#include "launch/train_folders.h"

#include <fmt/format.h>

#include "base/error.h"
#include "launch/needed_folders.h"

namespace zerostep {
namespace {

// Whatever the run reads, and where it writes outside its folder.
std::vector<NamedPath> paths_of(const TrainArguments& arguments, const Config& config) {
  std::vector<NamedPath> out = data_files(config);
  const auto add = [&](const char* name, const std::string& path) {
    if (!path.empty()) out.push_back({name, path});
  };
  add("model.path", config.model.path);
  if (!config.model.path.empty()) add("model.path", config.model.path + "/config.json");
  if (config.data.tokenizer != "byte") add("data.tokenizer", config.data.tokenizer);
  add("data.cache", config.data.cache);
  add("data.catalogue", config.data.catalogue);
  if (config.monitor.csv.enabled) add("csv_monitor.output_path", config.monitor.csv.output_path);
  if (config.monitor.tensorboard.enabled) add("tensorboard.output_path", config.monitor.tensorboard.output_path);
  if (config.monitor.flops_enabled) add("flops_profiler.output_file", config.monitor.flops_output_file);
  add("--save-model", arguments.save_model);
  add("--resume", arguments.resume.value_or(""));
  return out;
}

}  // namespace

void claim_folder(Job& job, const TrainArguments& arguments, TrainSetup& setup) {
  Config& config = setup.subject.loaded.config;
  std::string name;
  job.together("folder of the run", [&] {
    if (!job.speaks()) return;
    Config named = config;
    if (arguments.resume) setup.continues = settle_resumed_run(*arguments.resume, named);
    setup.folder = RunFolder::claim(named, setup.continues);
    if (setup.folder.replaces()) setup.folder.check_spares(named, paths_of(arguments, named));
    name = named.run.name;
  });
  setup.continues = job.share("run to go on with", setup.continues ? "yes" : "") == "yes";
  name = job.share("name of the run", name);
  if (name != config.run.name) rename_run(setup.subject.loaded, name);
  if (!job.speaks()) setup.folder = RunFolder(run_folder_path(config));
}

void claim_model_directory(const TrainArguments& arguments, TrainSetup& setup) {
  if (arguments.save_model.empty()) return;
  if (is_same_place(arguments.save_model, setup.folder.path()))
    fail_input("--save-model {} is the folder of this run, which has a config.json of its own: name another directory, as {}",
               arguments.save_model, setup.folder.file("model"));
  setup.model_directory =
      ModelDirectory(arguments.save_model, setup.config().run.overwrite,
                     arguments.resume ? "--set run.overwrite=true" : "--overwrite (the run's own folder, should it hold a run, too)");
}

void claim_other_folders(Job& job, const TrainArguments& arguments, TrainSetup& setup) {
  if (!job.speaks()) return;
  setup.monitor_locks = claim_other_files(setup.config(), setup.folder, setup.other_folders);
  claim_model_directory(arguments, setup);
}

void begin_folder(Job& job, TrainSetup& setup) {
  setup.scratch_folders.keep();
  setup.other_folders.keep();
  if (!job.speaks()) return;
  setup.folder.begin();
  if (setup.folder.replaces())
    setup.log.line(fmt::format("the folder {} held a former run: its files are gone (run.overwrite)", setup.folder.path()));
  if (setup.continues) go_back_to(checkpoints_folder(setup.config()), setup.checkpoint->manifest());
  setup.log.open(setup.folder.file("log.txt"), setup.continues);
  write_file(setup.folder.file("config.json"), setup.subject.loaded.resolved_json);
  write_file(setup.folder.file("plan.json"), plan_json(setup.report()).dump(2) + "\n");
}

}  // namespace zerostep
