#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <optional>
#include <sstream>

#include "base/console.h"
#include "base/error.h"
#include "base/program_name.h"
#include "launch/command_options.h"
#include "launch/commands/commands.h"
#include "launch/data_commands.h"
#include "launch/experiment_commands.h"
#include "launch/mistyped.h"
#include "launch/model_commands.h"
#include "runtime/timing/measure_machine.h"

namespace zerostep {
namespace {

constexpr const char* kAbout =
    "Trains neural networks whose parameters, gradients and optimizer state are sharded over MPI ranks, from one DeepSpeed-style "
    "JSON file.";

constexpr const char* kFooter = R"(
Examples:
  zerostep config --keys                              every key of the configuration file
  zerostep plan run.json --world 4                    memory and traffic of a step on 4 ranks, before anything runs
  mpirun -np 4 zerostep train run.json                4 ranks; without mpirun one rank
  zerostep train run.json --set run.steps=10          one value of the file changed
  zerostep eval run.json --checkpoint model/          loss of a saved model
  zerostep generate --model model/ --prompt 'Once'    text from it
  zerostep predict --model model/ --input a.tsv --output b.tsv   classes of texts
  zerostep plot runs                                  curves and a report of all runs below a folder
  zerostep watch runs                                 where the runs in that folder are
  zerostep doctor run.json                            whether this machine and the file are as a run needs them

Exit status: 0 done; 2 the input is wrong and nothing was started; 1 the run failed; 130 or 143 interrupted by SIGINT or SIGTERM, after the
step. SIGUSR1 to the job: finish the step, exit 0. `zerostep COMMAND --help` says more.)";

// "" names nothing: most likely a variable of a script is not set. A prompt alone may be empty.
void refuse_empty_arguments(int argc, char** argv) {
  constexpr std::string_view kPrompt = "--prompt";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i], before = argv[i - 1];
    if (argument == "--") return;
    if (argument.empty() && before != kPrompt)
      fail_input("{} is empty, which names nothing",
                 before.starts_with("--") ? fmt::format("the value of {}", before) : fmt::format("argument {}", i));
    if (argument.starts_with("--") && argument.ends_with('=') && argument.find('=') == argument.size() - 1 && before != "--set" &&
        argument != "--prompt=")
      fail_input("the value of {} is empty, which names nothing", argument.substr(0, argument.size() - 1));
  }
}

// The arguments as a shell takes them.
std::string text_of_arguments(int argc, char** argv) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=.,:/@%";
  std::string out = program_name();
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    out += ' ';
    if (!argument.empty() && argument.find_first_not_of(kPlain) == argument.npos) {
      out += argument;
      continue;
    }
    out += '\'';
    for (char c : argument) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    out += '\'';
  }
  return out;
}

// The commands as CLI11 knows them. A parsed command is `run`.
class CommandLine {
 public:
  // `asked`: the whole command, for what is written about it.
  CommandLine(Job& job, const std::string& asked) : job_(job), app_(kAbout, "zerostep") {
    app_.footer(kFooter);
    app_.require_subcommand(1);
    app_.set_version_flag("--version", "zerostep " ZEROSTEP_VERSION);
    app_.get_formatter()->column_width(34);
    add_train();
    add_plan();
    add_bench();
    add_config();
    const auto runs = [this](std::function<int()> command) { run_ = std::move(command); };
    models_.emplace(job_, app_, runs);
    experiments_.emplace(job_, app_, asked, runs);
    data_.emplace(job_, app_, runs);
  }

  CLI::App& app() { return app_; }
  int run() { return run_ ? run_() : kWrongInput; }

 private:
  // Commands that need one process run on rank 0 alone.
  template <typename Command>
  void run_on_one_rank(CLI::App* sub, Command command) {
    sub->callback([this, command] { run_ = [this, command] { return job_.speaks() ? command() : kDone; }; });
  }

