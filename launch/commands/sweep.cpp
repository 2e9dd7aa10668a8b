#include "experiments/sweep/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <iterator>
#include <thread>

#include "base/console.h"
#include "base/core_set.h"
#include "base/device.h"
#include "base/error.h"
#include "base/first_names.h"
#include "base/format.h"
#include "base/nearest_name.h"
#include "base/process_memory.h"
#include "base/program_name.h"
#include "base/signal_name.h"
#include "experiments/records/read_file.h"
#include "experiments/records/run_record.h"
#include "experiments/report/plot.h"
#include "experiments/sweep/former_base.h"
#include "experiments/sweep/former_runs.h"
#include "experiments/sweep/halving.h"
#include "experiments/sweep/journal.h"
#include "experiments/sweep/machine_shares.h"
#include "experiments/sweep/reasons.h"
#include "experiments/sweep/saved_runs.h"
#include "experiments/sweep/screens.h"
#include "experiments/sweep/sweep_folder.h"
#include "experiments/sweep/too_large.h"
#include "experiments/text/text_table.h"
#include "launch/commands/commands.h"
#include "launch/evaluation.h"
#include "launch/machine.h"
#include "launch/signals.h"
#include "launch/sweep_gpus.h"
#include "launch/sweep_plans.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/config/document.h"
#include "runtime/config/values.h"
#include "runtime/report/csv_cells.h"
#include "runtime/report/metrics.h"
#include "runtime/report/output_file.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;

std::vector<int> numbers_of_gpus(const std::string& text) {
  std::vector<int> out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    int value = -1;
    const auto [rest, error] = std::from_chars(text.data() + begin, text.data() + end, value);
    if (error != std::errc() || rest != text.data() + end || value < 0)
      fail_input("--gpus is '{}'; the numbers of GPUs are expected, as in 0,1", text);
    out.push_back(value);
    begin = end + 1;
  }
  return out;
}

void apply(const SweepArguments& arguments, SweepFile& file) {
  if (arguments.jobs > 0) file.resources.jobs = arguments.jobs;
  if (arguments.ranks > 0) file.resources.ranks = arguments.ranks;
  if (!arguments.gpus.empty()) file.resources.gpus = numbers_of_gpus(arguments.gpus);
  if (!arguments.executor.empty() && arguments.executor != "local" && arguments.executor != "slurm")
    fail_input("--executor is '{}'; local or slurm is expected", arguments.executor);
  if (!arguments.executor.empty()) file.resources.uses_slurm = arguments.executor == "slurm";
}

SweepBase base_of(const SweepFile& file) {
  if (file.base.empty()) return {file.file + ": base", file.inline_base.dump(2)};
  return {file.base, read_file(file.base)};
}

// That its runs have the metric and the steps, as far as their files tell.
void check_search(const SweepFile& file, const SweepRequest& request) {
  constexpr std::array<std::string_view, 6> kTexts{"timestamp", "step", "mode", "scope", "optimizer", "loss_kind"};
  const SweepSearch& search = *file.search;
  const std::vector<std::string> of_sets =
      request.points.empty() ? std::vector<std::string>() : columns_of_sets(request.points.front().loaded.config);
  const std::vector<std::string> columns = csv_cells(metrics_header(of_sets));
  std::vector<std::string_view> names(columns.begin(), columns.end());
  std::erase_if(names, [&](std::string_view name) { return std::find(kTexts.begin(), kTexts.end(), name) != kTexts.end(); });
  if (std::find(names.begin(), names.end(), search.metric) == names.end()) {
    const std::string_view nearest = nearest_name(search.metric, names);
    fail_input("{}: search.metric is '{}', which is no column of metrics.csv that could be compared; {}", file.file, search.metric,
               nearest.empty() ? fmt::format("there are {}", fmt::join(names, ", ")) : fmt::format("the nearest is {}", nearest));
  }
  for (size_t i = 0; i < request.points.size(); ++i) {
    const Config& config = request.points[i].loaded.config;
    const std::string& name = request.points[i].name;
    if (search.rungs.back() > request.planned[i].steps)
      fail_input("{}: search.rungs end with {} steps, and {} has {} (run.steps)", file.file, search.rungs.back(), name,
                 request.planned[i].steps);
    if (!search.metric.starts_with("eval_")) continue;
    if (config.data.eval.empty())
      fail_input("{}: search.metric is {}, and {} evaluates nothing: data.eval is missing", file.file, search.metric, name);
    const std::vector<std::string> sets = columns_of_sets(config);
    if (search.metric.find('.') != std::string::npos && std::find(sets.begin(), sets.end(), search.metric) == sets.end())
      fail_input("{}: search.metric is {}, and data.eval of {} has no set of that name among several", file.file, search.metric, name);
    if (config.run.eval_interval == 0 || config.run.eval_interval > search.rungs.front())
      fail_input("{}: search.metric is {}, and {} has none in the {} steps of the first rung: run.eval_interval is {}", file.file,
                 search.metric, name, search.rungs.front(),
                 config.run.evaluates_epochs ? "\"epoch\", where a number of steps is expected" : std::to_string(config.run.eval_interval));
  }
}

