#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/format.h"
#include "base/process_limits.h"
#include "base/program_name.h"
#include "launch/agreement.h"
#include "launch/automatic.h"
#include "launch/commands/commands.h"
#include "launch/device.h"
#include "launch/last_checkpoint.h"
#include "launch/machine.h"
#include "launch/model_directory.h"
#include "launch/model_files.h"
#include "launch/needed_folders.h"
#include "launch/rank_devices.h"
#include "launch/signals.h"
#include "launch/train_folders.h"
#include "launch/train_header.h"
#include "launch/train_run.h"
#include "models/error_text.h"
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
    job.together("start of the run", [&] { begin_folder(job, setup); });
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
