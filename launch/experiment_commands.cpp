#include "launch/experiment_commands.h"

#include <fmt/format.h>

#include <charconv>

#include "base/error.h"
#include "experiments/plot/views.h"
#include "launch/command_options.h"

namespace zerostep {
namespace {

constexpr const char* kAboutFolder = "a run's folder, or one that holds runs down to three levels below it";

// Of what removes or packs: it guesses none.
void add_named_folder(CLI::App* sub, std::string& folder) {
  sub->add_option("FOLDER", folder, kAboutFolder)->required()->type_name("RUN|FOLDER");
}

// "960x600". A smaller picture than 400x300 has no room for its texts.
PictureSize picture_size(const std::string& text) {
  constexpr int64_t kLeastWidth = 400, kLeastHeight = 300, kMost = 10000;
  const size_t middle = text.find('x');
  const auto side = [&](std::string_view digits, int64_t least) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (middle == text.npos || error != std::errc() || end != digits.data() + digits.size() || value < least || value > kMost)
      fail_input("--size {}: expected WIDTHxHEIGHT in pixels, as 960x600, from {}x{}, below which texts have no room, to {}x{}", text,
                 kLeastWidth, kLeastHeight, kMost, kMost);
    return static_cast<double>(value);
  };
  return {side(std::string_view(text).substr(0, middle), kLeastWidth), side(std::string_view(text).substr(middle + 1), kLeastHeight)};
}

}  // namespace

ExperimentCommands::ExperimentCommands(Job& job, CLI::App& app, const std::string& asked, std::function<void(std::function<int()>)> run)
    : job_(job), run_(std::move(run)) {
  plot_.command = sweep_.command = asked;
  add_sweep(app);
  add_plot(app);
  add_watch(app);
  add_runs(app);
  add_doctor(app);
  add_probe(app);
}

void ExperimentCommands::run_on_one_rank(CLI::App* sub, std::function<int()> command) {
  sub->callback([this, command = std::move(command)] { run_([this, command] { return job_.speaks() ? command() : kDone; }); });
}

void ExperimentCommands::add_sweep(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("sweep", "many runs of one file with other values, as many at once as the machine has room for");
  sub->add_option("FILE", sweep_.file, "the sweep file (JSON with comments)")->required();
  add_set(sub, sweep_.set, "change one value of every run");
  sub->add_option("--jobs", sweep_.jobs, "runs at once; as resources.jobs, else as many as the cores or GPUs have room for")
      ->transform(number<int64_t>(1, 4096));
  sub->add_option("--ranks", sweep_.ranks, "ranks of each run; as resources.ranks, else 1")->transform(number<int64_t>(1, 4096));
  sub->add_option("--gpus", sweep_.gpus,
                  "GPUs that the runs share out, each for one run at a time; as resources.gpus, else all that are seen")
      ->type_name("0,1,...");
  sub->add_option("--only", sweep_.only,
                  "start the runs whose names the pattern matches alone (* stands for any text); of --resume: the rows of the others stay")
      ->type_name("PATTERN");
  sub->add_flag("--dry-run", sweep_.is_dry_run, "list every run with its planned memory, FLOPs and time; start nothing");
  CLI::Option* resume = sub->add_flag(
      "--resume", sweep_.resumes,
      "go on with the sweep in the folder: what is done or archived stays, what was interrupted or killed goes on from its checkpoint");
  sub->add_flag("--retry-failed", sweep_.retries_failed, "of --resume: start failed runs again too")->needs(resume);
  sub->add_flag("--stop-on-failure", sweep_.stops_on_failure, "start no further run once one has failed");
  sub->add_option("--executor", sweep_.executor, "where runs are started: local or slurm; as resources.executor, else local")
      ->type_name("local|slurm");
  sub->footer(
      "\nThe file has `base` (a run's file, or its configuration), `grid` (keys and their values), and optionally `when`, `runs`, "
      "`repeat`,\n"
      "`resources`, `search`, `name` and `output_dir`; docs/experiments.md says how. Leaves <output_dir>/<name>/: a run's folder for "
      "each\n"
      "point, runs.csv, journal.jsonl, summary.txt, summary.csv and report.html.\n"
      "SIGINT: the runs stop, and save where run.checkpoint_interval is set; --resume goes on; a second one ends them at once.\n"
      "Example: zerostep sweep configs/sweeps/quick.json --dry-run\n"
      "Exit status: 0 all runs are done, 1 some are not, 2 the file is wrong and nothing was started, 130 or 143 interrupted.");
  sub->callback([this] { run_([this] { return sweep(job_, sweep_); }); });
}