// Leaves those points whose names match, and gives the others.
std::vector<SweepPoint> choose_points(std::vector<SweepPoint>& points, const std::string& pattern) {
  if (pattern.empty()) return {};
  std::vector<std::string> names;
  for (const SweepPoint& point : points) names.push_back(point.name);
  const auto others = std::stable_partition(points.begin(), points.end(), [&](const SweepPoint& point) {
    return matches(point.name, pattern) || matches(point.own_name, pattern);
  });
  std::vector<SweepPoint> out(std::make_move_iterator(others), std::make_move_iterator(points.end()));
  points.erase(others, points.end());
  if (points.empty()) fail_input("--only '{}' matches none of the {} runs: {}", pattern, names.size(), first_names(names));
  return out;
}

// Of points whose texts were not tokenized; "": there are none.
std::string untried_text(const std::vector<std::string>& names) {
  if (names.empty()) return "";
  return fmt::format("texts of more than {} whose tokens are not there yet were not looked at: of {}",
                     human_bytes(SweepPlanner::kTriedBytes), first_names(names));
}

// How many runs a search has at most in each rung, after what they still cost at most, which `flops` becomes.
std::string rungs_text(const SweepSearch& search, const SweepRequest& request, const std::vector<SweepRow>& rows, double& flops) {
  std::vector<Contestant> runs;
  for (const SweepRow& row : rows) runs.push_back({row.steps, row.state == SweepState::Failed});
  flops = most_cost(
      search, runs,
      [&](size_t i, int64_t from, int64_t to) {
        return static_cast<double>(to - from) * request.planned[i].flops / static_cast<double>(request.planned[i].steps);
      },
      1);
  const std::vector<size_t> counts = runs_of_rungs(
      search, static_cast<size_t>(std::count_if(runs.begin(), runs.end(), [](const Contestant& run) { return !run.has_failed; })));
  std::string text = "rungs:";
  for (size_t i = 0; i < counts.size(); ++i)
    text += fmt::format("{} {} to {}", i == 0 ? "" : ", the best", counted(static_cast<int64_t>(counts[i]), "run"),
                        counted(search.rungs[i], "step"));
  return text + fmt::format(", by {}\n", search.metric);
}