  void add_train() {
    CLI::App* sub = app_.add_subcommand("train", "trains; mpirun -np N zerostep train FILE is N ranks");
    add_file(sub, train_);
    sub->add_option(
           "--save-model", train_.save_model,
           "write the trained weights at the end as a Hugging Face directory; one that holds a model is refused without --overwrite")
        ->type_name("HF_DIR");
    CLI::Option* resume =
        sub->add_option(
               "--resume", resume_,
               "go on from a checkpoint (runs/NAME/checkpoints/step_..., or .../latest, the newest); alone: from the latest of the run")
            ->expected(0, 1)
            ->type_name("[CHECKPOINT]");
    sub->add_option("--stop-after", train_.stop_after,
                    "stop after so many steps of the run, with a checkpoint where checkpoints are on; --resume goes on to run.steps")
        ->transform(number<int64_t>(1, int64_t{1} << 40));
    sub->add_flag("--overwrite", overwrite_,
                  "begin anew in a folder that holds a run, whose files go, and write over a model in --save-model; as run.overwrite")
        ->excludes(resume);
    add_device(sub, train_);
    sub->footer(
        "\nLeaves <run.output_dir>/<run.name>/: config.json (resolved, a valid input), plan.json, metrics.csv (a row a step), log.txt,\n"
        "and, with run.checkpoint_interval, checkpoints/, from which --resume goes on with any number of ranks at any stage.\n"
        "A folder that holds a run already is refused; without run.name the folder is named by mode, date and time.\n"
        "Shows a progress line on a terminal, plain lines every steps_per_print elsewhere.\n"
        "Example: mpirun -np 2 zerostep train run.json --set zero_optimization.stage=3 --set run.name=stage3\n"
        "SIGINT, SIGTERM and SIGUSR1 end it after the step, with a checkpoint where checkpoints are on.\n"
        "Exit status: 0 done, 2 wrong input (nothing was started), 1 the run failed, 130/143 after SIGINT/SIGTERM, 0 after SIGUSR1.");
    sub->callback([this, resume] {
      if (resume->count() > 0) train_.resume = resume_;
      if (overwrite_) train_.set.push_back({"run.overwrite=true", "--overwrite"});
      run_ = [this] { return train(job_, train_); };
    });
  }

  void add_plan() {
    CLI::App* sub = app_.add_subcommand("plan", "the plan of one step and its cost, without training or allocating");
    add_file(sub, plan_);
    add_device(sub, plan_);
    sub->add_option("--world", plan_.world, "ranks to plan for; where it is missing 1, or one host of --machine")
        ->transform(number<int64_t>(1, kMostRanks));
    sub->add_option(
           "--ranks-per-node", plan_.ranks_per_node,
           "ranks that share the memory of one machine; where it is missing as many as this machine has cores, or as --machine says, "
           "--world at most")
        ->transform(number<int64_t>(1, kMostRanks));
    sub->add_option("--machine", plan_.machine,
                    "predict the time of a step, and whether it fits, for the machine that a JSON file describes")
        ->type_name("FILE");
    sub->add_option("--trace", plan_.trace, "write the predicted lanes of the step as a Chrome trace")->type_name("FILE");
    sub->add_flag("--json", plan_.json, "one JSON object with the names of the metrics columns, for the busiest rank");
    sub->add_flag("--actions", plan_.actions, "every action of the step, in order, with its lane and what it waits for");
    sub->add_flag("--verify", plan_.verify, "proves that the step's lanes cannot race; exit status 1 where they could");
    CLI::Option* fit = sub->add_flag(
        "--fit", plan_.fit,
        "search the stage, tiers, micro-batch, recomputation, queries a pass and limits of stage 3 for the fastest step that fits, and "
        "write them as a file for `train`: the keys that the file leaves out or calls \"auto\" are chosen, those that it gives are kept");
    sub->add_option("--out", plan_.out, "of --fit: the file to write; FILE with .fit.json where it is missing")
        ->type_name("FILE")
        ->needs(fit);
    for (const char* other : {"--trace", "--actions", "--verify"}) fit->excludes(sub->get_option(other));
    sub->footer(
        "\nThe time of a step is predicted where `zerostep bench machine` has measured this machine, or --machine describes another.\n"
        "Examples: zerostep plan run.json --world 1024 --ranks-per-node 8 --set run.device_memory=80000000000\n"
        "          zerostep plan run.json --fit --machine configs/machines/8xh100.json --world 8\n"
        "Exit status: 0 it fits, 2 it does not (the plan is printed all the same) or the input is wrong.");
    run_on_one_rank(sub, [this] { return plan_.fit ? zerostep::fit(plan_) : plan(plan_); });
  }

