#include "launch/experiment_commands.h"

#include "launch/command_options.h"

namespace zerostep {
namespace {

constexpr const char* kAboutFolder = "a run's folder, or one that holds runs down to three levels below it";

void add_folder(CLI::App* sub, std::string& folder) {
  sub->add_option("FOLDER", folder, kAboutFolder)->capture_default_str()->type_name("RUN|FOLDER");
}

}  // namespace

ExperimentCommands::ExperimentCommands(Job& job, CLI::App& app, std::function<void(std::function<int()>)> run)
    : job_(job), run_(std::move(run)) {
  add_watch(app);
  add_runs(app);
  add_doctor(app);
  add_probe(app);
}

void ExperimentCommands::run_on_one_rank(CLI::App* sub, std::function<int()> command) {
  sub->callback([this, command = std::move(command)] { run_([this, command] { return job_.speaks() ? command() : kDone; }); });
}

void ExperimentCommands::add_watch(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("watch", "where runs are: step, loss with its curve, speed, time left, memory, load");
  sub->add_option("RUN|FOLDER", watch_.places, std::string(kAboutFolder) + "; several may be given")->capture_default_str();
  sub->add_flag("--once", watch_.once, "say it once and end");
  sub->add_flag("--json", watch_.json, "an object a run and a line, with the names of metrics.csv, each time");
  sub->add_option("--every", watch_.every, "seconds from one look to the next; 1 on a terminal and 10 elsewhere where it is missing")
      ->check(number(0.1, 86400.0));
  sub->footer(
      "\nOn a terminal the lines are redrawn in place; elsewhere a run has a line whenever it has come further. It ends when no run is\n"
      "running any more, or by Ctrl-C. A running run without a row of metrics.csv for 5 minutes is marked NO ROW.\n"
      "Examples: zerostep watch runs/first\n"
      "          zerostep watch runs --once --json | jq .loss");
  run_on_one_rank(sub, [this] { return watch(watch_); });
}

void ExperimentCommands::add_runs(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("runs", "lists runs, takes their old checkpoints away, or packs them");
  sub->require_subcommand(1);
  sub->footer("\nA run that is running is never touched.\nExample: zerostep runs prune runs --dry-run");
  CLI::App* list = sub->add_subcommand("list", "state, steps, last loss and size of each run");
  add_folder(list, list_.folder);
  list->add_flag("--json", list_.json, "one array of objects");
  run_on_one_rank(list, [this] { return list_runs(list_); });

  CLI::App* prune = sub->add_subcommand(
      "prune", "removes checkpoints but the latest, the best and the newest of each run, and what a resume or a crash has left of others");
  add_folder(prune, prune_.folder);
  prune->add_flag("--dry-run", prune_.dry_run, "say what would go, and how many bytes; nothing is changed");
  add_count(prune, "--keep", prune_.keep, "newest checkpoints that stay", 1, 1 << 20);
  prune->footer("\nEverything outside checkpoints/ stays: metrics, logs, configurations.");
  run_on_one_rank(prune, [this] { return prune_runs(prune_); });

  CLI::App* archive = sub->add_subcommand("archive", "packs each run as NAME.tar with the checksum of every file, read back and compared");
  add_folder(archive, archive_.folder);
  archive->add_flag("--dry-run", archive_.dry_run, "say what would be packed, and how many bytes; nothing is written");
  archive->add_option("--out", archive_.out, "the folder of the archives; beside each run's own where it is missing")->type_name("DIR");
  archive->add_flag("--without-checkpoints", archive_.without_checkpoints, "leave checkpoints/ out");
  archive->add_flag("--remove", archive_.remove, "remove a run's folder once its archive is on the disk and verified");
  archive->footer(
      "\nThe archive holds the folder and in it checksums.xxh128, which `xxh128sum -c checksums.xxh128` verifies where it is unpacked.\n"
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
      "Example: zerostep probe run.json --set step.mode=zo");
  sub->callback([this] { run_([this] { return probe(job_, probe_); }); });
}

}  // namespace zerostep