// What is still to be done of the runs that wait. `rows`: of each point.
std::string dry_run_table(const SweepRequest& request, const std::vector<SweepRow>& rows, const MachineShares& shares, double seconds,
                          const std::string& why_untimed) {
  const std::optional<SweepSearch>& search = request.file.search;
  TextTable table;
  table.add({"run", "device", "host", "files", search ? "steps of its next rung" : "steps", "FLOPs", "time", ""});
  double flops = 0;
  int64_t waiting = 0;
  std::vector<int64_t> steps;
  PointErrors too_large;
  for (size_t i = 0; i < request.points.size(); ++i) {
    const PlannedRun& planned = request.planned[i];
    steps.push_back(planned.steps);
    if (rows[i].state != SweepState::Queued) continue;
    ++waiting;
    int64_t end = planned.steps;
    if (search) {
      const auto rung = std::upper_bound(search->rungs.begin(), search->rungs.end(), rows[i].steps);
      end = rung == search->rungs.end() ? rows[i].steps : *rung;
    }
    const int64_t left = end - rows[i].steps;
    const double share = planned.steps > 0 ? static_cast<double>(left) / static_cast<double>(planned.steps) : 1;
    const std::string why = request.file.resources.uses_slurm ? "" : why_too_large(request, i, shares.most_gpu_bytes());
    if (why.empty()) {
      flops += share * planned.flops;
    } else {  // and costs nothing
      too_large.emplace_back(request.points[i].name, why);
      steps.back() = rows[i].steps;
    }
    table.add({request.points[i].name, human_bytes(planned.device_bytes), human_bytes(planned.host_bytes), human_bytes(planned.file_bytes),
               grouped(left), human_count(share * planned.flops), planned.seconds ? human_duration(share * *planned.seconds) : "-",
               why.empty() ? "" : "does not fit"});
  }
  std::string text = table.text();
  if (!too_large.empty()) text += fmt::format("would fail{}\n", reasons_of(too_large, request.points.size()));
  if (search) text += rungs_text(*search, request, rows, flops);
  const std::optional<double> whole = seconds_left(request, rows, steps, shares.count());
  const int ranks = request.file.resources.ranks;
  const std::vector<int>& gpus = request.file.resources.gpus;
  const std::string failing = too_large.empty() ? "" : fmt::format(", {} of which would fail", too_large.size());
  text += fmt::format("{}{}, memory of each of {}; {} at once{}; {}{}; {}\n", counted(waiting, "run"), failing, counted(ranks, "rank"),
                      counted(static_cast<int64_t>(shares.count()), "job"),
                      gpus.empty() ? "" : fmt::format(" on cuda:{}", fmt::join(gpus, ",")), search ? "at most " : "",
                      human_quantity(flops, "FLOPs"),
                      whole ? (search ? "at most " : "about ") + human_duration(*whole) : "times are not predicted: " + why_untimed);
  return text + fmt::format("planned in {:.1f} s; nothing was started\n", seconds);
}

// The sweep as it is run: a valid sweep file, with the base in it and what the command line changes of base and resources.
nlohmann::json resolved_file(const SweepFile& file, const SweepBase& base, const std::vector<Setting>& set) {
  nlohmann::json root = file.document;
  schema::Document document = schema::parse_document(base.text, base.name);
  for (const Setting& setting : set) schema::apply_setting(document, setting);
  root["base"] = document.root;
  root["name"] = file.name;
  root["output_dir"] = file.output_dir;
  if (!file.asks.empty()) root["asks"] = file.asks;
  root["resources"] = {{"ranks", file.resources.ranks}, {"executor", file.resources.uses_slurm ? "slurm" : "local"}};
  if (file.resources.jobs > 0) root["resources"]["jobs"] = file.resources.jobs;
  if (!file.resources.gpus.empty()) root["resources"]["gpus"] = file.resources.gpus;
  return root;
}

// As `plot` writes them, of what the runs have left. A sweep whose runs are archived keeps its own.
void write_report(const SweepRequest& request, const SweepOutcome& outcome, const std::string& command, SweepScreen& screen) {
  const fs::path folder = request.file.folder();
  const bool has_runs =
      std::any_of(request.points.begin(), request.points.end(), [&](const SweepPoint& point) { return holds_run(folder / point.name); });
  std::error_code error;
  if (!has_runs && outcome.count(SweepState::Done) > 0 && fs::exists(folder / "report.html", error))
    return screen.line("the report stays as it is");
  PlotRequest plot_of_all;
  plot_of_all.places = {request.file.folder()};
  plot_of_all.out = request.file.folder();
  plot_of_all.command = command;
  plot_of_all.is_of_sweep = true;
  plot_of_all.threads = static_cast<int>(CoreSet::of_process().size());
  try {
    plot(plot_of_all);
  } catch (const std::exception& error) {  // the runs are what they are
    screen.line(fmt::format("no report: {}", error.what()));
  }
}

