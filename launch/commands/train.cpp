#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/first_names.h"
#include "base/format.h"
#include "base/process_limits.h"
#include "base/process_memory.h"
#include "base/program_name.h"
#include "base/signal_name.h"
#include "launch/agreement.h"
#include "launch/automatic.h"
#include "launch/commands/commands.h"
#include "launch/device.h"
#include "launch/machine.h"
#include "launch/model_directory.h"
#include "launch/model_files.h"
#include "launch/needed_folders.h"
#include "launch/rank_devices.h"
#include "launch/signals.h"
#include "launch/train_run.h"
#include "models/error_text.h"
#include "offload/host_optimizer.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_warnings.h"

namespace zerostep {
namespace {

// What a run reads on every rank.
std::vector<SharedInput> inputs_of(const TrainSetup& setup) {
  std::vector<SharedInput> out{{"data.train", setup.train_data->fingerprint()}};
  if (setup.backprop_data) out.push_back({"the data of backprop (step.bp_data)", setup.backprop_data->fingerprint()});
  for (const EvaluationSet& set : setup.eval_sets) out.push_back({"data.eval", set.data->fingerprint()});
  for (const EvaluationSet& set : setup.test_sets) out.push_back({"data.test", set.data->fingerprint()});
  if (!setup.checkpoint && !setup.config().model.path.empty())
    out.push_back({"model.path", fingerprint_of_values(*setup.subject.model, setup.first_values.read)});
  return out;
}

// Tokenizing of a large corpus shows itself: redrawn on a terminal, a line every ten seconds in a pipe.
DataHooks data_hooks(Job& job, RunLog& log) {
  auto last = std::make_shared<double>(0);
  DataHooks hooks;
  hooks.progress = [&job, &log, last](const TokenizeProgress& p) {
    const double share = p.bytes_total > 0 ? 100.0 * static_cast<double>(p.bytes_done) / static_cast<double>(p.bytes_total) : 100;
    const std::string text = fmt::format("tokenizing {} of {} ({:.0f} %) | {} tokens | {}/s | {} left", human_bytes(p.bytes_done),
                                         human_bytes(p.bytes_total), share, human_count(static_cast<double>(p.tokens)),
                                         human_bytes(static_cast<int64_t>(p.bytes_per_second)), human_duration(p.eta_seconds));
    log.status(text);
    if (p.seconds - *last < 10) return;
    *last = p.seconds;
    if (job.speaks() && !log.has_terminal()) log.line(text);
    if (!job.speaks()) print_err("{}\n", text);
  };
  hooks.warn = [&job, &log](const std::string& text) {
    if (job.speaks())
      log.warn(text);
    else
      print_err("warning: rank {}: {}\n", job.rank(), text);
  };
  hooks.remark = [&job, &log](const std::string& text) {
    if (job.speaks()) log.warn(text);
  };
  hooks.note = [&job, &log](const std::string& text) {
    if (job.speaks()) log.line(text);
  };
  return hooks;
}

constexpr double kMostSteps = 9e18;  // below 2^63, so that the conversion to a 64-bit integer is defined

void settle_steps(Config& config, int64_t samples) {
  if (config.run.steps == 0 && config.run.epochs > 0)
    config.run.steps = std::max<int64_t>(1, static_cast<int64_t>(std::min(kMostSteps, config.run.epochs * static_cast<double>(samples) /
                                                                                          static_cast<double>(config.samples_of_step()))));
  if (config.scheduler.total_num_steps == 0) config.scheduler.total_num_steps = config.run.steps;
}

void prepare(Job& job, TrainSetup& setup) {
  Config& config = setup.subject.loaded.config;
  const DataHooks hooks = data_hooks(job, setup.log);
  if (!setup.checkpoint) setup.first_values = starting_values(setup.subject);
  for (const std::string& note : setup.first_values.notes) setup.log.warn(note);
  setup.train_data = open_training_data(setup.subject, hooks);
  setup.backprop_data = open_backprop_data(setup.subject, hooks);
  if (!config.data.eval.empty()) setup.eval_sets = open_evaluation_data(setup.subject, hooks);
  if (!config.data.test.empty()) setup.test_sets = open_test_data(setup.subject, hooks);
  settle_steps(config, setup.train_data->num_samples());
  if (!setup.checkpoint && job.speaks() && config.step.uses_queries() && !config.step.uses_backprop())
    setup.first_values_fingerprint = fingerprint_of_values(*setup.subject.model, setup.first_values.read);
  setup.device = open_device(config, job.local_rank());
  setup.plan = plan_training(config, *setup.subject.model, *setup.subject.objective, job.size());
  setup.limit = memory_limit(config, setup.device, job.local_size());  // before anything is measured in that memory
  WorkspaceMeter workspaces(WorkspaceMeter::default_file(), setup.device);
  setup.cost = training_cost(config, *setup.plan, *setup.subject.model, *setup.subject.objective, &workspaces);
  setup.plan->device_peak_bytes = setup.cost.device_peak_bytes;
  setup.cost.host_peak_bytes += staging_bytes(config, *setup.plan);
  if (job.speaks())
    for (const std::string& warning : plan_warnings(config, *setup.plan, *setup.subject.model, *setup.subject.objective))
      setup.log.warn(warning);
  if (!setup.report().fits()) throw InputError(does_not_fit(setup.report()));
  require_host_memory(config, setup.cost, setup.limit, setup.device, job.local_size());
  setup.scratch_folders = make_scratch_folders(config, *setup.plan, job.local_size());
  limit_files(setup.limit, config, *setup.plan, job.local_size());
  if (!job.speaks() || job.size() > job.local_size()) return;
  const std::string gpu = setup.device.is_host() ? "" : gpu_of_figures(setup.device.model(), job.local_size());
  const MachineHere here = machine_here(job.size(), job.local_size(), setup.facts.threads, gpu);
  std::string why_not = here.is_measured ? here.why_not : "";
  if (here.machine)
    setup.prediction = prediction_if_known(config, *setup.plan, *setup.subject.model, *setup.subject.objective, *here.machine, why_not);
  if (!why_not.empty()) setup.log.warn("the time of a step is not predicted: " + why_not);
}

// Files of a rank that are open at once: of the tiers, of the run's folder, connections to ranks of other hosts. InputError.
void require_open_files(const Config& config, int other_hosts_ranks) {
  constexpr int64_t kOthers = 16;
  int64_t files = kOthers + other_hosts_ranks;
  for (const OffloadConfig& offload : {config.zero.offload_param, config.zero.offload_optimizer})
    if (offload.tier == Tier::File) files += std::ssize(offload.nvme_paths) + int64_t{2} * config.aio.options.intra_op_parallelism;
  if (const std::string why = allow_open_files(files); !why.empty()) throw InputError(why);
}

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

// The folder that the run goes on in, or begins in. One process of the job owns it, rank 0.
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

// From here on the folder holds this run.
void begin(Job& job, TrainSetup& setup) {
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

// Collective. The tokens were there before where every rank found them: one makes them, and the others wait for its file.
DataFacts facts_of(Job& job, const DataStream& data) {
  const std::vector<std::string> made = job.gather("token cache", data.is_from_cache() ? "" : "made");
  const bool is_from_cache = std::all_of(made.begin(), made.end(), [](const std::string& text) { return text.empty(); });
  return {data.num_samples(), data.num_sample_tokens(), data.num_tokens(), is_from_cache, data.sources(), data.is_weighted()};
}
std::vector<SetFacts> facts_of(Job& job, const std::vector<EvaluationSet>& sets) {
  std::vector<SetFacts> out;
  for (const EvaluationSet& set : sets) out.push_back({sets.size() > 1 ? set.name : "", facts_of(job, *set.data)});
  return out;
}

// Collective.
void say_header(Job& job, const TrainArguments& arguments, TrainSetup& setup) {
  RunFacts& facts = setup.facts;
  facts.device = devices_text(devices_of_ranks(job, setup.device));
  facts.host_is_device = setup.device.is_host();
  facts.communication = job.world().backend();
  facts.host_kernels = host_optimizer_target();
  facts.ranks = job.size();
  facts.local_ranks = job.local_size();
  facts.train = facts_of(job, *setup.train_data);
  facts.train.reads = setup.config().run.steps * setup.config().samples_of_step();
  if (setup.backprop_data) facts.backprop = facts_of(job, *setup.backprop_data);
  facts.evaluation = facts_of(job, setup.eval_sets);
  facts.test = facts_of(job, setup.test_sets);
  facts.folder = setup.folder.path();
  facts.saves_model = !arguments.save_model.empty();
  facts.resident_bytes = resident_memory().now;
  RunLog& log = setup.log;
  if (setup.checkpoint)
    log.line(fmt::format("goes on after step {} from {}, written by {} at stage {}", setup.first_step(), setup.checkpoint->directory(),
                         counted(setup.checkpoint->manifest().ranks, "rank"), setup.checkpoint->manifest().stage));
  std::vector<const FolderLock*> locks{&setup.folder.lock()};
  for (const FolderLock& lock : setup.monitor_locks) locks.push_back(&lock);
  for (const FolderLock* lock : locks)
    if (!lock->unlocked_because().empty())
      log.warn(fmt::format("{}. Nothing keeps a second run out of the folder: start none there", lock->unlocked_because()));
  for (const std::string& line : describe_environment()) log.line(line);
  for (const std::string& line : run_header(setup.report(), facts)) log.line(line);
  // A mistyped name is not there either.
  const std::vector<std::string> made =
      job.gather("folders that were made", fmt::format("{}", fmt::join(setup.scratch_folders.made(), ", ")));
  for (const std::string& folders : made)
    if (!folders.empty()) log.line(fmt::format("made           {}: not there before, for what rests in files", folders));
  if (!setup.first_values.untrained.empty())
    log.line(fmt::format("first values   {} (seed {}): {} {}", first_names(setup.first_values.untrained), setup.config().seed,
                         setup.config().model.path,
                         setup.config().model.fresh_classifier ? "is asked for all but its classifier" : "does not hold them"));
}

void dump_state(TrainSetup& setup) {
  RunLog& log = setup.log;
  log.line("configuration");
  log.line(setup.subject.loaded.labelled_text);
  log.line("layout");
  for (const FlatGroup& g : setup.plan->layout.groups)
    log.line(fmt::format("  {:<28} {:>14} elements, {:>14} a rank, {}{}{}", g.name, grouped(g.full_elements()), grouped(g.shard_elements()),
                         name_of(g.type), g.trainable ? "" : ", frozen", g.persistent ? ", persistent" : ""));
  log.line(plan_text(setup.report()));
}

// Before a second signal ends the run: a checkpoint that is being written is completed first. The log belongs to the thread that
// trains, so the thread that ends the run appends to the log's file.
void wait_for_checkpoint(Job& job, const TrainSetup& setup, CheckpointWriter& writer, int signal) {
  const int64_t step = writer.under_way();
  const double seconds = setup.config().run.collective_timeout_seconds;
  const auto say = [&](const std::string& text) {
    if (!job.speaks() || step < 0) return;
    print_err("warning: {}\n", text);
    try {
      OutputFile(setup.folder.file("log.txt"), OutputFile::Mode::Append).write(fmt::format("warning: {}\n", text));
    } catch (const RunError&) {  // a full disk may be why the checkpoint takes so long
    }
  };
  say(
      fmt::format("a second signal, {}: the run ends as soon as checkpoint {} is written, in {:g} s at the latest "
                  "(run.collective_timeout_seconds); another one ends it at once",
                  name_of_signal(signal), checkpoint_name(step), seconds));
  if (!writer.wait_until_complete(seconds)) say(fmt::format("checkpoint {} is not complete after {:g} s", checkpoint_name(step), seconds));
}

// Collective. Whether every rank has come to write its part of this rank's checkpoint that is under way.
bool every_rank_writes(Job& job, CheckpointWriter& writer) {
  const int64_t step = writer.under_way();
  try {
    const std::vector<std::string> begun = job.gather("checkpoint that is being written", std::to_string(writer.last_begun()));
    return std::all_of(begun.begin(), begun.end(), [&](const std::string& last) { return std::stoll(last) >= step; });
  } catch (const RunError&) {
    return false;
  }
}

// Collective, after a failure: what the run still has to give. That its log cannot be written does not keep it from that.
void complete_checkpoint(Job& job, TrainSetup& setup, CheckpointWriter& writer, double seconds) {
  if (!every_rank_writes(job, writer)) writer.abandon();
  const int64_t step = writer.under_way();
  if (step < 0) return;
  const std::string name = checkpoint_name(step);
  const auto say = [&](const std::string& text) {
    try {
      setup.log.warn(text);
    } catch (const RunError&) {
    }
  };
  say(fmt::format("checkpoint {} is being written: the failed run ends with it, in {:g} s at the latest", name, seconds));
  if (!writer.wait_until_written(seconds)) return say(fmt::format("checkpoint {} is not complete after {:g} s", name, seconds));
  try {
    writer.check();
    say(fmt::format("checkpoint {} is written", name));
  } catch (const RunError& error) {
    say(error.what());
  }
}

// Who reads log.txt later sees why the run has ended. That it cannot be written (a full disk, say) may be the error itself.
void keep_error(RunLog& log, const std::exception& error) {
  try {
    log.note("zerostep: " + error_text(error));
  } catch (const RunError&) {
  }
}

int run_engine(Job& job, const TrainArguments& arguments, TrainSetup& setup) {
  std::unique_ptr<Engine> engine;
  std::optional<CheckpointWriter> writer;  // outlives the handling of errors: it may have a file to finish
  try {
    const Config& config = setup.config();
    const ParameterReader first = setup.checkpoint ? parameters_of(*setup.checkpoint) : setup.first_values.read;
    const DeviceGroup group = group_on(setup.device, job.world(), config);
    if (job.speaks() && !group.warning.empty()) setup.log.warn(group.warning);
    engine =
        std::make_unique<Engine>(config, *setup.subject.model, *setup.subject.objective, *setup.plan, first, group.ranks, setup.device);
    if (setup.checkpoint) restore(*engine, *setup.checkpoint);
    if (setup.checkpoint) setup.checkpoint->close();
    job.together("start of the run", [&] { begin(job, setup); });
    if (config.run.checkpoint_interval > 0 || config.run.keep_best)
      job.together("folder of the checkpoints", [&] {
        writer.emplace(CheckpointWriter::Options{checkpoints_folder(config), job.rank(), job.size(), config.run.keep_checkpoints,
                                                 std::max(config.run.collective_timeout_seconds, 600.0)},
                       owned_state(engine->plan(), job.rank()), [&](std::span<std::byte* const> targets) { engine->copy_state(targets); });
      });
    std::optional<ForcedEnd> forced_end;
    if (writer) forced_end.emplace([&](int signal) { wait_for_checkpoint(job, setup, *writer, signal); });
    TrainRun run(job, setup, *engine, writer ? &*writer : nullptr);
    run.run();
    if (!arguments.save_model.empty()) {
      const auto read = [&](int unit, int index, std::vector<float>& out) { engine->read_parameter(unit, index, out); };
      if (job.speaks()) {
        for (const std::string& note : save_model(arguments.save_model, *setup.subject.model, origin_of(setup.config()), read))
          setup.log.warn(note);
        setup.log.line("model           " + arguments.save_model);
      } else {
        std::vector<float> values;
        for (size_t u = 0; u < setup.subject.model->units().size(); ++u)
          for (size_t i = 0; i < setup.subject.model->units()[u].parameters.size(); ++i)
            read(static_cast<int>(u), static_cast<int>(i), values);
      }
    }
    run.settle();
    run.finish();
    return run.stopped() ? status_of_signal(pending_signal()) : kDone;
  } catch (const std::exception& error) {
    setup.log.clear_status();
    keep_error(setup.log, error);
    const double seconds = setup.config().run.collective_timeout_seconds;
    return job.failed(
        error,
        [&] {
          if (writer) complete_checkpoint(job, setup, *writer, seconds);
        },
        seconds);
  }
}

// Of a run that has all its steps: nothing but its model is left to write.
int finished_before(Job& job, const TrainArguments& arguments, TrainSetup& setup) {
  const bool saves = !arguments.save_model.empty();
  setup.log.line(fmt::format("{} has {} of {} steps: the run is finished. A larger run.steps goes on{}", setup.checkpoint->directory(),
                             setup.first_step(), setup.config().run.steps,
                             saves ? "" : fmt::format("; `{} export` makes a model of it", program_name())));
  job.together("model of the finished run", [&] {
    if (!saves || !job.speaks()) return;
    claim_model_directory(arguments, setup);
    const ModelDefinition& model = *setup.subject.model;
    for (const std::string& note :
         save_model(arguments.save_model, model, origin_of(setup.config()), whole_parameters(model, parameters_of(*setup.checkpoint))))
      setup.log.warn(note);
    setup.log.line("model           " + arguments.save_model);
  });
  return kDone;
}

}  // namespace

int train(Job& job, const TrainArguments& given) {
  TrainArguments arguments = given;
  TrainSetup setup;
  setup.stop_after = arguments.stop_after;
  if (job.speaks()) setup.log = RunLog(stdout, stdout_terminal());
  setup.facts.threads = set_threads(job.cores());
  const std::string started = job.share("time of the start", time_for_names());
  const std::vector<std::string> automatic = settle_automatic(job, arguments, setup.facts.threads);
  job.together("configuration", [&] { setup.subject = load_subject(arguments, {.world = job.size(), .started = started}); });
  require_same_configuration(job, setup.subject);
  require_same_device(job, setup.config());
  job.together("limits of the process", [&] { require_open_files(setup.config(), job.size() - job.local_size()); });
  claim_folder(job, arguments, setup);
  for (const std::string& warning : setup.subject.loaded.warnings) setup.log.warn(warning);
  for (const std::string& line : automatic) setup.log.line(line);
  if (arguments.resume) setup.checkpoint = open_checkpoint(job, *arguments.resume, setup.config());
  std::vector<SharedInput> inputs;
  job.together("data and plan", [&] {
    prepare(job, setup);
    if (job.size() > 1) inputs = inputs_of(setup);
  });
  require_same_inputs(job, inputs);
  if (setup.checkpoint) {
    job.together("checkpoint of the run", [&] {
      for (const std::string& note : check_same_run(*setup.checkpoint, setup)) setup.log.line(note);
    });
    if (setup.first_step() >= setup.config().run.steps) return finished_before(job, arguments, setup);
    if (setup.stop_after > 0 && setup.first_step() >= setup.stop_after) {
      setup.log.line(fmt::format("{} has {} of {} steps: --stop-after {} leaves none to take", setup.checkpoint->directory(),
                                 setup.first_step(), setup.config().run.steps, setup.stop_after));
      return kDone;
    }
  }
  const Config& config = setup.config();
  if (config.run.checkpoint_interval > 0 || config.run.keep_best || config.run.trace) require_shared_output(job, config);
  job.together("other folders of the run", [&] { claim_other_folders(job, arguments, setup); });
  job.start(setup.config().run.collective_timeout_seconds);
  say_header(job, arguments, setup);
  if (setup.config().dump_state && job.speaks()) dump_state(setup);
  return run_engine(job, arguments, setup);
}

}  // namespace zerostep