  void add_bench() {
    CLI::App* sub = app_.add_subcommand("bench", "measures this machine, so that plans have times");
    sub->require_subcommand(1);
    sub->footer("\nExample: zerostep bench machine --out this.json");
    CLI::App* machine = sub->add_subcommand(
        "machine",
        "products, memory, noise, updates, copies, files and collectives, in less than a minute; mpirun -np N zerostep bench machine: of N "
        "ranks");
    machine
        ->add_option(
            "--device", bench_.device,
            "what to measure, with the host beside it: cpu, cuda or auto (a GPU where one answers); figures of both are kept side by "
            "side")
        ->type_name("cpu|cuda|auto")
        ->capture_default_str();
    machine->add_option("--out", bench_.file, "write the figures as a machine file too (of several numbers of ranks: of the most)")
        ->type_name("FILE");
    machine->add_option("--scratch", bench_.scratch, "a folder on the disk to measure; that of temporary files where it is missing")
        ->type_name("DIR");
    machine
        ->add_option("--ranks", bench_.ranks,
                     "ranks that work at once on the processor, as threads of this process; where it is missing one, and then as many as "
                     "there are cores. Of ranks on GPUs mpirun starts each")
        ->transform(number<int64_t>(1, 4096));
    machine
        ->add_option(
            "--seconds", bench_.seconds,
            "about how long it takes at most, two thirds of it where nothing has to be measured again; figures of less than 20 for each "
            "number of ranks are rougher, and each rank needs half a second of a core")
        ->check(number(kLeastMeasureSeconds, 3600.0))
        ->capture_default_str();
    machine->add_flag("--force", bench_.replaces_any,
                      "keep the figures even where steadier ones are kept, or those of a measurement that took longer");
    machine->footer(
        "\nKeeps the figures in $XDG_CACHE_HOME/zerostep/machines (~/.cache), where plans find them by processor, GPU, ranks and threads.\n"
        "Measure while nothing else runs: what was disturbed is measured again, and otherwise the figures are marked as unsteady.\n"
        "docs/planning.md says what is measured and what is in the file.\n"
        "Examples: zerostep bench machine --scratch /nvme\n"
        "          mpirun -np 8 zerostep bench machine --device cuda");
    machine->callback([this] { run_ = [this] { return bench_machine(job_, bench_); }; });
  }

  void add_config() {
    CLI::App* sub = app_.add_subcommand("config", "the resolved configuration with the origin of each value, or every known key");
    add_file(sub, config_, false);
    sub->add_flag("--keys", config_.keys, "every known key: its list (honoured, accepted, refused), type, default and meaning");
    sub->add_flag("--json", config_.json, "the resolved configuration as plain JSON, a valid input");
    add_count(sub, "--world", config_.world, "ranks, for the batch arithmetic", 1, kMostRanks);
    sub->footer(
        "\nExample: zerostep config run.json --world 4 --set zero_optimization.stage=3\n         zerostep config --keys | grep preset");
    sub->callback([this] {
      if (config_.file.empty() && !config_.keys) fail_input("config: expected a FILE, or --keys; see `{} config --help`", program_name());
      run_ = [this] { return job_.speaks() ? show_config(config_) : kDone; };
    });
  }

  Job& job_;
  CLI::App app_;
  std::function<int()> run_;
  TrainArguments train_;
  std::string resume_;
  bool overwrite_ = false;
  PlanArguments plan_;
  BenchMachineArguments bench_;
  ShowConfigArguments config_;
  std::optional<ModelCommands> models_;
  std::optional<ExperimentCommands> experiments_;
  std::optional<DataCommands> data_;
};

}  // namespace

int run_command_line(Job& job, int argc, char** argv) {
  CommandLine line(job, text_of_arguments(argc, argv));
  refuse_empty_arguments(argc, argv);
  try {
    line.app().parse(argc, argv);
  } catch (const CLI::Success& asked) {
    std::ostringstream text;
    if (job.speaks()) line.app().exit(asked, text, text);
    print_out(dynamic_cast<const CLI::CallForVersion*>(&asked) != nullptr ? text.str() : as_called(text.str()));
    return kDone;
  } catch (const CLI::ParseError& error) {
    throw InputError(argument_error(line.app(), error.what(), argc, argv));
  }
  return line.run();
}

}  // namespace zerostep