// Of a sweep that goes on: its points under the names that their runs have, and the base that it began with in its file. Gives what is to
// be said of it.
std::vector<std::string> join_former_runs(SweepRequest& request, nlohmann::json& resolved, const std::string& command) {
  require_sweep(request.file);
  const SweepBase former = former_base(request.file);
  require_same_base(request.file, request.points, former, resolved["base"], command);
  resolved["base"] = nlohmann::json::parse(former.text);
  return keep_former_names(request.points, Journal::read(fs::path(request.file.folder()) / Journal::kFile), former,
                           request.file.resources.uses_slurm ? request.file.resources.ranks : 1);
}

// Of a command that asks for a new sweep where the folder holds one.
std::string command_that_goes_on(const SweepFile& file, const std::vector<SweepPoint>& points, const nlohmann::json& base,
                                 const std::string& command) {
  try {
    return resuming_command(file, points, former_base(file), base, command);
  } catch (const InputError&) {  // which that command says
    return command + " --resume";
  }
}

// Of a dry run of a resume: how far its runs are, after what is to be said of it.
std::vector<SweepRow> rows_to_resume(const SweepRequest& request, bool retries_failed) {
  const fs::path folder = request.file.folder();
  FormerRows former = former_rows(request.points, Journal::read(folder / Journal::kFile), folder, retries_failed);
  std::vector<int64_t> steps;
  for (const PlannedRun& planned : request.planned) steps.push_back(planned.steps);
  if (!request.file.search) queue_shorter_runs(former, steps);
  for (const std::string& note : former.notes) print_out("{}\n", visible(note));
  for (SweepRow& row : former.rows)  // one without a checkpoint begins anew
    if (row.state == SweepState::Queued && !holds_checkpoints((folder / row.run / "checkpoints").string())) row.forget_metrics();
  print_out("{} of {} runs are left to be started or to go on\n",
            std::count_if(former.rows.begin(), former.rows.end(), [](const SweepRow& row) { return row.state == SweepState::Queued; }),
            former.rows.size());
  return std::move(former.rows);
}

// Of the runs that --only leaves out, and of those that are no points any more: "; 3 others stay as they are (2 done)".
std::string others_text(const std::vector<SweepRow>& others) {
  if (others.empty()) return "";
  return fmt::format("; {} ({} done)",
                     others.size() == 1 ? "1 other stays as it is" : fmt::format("{} others stay as they are", others.size()),
                     std::count_if(others.begin(), others.end(), [](const SweepRow& row) { return row.state == SweepState::Done; }));
}

}  // namespace