void ExperimentCommands::add_plot(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("plot", "pictures and a report of runs, finished or not");
  sub->add_option("RUN", plot_.places, "folders of runs, folders that hold such folders, or CSV files with a column loss")
      ->required()
      ->type_name("| FOLDER | CSV");
  const auto add_list = [sub](const char* name, std::vector<std::string>& values, const char* about, const char* type) {
    return sub->add_option(name, values, about)->delimiter(',')->type_name(type)->allow_extra_args(false);
  };
  std::string views = "which pictures, with commas; where it is missing all that have something to show";
  for (const View& view : all_views()) views += fmt::format("\n{}: {}", view.name, view.shows);
  add_list("--view", plot_.views, views.c_str(), "NAMES");
  sub->add_option("--x", plot_.x,
                  "step, seconds, tokens, forwards (passes through the model), bytes (received by a rank), or a column; without it and "
                  "--view step, and of runs whose steps cost different things the loss over seconds and forwards too")
      ->type_name("COLUMN");
  add_list("--y", plot_.y, "columns instead of the loss, with commas; views with one curve a run take the first", "COLUMNS");
  sub->add_option("--by", plot_.by, "one color for each value of a key of the configuration; its last parts suffice (queries, params.lr)")
      ->type_name("KEY");
  sub->add_option("--smooth", plot_.smooth, "draw exponential means too: each value counts A times the one after it")
      ->check(number(0.0, 0.9999))
      ->type_name("A");
  sub->add_flag("--log", plot_.is_log, "logarithmic values; memory, which has bars from 0, and cosines stay as they are");
  add_list("--format", plot_.formats, "svg, png, pdf, with commas; png and pdf need cairo", "FORMATS")->default_str("svg");
  sub->add_option_function<std::string>(
         "--size", [this](const std::string& text) { plot_.size = picture_size(text); },
         "pixels of a picture, 400x300 at least; 960x600 where it is missing")
      ->type_name("WIDTHxHEIGHT");
  sub->add_option("--out", plot_.out, "the folder to write; `plots` in the only folder that is given, or else here")->type_name("DIR");
  sub->add_flag("--summary", plot_.summary, "print the table of runs instead of the names of the files");
  sub->add_flag("--json", plot_.json, "print the table of runs as JSON");
  sub->footer(
      "\nWrites each picture with the values that it shows as NAME.tsv, report.html (one file, which loads nothing), summary.csv and\n"
      "summary.txt. The final loss is the mean of the last 5 % of the rows that have a loss. docs/experiments.md says what each view and\n"
      "axis is.\n"
      "Examples: zerostep plot runs/first\n"
      "          zerostep plot runs --view loss,compare --x seconds --by queries --smooth 0.9 --format svg,pdf\n"
      "          zerostep plot runs --summary --json");
  run_on_one_rank(sub, [this] { return zerostep::plot(job_, plot_); });
}

void ExperimentCommands::add_watch(CLI::App& app) {
  CLI::App* sub =
      app.add_subcommand("watch", "where runs are: step, last loss with the curve of all, evaluation, speed, time left, memory, load");
  sub->add_option("RUN|FOLDER", watch_.places, std::string(kAboutFolder) + "; several may be given")->capture_default_str();
  sub->add_flag("--once", watch_.once, "say it once and end");
  sub->add_flag("--json", watch_.json, "an object a run and a line, with the names of metrics.csv, each time");
  sub->add_option("--every", watch_.every, "seconds from one look to the next; 1 on a terminal and 10 elsewhere where it is missing")
      ->check(number(0.1, 86400.0));
  sub->footer(
      "\nOn a terminal the lines are redrawn in place; elsewhere a run has a line whenever it has come further. It ends when no run is\n"
      "running any more, or by Ctrl-C. A running run without a row of metrics.csv for 5 minutes, or for 3 of its steps where these take\n"
      "longer, is marked NO ROW.\n"
      "Examples: zerostep watch runs/first\n"
      "          zerostep watch runs --once --json | jq .loss");
  run_on_one_rank(sub, [this] { return watch(watch_); });
}

