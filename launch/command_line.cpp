#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <limits>
#include <sstream>

#include "base/console.h"
#include "base/error.h"
#include "base/program_name.h"
#include "launch/command_options.h"
#include "launch/commands/commands.h"
#include "launch/data_commands.h"
#include "launch/experiment_commands.h"
#include "launch/mistyped.h"
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

DType exported_type(const std::string& name) {
  for (DType type : {DType::F32, DType::BF16, DType::F16})
    if (name == name_of(type)) return type;
  fail_input("--dtype is '{}'; expected fp32, bf16 or fp16", name);
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
    add_init();
    add_eval();
    add_generate();
    add_predict();
    add_inspect();
    add_export();
    add_rebuild();
    const auto runs = [this](std::function<int()> command) { run_ = std::move(command); };
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

  // Of a command that writes a model.
  static void add_model_directory(CLI::App* sub, std::string& directory, bool& overwrite, const char* about) {
    sub->add_option("HF_DIR", directory, about)->required();
    sub->add_flag("--overwrite", overwrite, "write over a model or tokenizer files in HF_DIR, which is refused otherwise");
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

  void add_init() {
    CLI::App* sub =
        app_.add_subcommand("init", "writes the untrained model that `train FILE` would start from, as a Hugging Face directory");
    add_file(sub, init_);
    add_model_directory(sub, init_.directory, init_.overwrite, "the directory to write: config.json, model.safetensors, tokenizer files");
    sub->footer("\nExample: zerostep init run.json untrained/");
    run_on_one_rank(sub, [this] { return init(init_); });
  }

  void add_eval() {
    CLI::App* sub = app_.add_subcommand("eval", "loss and perplexity on data.eval; under mpirun shared by the ranks");
    add_file(sub, eval_);
    sub->add_option("--checkpoint,--model", eval_.model,
                    "the weights, a checkpoint or a Hugging Face directory; the model that training starts from where it is missing")
        ->type_name("CHECKPOINT|HF_DIR");
    add_device(sub, eval_);
    sub->add_flag("--json", eval_.json, "{\"loss\", \"perplexity\"}");
    sub->footer("\nExample: zerostep eval run.json --checkpoint model/ --json");
    sub->callback([this] { run_ = [this] { return eval(job_, eval_); }; });
  }

  void add_generate() {
    CLI::App* sub = app_.add_subcommand("generate", "text from a saved model");
    sub->add_option("--model,--checkpoint", generate_.model, "a checkpoint or a Hugging Face directory")
        ->required()
        ->type_name("CHECKPOINT|HF_DIR");
    sub->add_option("--prompt", generate_.prompt, "the text to continue; empty: a new document")->type_name("TEXT");
    add_count(sub, "--tokens", generate_.tokens, "at most so many tokens");
    sub->add_option("--temperature", generate_.temperature,
                    "below 1 likelier, above 1 more varied text; 0 always takes the likeliest token")
        ->check(number(0.0, 1e6))
        ->capture_default_str();
    add_count(sub, "--top-k", generate_.top_k, "sample among the K likeliest tokens; 0: all");
    add_count(sub, "--seed", generate_.seed, "the same seed gives the same text", 0, std::numeric_limits<int64_t>::max());
    sub->add_option("--tokenizer", generate_.tokenizer, "'byte' or tokenizer files, where the directory of the model has none")
        ->type_name("PATH");
    sub->add_flag("--ignore-end", generate_.ignore_end, "go on after an end-of-document token");
    sub->add_flag("--only-new", generate_.only_new, "do not print the prompt");
    sub->footer("\nExample: zerostep generate --model model/ --prompt 'namespace ' --tokens 200 --temperature 0.8 --top-k 40 --seed 1");
    run_on_one_rank(sub, [this] { return generate(generate_); });
  }

  void add_predict() {
    CLI::App* sub = app_.add_subcommand("predict", "the classes of texts by a trained classifier, with their probabilities");
    sub->add_option("--model,--checkpoint", predict_.model, "the classifier, a checkpoint or a Hugging Face directory")
        ->required()
        ->type_name("CHECKPOINT|HF_DIR");
    sub->add_option("--input", predict_.input, "the table of texts, of a kind that data.train takes; labels in it are not looked at")
        ->required()
        ->type_name("FILE");
    sub->add_option(
           "--output", predict_.output,
           "the table to write, a .tsv, .csv or .jsonl: a row for each row of the input, in its order (a blank line of a .tsv or .csv of "
           "one column is an empty text; other blank lines are no rows, and counted)")
        ->required()
        ->type_name("FILE");
    CLI::Option* field = sub->add_option("--text-field", predict_.text_field,
                                         "the column or field that holds the text; digits are a column's position from 0")
                             ->type_name("NAME")
                             ->capture_default_str();
    sub->add_option("--text", predict_.text,
                    "the text of a row as a template of its columns or fields, as a source's \"text\" in training: 'Review: {sentence}'")
        ->type_name("TEMPLATE")
        ->excludes(field);
    add_count(sub, "--batch-size", predict_.batch_size, "texts that are computed together", 1, 1 << 20);
    sub->add_option("--device", predict_.device, "cpu, cuda or auto (a GPU where one answers)")
        ->type_name("cpu|cuda|auto")
        ->capture_default_str();
    sub->add_option("--tokenizer", predict_.tokenizer, "'byte' or tokenizer files, where the directory of the model has none")
        ->type_name("PATH");
    sub->footer(
        "\nColumns: label, probability (the label's), margin (by how much it leads the next one), probability_NAME of each class.\n"
        "Texts longer than the model sees are cut, and counted. --output appears complete or not at all, and replaces predictions alone.\n"
        "A classifier that was trained with a template (\"text\" of a source) is to be given the same template by --text.\n"
        "Examples: zerostep predict --model model/ --input reviews.jsonl --output classes.tsv --text-field review\n"
        "          zerostep predict --model model/ --input sst2.parquet --output classes.tsv --text 'Review: {sentence}'");
    run_on_one_rank(sub, [this] { return predict(predict_); });
  }

  void add_rebuild() {
    CLI::App* sub = app_.add_subcommand("rebuild", "the weights of a forward-only run from its base weights and its log of scalars");
    sub->add_option("--base", rebuild_.base, "the weights the run began with (`zerostep init`), a Hugging Face directory")
        ->required()
        ->type_name("HF_DIR");
    sub->add_option("--log", rebuild_.log, "zo_log.jsonl in the run's folder, beside its config.json")->required()->type_name("ZO_LOG");
    add_model_directory(sub, rebuild_.directory, rebuild_.overwrite, "the directory to write");
    sub->footer("\nExample: zerostep init run.json base/ && zerostep rebuild --base base/ --log runs/first/zo_log.jsonl rebuilt/");
    run_on_one_rank(sub, [this] { return rebuild(rebuild_); });
  }

  void add_inspect() {
    CLI::App* sub = app_.add_subcommand("inspect", "batches, model or noise of a configuration, as JSON; a checkpoint, presets");
    sub->require_subcommand(1);
    sub->footer(
        "\nExample: zerostep inspect batches run.json --steps 2\n         zerostep inspect checkpoint "
        "runs/first/checkpoints/step_00001000");
    CLI::App* batches =
        sub->add_subcommand("batches", "JSON lines {step, samples, labels, sources}: the global batches that `train` sees, steps from 0");
    add_file(batches, batches_);
    add_count(batches, "--steps", batches_.steps, "how many");
    add_count(batches, "--first", batches_.first_step, "from this step on");
    add_count(batches, "--world", batches_.world, "ranks, where the file gives only the micro-batch of one", 1, kMostRanks);
    batches->footer(
        "\nA sample of a language model has one token more than its length (data.sequence_length): the tokens from the second on are\n"
        "the labels of those before them. A classifier's samples are texts without their padding.");
    run_on_one_rank(batches, [this] { return inspect_batches(batches_); });
    CLI::App* model = sub->add_subcommand("model", "units and parameters with shapes and first global element, and the number of elements");
    add_file(model, model_);
    run_on_one_rank(model, [this] { return inspect_model(model_); });
    CLI::App* checkpoint = sub->add_subcommand("checkpoint", "a checkpoint's manifest in words, every checksum verified");
    checkpoint->add_option("DIR", checkpoint_, "the checkpoint: runs/NAME/checkpoints/step_..., or .../latest, which stands for the newest")
        ->required();
    run_on_one_rank(checkpoint, [this] { return inspect_checkpoint(checkpoint_); });
    CLI::App* noise = sub->add_subcommand("noise", "JSON array: elements of a direction z of a forward-only step");
    add_file(noise, noise_);
    add_count(noise, "--step", noise_.step, "of the run, from 0");
    add_count(noise, "--direction", noise_.direction, "of the step, from 0");
    add_count(noise, "--begin", noise_.begin, "first global element (`inspect model` says where parameters begin)");
    add_count(noise, "--count", noise_.count, "how many");
    run_on_one_rank(noise, [this] { return inspect_noise(noise_); });
    CLI::App* presets = sub->add_subcommand("presets", "the models that model.preset names, with their sizes and numbers of parameters");
    presets->add_flag("--json", presets_json_, "one array of objects");
    run_on_one_rank(presets, [this] { return inspect_presets(presets_json_); });
  }

  void add_export() {
    CLI::App* sub = app_.add_subcommand("export", "a checkpoint as a Hugging Face directory");
    sub->add_option("CHECKPOINT", export_.checkpoint,
                    "the checkpoint: runs/NAME/checkpoints/step_..., or .../latest, which stands for the newest")
        ->required();
    add_model_directory(sub, export_.directory, export_.overwrite,
                        "the directory to write: config.json, model.safetensors, tokenizer files");
    sub->add_option_function<std::string>(
           "--dtype", [this](const std::string& name) { export_.type = exported_type(name); },
           "the type of the values: fp32 as they were trained, or bf16 or fp16, rounded to nearest, in half the bytes")
        ->type_name("fp32|bf16|fp16")
        ->default_str("fp32");
    sub->footer(
        "\nExample: zerostep export runs/first/checkpoints/step_00001000 model/\n"
        "         zerostep export runs/first/checkpoints/latest model/ --dtype bf16");
    run_on_one_rank(sub, [this] { return export_checkpoint(export_); });
  }

  Job& job_;
  CLI::App app_;
  std::function<int()> run_;
  TrainArguments train_;
  std::string resume_, checkpoint_;
  bool overwrite_ = false, presets_json_ = false;
  ExportArguments export_;
  PlanArguments plan_;
  BenchMachineArguments bench_;
  ShowConfigArguments config_;
  InitArguments init_;
  EvalArguments eval_;
  GenerateArguments generate_;
  PredictArguments predict_;
  InspectBatchesArguments batches_;
  InspectNoiseArguments noise_;
  RebuildArguments rebuild_;
  ConfigArguments model_;
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