int sweep(Job& job, const SweepArguments& arguments) {
  if (job.size() > 1)
    fail_input(
        "mpirun has started {} processes of sweep, which starts its runs itself: start it without mpirun; --ranks (resources.ranks) says "
        "how many "
        "ranks a run has",
        job.size());
  const auto begun = std::chrono::steady_clock::now();
  SweepRequest request;
  request.process_bytes = resident_memory().now;
  request.file = read_sweep_file(arguments.file);
  apply(arguments, request.file);
  const SweepFile& file = request.file;
  const SweepBase base = base_of(file);
  ResolvedPoints points = resolve_points(file, base, arguments.set);
  PointErrors& errors = points.errors;
  request.points = std::move(points.points);
  nlohmann::json resolved = resolved_file(file, base, arguments.set);
  // Where a point is wrong the sweep is refused, and all that is wrong is looked for before.
  const bool are_valid = errors.empty() && file.wrong_keys.empty();
  const std::vector<std::string> notes =
      arguments.resumes && are_valid ? join_former_runs(request, resolved, arguments.command) : std::vector<std::string>();
  const std::vector<SweepPoint> all_points = arguments.resumes ? std::vector<SweepPoint>() : request.points;
  std::vector<SweepPoint> others = are_valid ? choose_points(request.points, arguments.only) : std::vector<SweepPoint>();
  const size_t num_points = are_valid ? request.points.size() : points.count;
  if (arguments.resumes) request.others = std::move(others);
  request.gpu_bytes = settle_gpus(request.file.resources, request.points);
  request.memory_bytes = Device::cpu().memory_info().free_bytes;
  const MachineShares shares(file.resources, CoreSet::of_process(), request.memory_bytes, request.points.size(), request.gpu_bytes);
  const int threads = set_threads(
      std::max(1, static_cast<int>(CoreSet::of_process().size() / (shares.count() * static_cast<size_t>(file.resources.ranks)))));
  SweepPlanner planner(base, file.resources.ranks, threads, gpu_limit(shares, file.resources.ranks));
  planner.look_at_files(points.invalid, errors);
  planner.plan(request.points, request.planned, errors);
  refuse_missing_gpus(file.resources, request.points, errors);
  if (file.search && errors.empty() && file.wrong_keys.empty()) check_search(file, request);
  if (!errors.empty() || !file.wrong_keys.empty() || arguments.is_dry_run) {
    const std::string untried = untried_text(planner.try_texts(request.points, errors));
    refuse_points(file.file, file.wrong_keys, errors, num_points, untried.empty() ? "" : "\n  " + untried);
    if (!untried.empty()) print_out("{}\n", visible(untried));
  }
  if (arguments.is_dry_run) {
    for (const std::string& note : notes) print_out("{}\n", visible(note));
    const std::vector<SweepRow> rows =
        arguments.resumes ? rows_to_resume(request, arguments.retries_failed) : std::vector<SweepRow>(request.points.size());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    print_out(visible(dry_run_table(request, rows, shares, seconds, planner.why_untimed())));
    if (const std::string text = unsaved_runs_text(request, rows); !text.empty()) print_out("{}\n", visible(text));
    if (!arguments.resumes && holds_sweep(file)) {
      std::string command = arguments.command;
      if (const size_t at = command.find(" --dry-run"); at != command.npos) command.erase(at, std::string_view(" --dry-run").size());
      print_out("{}\n", visible(refusal_of_held_folder(file, command_that_goes_on(file, all_points, resolved["base"], command))));
    }
    return kDone;
  }
  planner.make_tokens(
      request.points, [](const std::string& text) { print_err("{}\n", text); }, errors);
  refuse_points(file.file, file.wrong_keys, errors, num_points);

  if (!arguments.resumes && holds_sweep(file))  // which is refused, unless somebody removes it meanwhile
    request.goes_on = command_that_goes_on(file, all_points, resolved["base"], arguments.command);
  request.options = {arguments.resumes, arguments.retries_failed, arguments.stops_on_failure};
  request.program = fs::read_symlink("/proc/self/exe").string();
  request.base = fs::absolute(fs::path(file.folder()) / "base.json").string();
  request.on_begin = [&] {
    write_file(file.folder() + "/sweep.json", resolved.dump(2) + "\n");
    write_file(request.base, base.text);
  };

  std::atomic<int> asked{0};
  std::atomic<bool> has_ended{false};
  const ForcedEnd forced([&](int) {
    constexpr int kTenths = 200;
    asked = 2;
    for (int i = 0; i < kTenths && !has_ended; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  });
  defer_signals();
  request.interrupts = [&] { return std::max(asked.load(), pending_signal() != 0 ? 1 : 0); };
  const std::unique_ptr<SweepScreen> screen = make_sweep_screen(request, shares.count(), stdout);
  for (const std::string& note : notes) screen->line(note);
  const SweepOutcome outcome = run_sweep(request, *screen);
  write_report(request, outcome, arguments.command, *screen);
  const size_t failed = outcome.count(SweepState::Failed), killed = outcome.count(SweepState::Killed),
               done = outcome.count(SweepState::Done), all = outcome.rows.size();
  screen->line(fmt::format("{} of {} done{}{}{}: {}/runs.csv", done, counted(static_cast<int64_t>(all), "run"),
                           failed > 0 ? fmt::format(", {} failed", failed) : "", killed > 0 ? fmt::format(", {} killed", killed) : "",
                           others_text(outcome.others), file.folder()));
  const std::string goes_on = arguments.command + (arguments.resumes ? "" : " --resume");
  if (outcome.was_interrupted) {
    screen->line(fmt::format("stopped by {}: `{}` goes on", name_of_signal(pending_signal()), goes_on));
    has_ended = true;
    return status_of_signal(pending_signal());
  }
  if (done + failed < all) screen->line(fmt::format("`{}` takes up what is left", goes_on));
  if (failed > 0)
    screen->line(fmt::format("`{}{}` starts failed runs again too", goes_on, arguments.retries_failed ? "" : " --retry-failed"));
  has_ended = true;
  return done == all ? kDone : kFailed;
}

}  // namespace zerostep