void ExperimentCommands::add_runs(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("runs", "lists runs, takes their old checkpoints away, or packs them");
  sub->require_subcommand(1);
  sub->footer("\nA run that is running is never touched.\nExample: zerostep runs prune runs --dry-run");
  CLI::App* list = sub->add_subcommand("list", "state, steps, last and final loss, evaluations and size of each run");
  list->add_option("RUN|FOLDER", list_.places, std::string(kAboutFolder) + "; several may be given")->capture_default_str();
  list->add_flag("--json", list_.json, "one array of objects");
  run_on_one_rank(list, [this] { return list_runs(list_); });

  CLI::App* prune = sub->add_subcommand(
      "prune", "removes checkpoints but the latest, the best and the newest of each run, and what a resume or a crash has left of others");
  add_named_folder(prune, prune_.folder);
  prune->add_flag("--dry-run", prune_.dry_run, "say what would go, and how many bytes; nothing is changed");
  add_count(prune, "--keep", prune_.keep, "newest checkpoints that stay", 1, 1 << 20);
  prune->footer("\nEverything outside checkpoints/ stays: metrics, logs, configurations.");
  run_on_one_rank(prune, [this] { return prune_runs(prune_); });

  CLI::App* archive = sub->add_subcommand("archive", "packs each run as NAME.tar with the checksum of every file, read back and compared");
  add_named_folder(archive, archive_.folder);
  archive->add_flag("--dry-run", archive_.dry_run, "say what would be packed, and how many bytes; nothing is written");
  archive->add_option("--out", archive_.out, "the folder of the archives; beside each run's own where it is missing")->type_name("DIR");
  archive->add_flag("--without-checkpoints", archive_.without_checkpoints, "leave checkpoints/ out");
  archive->add_flag("--remove", archive_.remove, "remove a run's folder once its archive is on the disk and verified");
  archive->footer(
      "\nThe archive holds the folder and in it checksums.xxh128, which `xxh128sum -c checksums.xxh128` (package xxhash) verifies where\n"
      "it is unpacked.\n"
      "An archive that is there already is never written over. --remove takes the checkpoints too, unless --without-checkpoints is given,\n"
      "with which it is refused.");
  run_on_one_rank(archive, [this] { return archive_runs(archive_); });
}

void ExperimentCommands::add_doctor(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("doctor", "checks this machine, and a file's run on it: ok, warning or error, and what helps");
  add_file(sub, doctor_, /*required=*/false);
  add_device(sub, doctor_);
  sub->add_flag("--json", doctor_.json, "one object");
  sub->footer(
      "\nOf the machine: cores, threads, memory, /dev/shm, locked memory, MPI between two ranks, LibTorch, 16-bit arithmetic, kernels, "
      "disk,\n"
      "GPU, NCCL, measured figures. With FILE its tokenizer, data, model, plan, one forward, disk.\n"
      "Exit status: 0 where nothing is an error, else 1.\n"
      "Example: zerostep doctor run.json");
  sub->callback([this] { run_([this] { return doctor(job_, doctor_); }); });
  CLI::App* ranks = app.add_subcommand("doctor-ranks", "what doctor starts under mpirun")->group("");
  ranks->callback([this] { run_([this] { return doctor_ranks(job_); }); });
}

void ExperimentCommands::add_probe(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("probe", "the epsilon and the learning rate that suit a file's model, type and batch");
  add_file(sub, probe_);
  add_device(sub, probe_);
  add_count(sub, "--directions", probe_.directions, "random directions along which each epsilon is tried", 1, 1024);
  add_count(sub, "--steps", probe_.steps, "optimizer steps at each learning rate", 1, 100000);
  sub->add_flag("--json", probe_.json, "{\"epsilon\": {\"recommended\", \"table\"}, \"lr\": {\"recommended\", \"table\"}}");
  sub->footer(
      "\nEpsilon: the differences of the loss that the file's queries give against the derivative of backprop in fp32 along the same\n"
      "directions, on the first batch. Learning rate: short runs of the file's mode and optimizer from the same weights on the same "
      "batches\n"
      "at a constant rate. Trains nothing that stays. One rank. docs/watching.md says how to read it.\n"
      "Recommended are the middle of the epsilons around the lowest error whose error is at most twice that, and half a decade below the\n"
      "lowest rate that lowers the loss by 90 % of what the best one does, which twice the --steps move by half a decade as a rule.\n"
      "Example: zerostep probe run.json --set step.mode=zo");
  sub->callback([this] { run_([this] { return probe(job_, probe_); }); });
}

}  // namespace zerostep
