#include "experiments/sweep/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <list>
#include <thread>
#include <utility>

#include "base/core_set.h"
#include "base/error.h"
#include "base/first_names.h"
#include "base/format.h"
#include "experiments/records/run_record.h"
#include "experiments/sweep/journal.h"
#include "experiments/sweep/machine_shares.h"
#include "experiments/sweep/run_end.h"
#include "experiments/sweep/saved_runs.h"
#include "experiments/sweep/screens.h"
#include "experiments/sweep/search.h"
#include "experiments/sweep/slurm.h"
#include "experiments/sweep/sweep_begin.h"
#include "experiments/sweep/sweep_folder.h"
#include "experiments/sweep/too_large.h"
#include "experiments/sweep/train_command.h"
#include "experiments/sweep/work.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/report/folder_lock.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

class Sweep {
 public:
  Sweep(const SweepRequest& request, SweepScreen& screen)
      : request_(request),
        screen_(screen),
        folder_(request.file.folder()),
        lock_(claim_sweep_folder(request.file, request.options.resumes, request.goes_on)),
        shares_(request.file.resources, CoreSet::of_process(), request.memory_bytes, request.points.size(), request.gpu_bytes) {
    SweepBegin begin = begin_sweep(request, folder_);
    rows_ = std::move(begin.rows);
    others_ = std::move(begin.others);
    targets_ = std::move(begin.targets);
    journal_.emplace(std::move(begin.journal));
    for (const std::string& note : begin.notes) screen_.line(note);
    if (request.file.search) search_.emplace(*request.file.search, folder_);
  }

  SweepOutcome run() {
    try {
      return run_all();
    } catch (...) {
      end_all();
      throw;
    }
  }

 private:
  SweepOutcome run_all() {
    if (request_.on_begin) request_.on_begin();
    refuse_what_is_too_large();
    if (const std::string text = unsaved_runs_text(request_, rows_); !text.empty()) screen_.line(text);
    save();
    for (;;) {
      collect();
      heed_interrupts();
      if (!is_stopping()) {
        choose();
        start();
      }
      if (is_changed_) save();
      screen_.show(rows_, targets_);
      const bool waits =
          !is_stopping() && std::any_of(rows_.begin(), rows_.end(), [](const SweepRow& row) { return row.state == SweepState::Queued; });
      if (started_.empty() && !waits) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    screen_.finish(rows_, targets_);
    SweepOutcome outcome{rows_, others_, interrupts_ > 0};
    journal_->note("end", fmt::format("{} of {} runs are done", outcome.count(SweepState::Done), rows_.size()));
    return outcome;
  }

  // Bytes that a run's output.txt and its log.txt had before its process was started.
  struct SizesBefore {
    size_t output = 0, log = 0;
  };

  struct StartedRun {
    size_t row;
    std::optional<size_t> share;  // of this machine
    std::unique_ptr<Work> work;
    Clock::time_point begun;  // where has_begun is set
    double seconds_before;
    SizesBefore before;
    bool has_begun = false;
  };

  // Of a sweep that fails: its runs end with it.
  void end_all() {
    constexpr double kPatience = 15;
    const Clock::time_point begun = Clock::now();
    while (!started_.empty() && seconds_since(begun) < kPatience) {
      for (StartedRun& run : started_) run.work->kill();
      std::erase_if(started_, [](StartedRun& run) { return run.work->ended().has_value(); });
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  fs::path folder_of(size_t row) const { return folder_ / rows_[row].run; }
  bool is_stopping() const { return interrupts_ > 0 || (request_.options.stops_on_failure && has_failed_); }

  void refuse_what_is_too_large() {
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i].state != SweepState::Queued || request_.file.resources.uses_slurm) continue;
      const std::string why = why_too_large(request_, i, shares_.most_gpu_bytes());
      if (why.empty()) continue;
      rows_[i].state = SweepState::Failed;
      rows_[i].error = why;
      rows_[i].exit = 2;
      journal_->end(rows_[i]);
      has_failed_ = true;
      screen_.line(fmt::format("{}: not started: {}", rows_[i].run, why));
    }
  }

  // Once a rung: which runs take part in it, and at the end of the last one which is the best.
  void say_rung(const std::vector<std::optional<int64_t>>& next) {
    int64_t rung = 0;
    std::vector<std::string> names;
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (!next[i]) continue;
      rung = *next[i];
      names.push_back(rows_[i].run);
    }
    if (rung == 0) {
      if (const std::string outcome = search_->outcome(rows_); !outcome.empty()) screen_.line(outcome);
    } else if (rung != rung_) {
      screen_.line(fmt::format("{}, to {}: {} {}", search_->rung_text(rung), counted(rung, "step"), counted(std::ssize(names), "run"),
                               rung_ == 0 ? (names.size() == 1 ? "takes part" : "take part")
                                          : (names.size() == 1 ? "goes on: " : "go on: ") + first_names(names)));
    }
    rung_ = rung;
  }

  // Which runs of a search have further steps to take.
  void choose() {
    if (!search_ || !std::exchange(has_to_choose_, false)) return;
    const std::vector<std::optional<int64_t>> next = search_->next(rows_);
    say_rung(next);
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (!next[i] && rows_[i].state == SweepState::Done) targets_[i] = rows_[i].steps;  // it is left behind
      if (!next[i] || rows_[i].state == SweepState::Running) continue;
      targets_[i] = *next[i];
      if (rows_[i].state != SweepState::Queued) is_changed_ = true;
      rows_[i].state = SweepState::Queued;
    }
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (next[i] || rows_[i].state != SweepState::Queued) continue;
      // Its turn has passed while it waited.
      rows_[i].state = SweepState::Done;
      journal_->end(rows_[i]);
      is_changed_ = true;
    }
  }

  // Seconds or, where none are predicted, FLOPs that are still to be spent.
  double left_of(size_t row) const {
    const PlannedRun& planned = request_.planned[row];
    const double share = planned.steps > 0 ? static_cast<double>(targets_[row] - rows_[row].steps) / static_cast<double>(planned.steps) : 1;
    return share * planned.seconds.value_or(planned.flops);
  }

  bool is_started(size_t row) const {
    return std::any_of(started_.begin(), started_.end(), [&](const StartedRun& run) { return run.row == row; });
  }

  // Rows that wait for a start, the longest first.
  std::vector<size_t> queue() const {
    constexpr double kPatience = 30;  // for the processes of a sweep that was killed to end
    std::vector<size_t> out;
    for (size_t i = 0; i < rows_.size(); ++i)
      if (rows_[i].state == SweepState::Queued && !is_started(i) &&
          (seconds_since(begun_) > kPatience || !FolderLock::is_owned(folder_of(i).string())))
        out.push_back(i);
    std::stable_sort(out.begin(), out.end(), [&](size_t a, size_t b) { return left_of(a) > left_of(b); });
    return out;
  }

  // Whatever there is room for now.
  void start() {
    if (request_.file.resources.uses_slurm) return start_array();
    if (!shares_.any_is_free()) return;
    for (size_t row : queue())
      if (const auto share = shares_.take(machine_bytes(request_, row), request_.planned[row].gpu_bytes, request_.planned[row].disks))
        start_here(row, *share);
  }

  std::string output_of(size_t row) const {
    std::error_code error;
    fs::create_directories(folder_of(row), error);
    if (error) fail_run("cannot make the folder {}: {}", folder_of(row).string(), error.message());
    return (folder_of(row) / "output.txt").string();
  }

  void start_here(size_t row, size_t index) {
    const MachineShare& share = shares_.at(index);
    // mpirun takes its ranks with it where it is asked to end, not where it is killed.
    ProcessRequest process{.command = train_command(request_, row, targets_[row]),
                           .environment = {},
                           .cores = share.cores,
                           .output = output_of(row),
                           .signal_of_parents_death = request_.file.resources.ranks > 1 ? SIGTERM : SIGKILL};
    // More threads than a run has cores would only wait for each other; fewer may be asked for.
    const int threads = std::max(1, static_cast<int>(share.cores.size()) / request_.file.resources.ranks);
    const char* given = std::getenv("OMP_NUM_THREADS");
    if (given == nullptr || std::atoi(given) > threads) process.environment["OMP_NUM_THREADS"] = std::to_string(threads);
    if (!share.gpus.empty()) process.environment["CUDA_VISIBLE_DEVICES"] = visible_devices(share.gpus);
    rows_[row].device = request_.planned[row].device_is_host ? "cpu" : share.gpus.empty() ? "cuda" : share.device();
    // The journal knows of a process before it is there, and what it says is not taken for older.
    const SizesBefore before = sizes_of(row);
    note_start(row, process.command);
    add(row, index, before, make_local_work(process));
  }

  // All that wait, as one array: Slurm knows what there is room for.
  void start_array() {
    const std::vector<size_t> waiting = queue();
    if (waiting.empty()) return;
    std::vector<SlurmArray::Task> tasks;
    for (size_t row : waiting) tasks.push_back({train_command(request_, row, targets_[row]), output_of(row)});
    std::vector<SizesBefore> before;
    for (size_t row : waiting) before.push_back(sizes_of(row));
    int number = 1;
    while (fs::exists(folder_ / "slurm" / std::to_string(number))) ++number;
    const SweepResources& resources = request_.file.resources;
    const auto array = std::make_shared<SlurmArray>(folder_ / "slurm" / std::to_string(number), request_.file.name, tasks, resources.ranks,
                                                    resources.jobs);
    // Its number is known only now: what is wrong from here on ends its tasks.
    for (size_t i = 0; i < waiting.size(); ++i) add(waiting[i], std::nullopt, before[i], make_slurm_work(array, i));
    journal_->submitted(array->id());
    screen_.line(fmt::format("{} handed to Slurm as job {}", counted(std::ssize(waiting), "run"), array->id()));
    for (size_t i = 0; i < waiting.size(); ++i) {
      rows_[waiting[i]].device = fmt::format("slurm:{}_{}", array->id(), i);
      note_start(waiting[i], tasks[i].command);
    }
  }

  size_t bytes_of(size_t row, const char* file) const {
    std::error_code error;
    const auto bytes = fs::file_size(folder_of(row) / file, error);
    return error ? 0 : bytes;
  }

  SizesBefore sizes_of(size_t row) const { return {bytes_of(row, "output.txt"), bytes_of(row, "log.txt")}; }

  void note_start(size_t index, const std::vector<std::string>& command) {
    SweepRow& row = rows_[index];
    row.exit.reset();
    row.error.clear();
    is_changed_ = true;
    journal_->start(row, command);
  }

  void add(size_t row, std::optional<size_t> share, SizesBefore before, std::unique_ptr<Work> work) {
    started_.push_back(
        {.row = row, .share = share, .work = std::move(work), .begun = {}, .seconds_before = rows_[row].seconds, .before = before});
  }

  void begin(StartedRun& run) {
    SweepRow& row = rows_[run.row];
    run.has_begun = true;
    run.begun = Clock::now();
    const std::string now = journal_->running(row.run);
    if (row.started.empty()) row.started = now;
    row.state = SweepState::Running;
    is_changed_ = true;
    if (row.steps == 0)
      screen_.line(fmt::format("{}: started{}", row.run, time_left()));
    else if (holds_checkpoints((folder_of(run.row) / "checkpoints").string()))
      screen_.line(fmt::format("{}: goes on from its latest checkpoint; it had taken {}", row.run, counted(row.steps, "step")));
    else
      screen_.line(fmt::format("{}: begins anew, without a checkpoint of its {} ({})", row.run, counted(row.steps, "step"),
                               why_without_checkpoint(run.row)));
  }

  std::string why_without_checkpoint(size_t row) const {
    const int64_t interval = checkpoint_interval(request_, row);
    if (interval == 0) return "run.checkpoint_interval makes some";
    return fmt::format("{}: run.checkpoint_interval is {}", rows_[row].steps < interval ? "none was due yet" : "none is there", interval);
  }

  void collect() {
    for (auto it = started_.begin(); it != started_.end();) {
      if (!it->has_begun && it->work->has_begun()) begin(*it);
      const std::optional<int> status = it->work->ended();
      if (status) finish_run(*it, *status);
      it = status ? started_.erase(it) : std::next(it);
    }
  }

  void finish_run(const StartedRun& run, int status) {
    SweepRow& row = rows_[run.row];
    const fs::path folder = folder_of(run.row);
    if (run.share) shares_.give_back(*run.share);
    if (run.has_begun) row.seconds = run.seconds_before + seconds_since(run.begun);
    // Of a process that was ended before it has written a line to the log the folder tells nothing: what it has is of the one before.
    const bool has_begun = holds_run(folder) && (status == 0 || bytes_of(run.row, "log.txt") != run.before.log);
    const std::optional<RunState> recorded = has_begun ? std::optional(read_run(folder).state) : std::nullopt;
    read_metrics(row, folder);
    judge_end({.status = status,
               .recorded_state = recorded,
               .has_its_steps = request_.file.search && row.steps >= targets_[run.row],
               .was_asked_to_stop = interrupts_ > 0,
               .output = folder / "output.txt",
               .output_begin = run.before.output},
              row);
    if (recorded == RunState::Killed || (recorded == RunState::Failed && row.state == SweepState::Killed)) note_signal(row, folder);
    if (interrupts_ > 0) note_interrupt(row, folder);
    has_failed_ = has_failed_ || row.state == SweepState::Failed;
    journal_->end(row);
    is_changed_ = has_to_choose_ = true;
    // Of a search those of the rung.
    int64_t all = 0, ended = 0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (search_ && targets_[i] != targets_[run.row]) continue;
      ++all;
      if (rows_[i].state != SweepState::Queued && rows_[i].state != SweepState::Running) ++ended;
    }
    const std::string rung = search_ ? search_->rung_text(targets_[run.row]) + " " : "";
    screen_.line(fmt::format("{}[{}/{}] {}: {}{}{}{}{}", rung, ended, all, row.run, name_of(row.state),
                             row.seconds > 0 ? " after " + human_duration(row.seconds) : "",
                             row.final_loss ? fmt::format(", {}, final loss {:.4f}", counted(row.steps, "step"), *row.final_loss) : "",
                             row.error.empty() ? "" : ": " + row.error, time_left()));
  }

  // "; about 3 min left": of the whole sweep.
  std::string time_left() const {
    const std::string text = is_stopping() ? "" : text_of_time_left(request_, rows_, targets_, shares_.count());
    return text.empty() ? "" : "; " + text;
  }

  void heed_interrupts() {
    const int asked = request_.interrupts ? request_.interrupts() : 0;
    if (asked >= 1 && interrupts_ == 0) {
      journal_->note("interrupt", "runs are asked to stop");
      std::vector<AfterStop> after;
      for (const StartedRun& run : started_) after.push_back(after_stop(request_, run.row));
      screen_.line(interrupt_text(after));
      // What waits first: it would take the place of what ends.
      for (const bool has_begun : {false, true})
        for (const StartedRun& run : started_)
          if (run.has_begun == has_begun) run.work->stop();
    }
    if (asked >= 2 && interrupts_ < 2) journal_->note("interrupt", "runs end at once");
    if (asked >= 2)
      for (const StartedRun& run : started_) run.work->kill();
    interrupts_ = std::max(interrupts_, asked);
  }

  void save() {
    is_changed_ = false;
    std::vector<SweepRow> all = rows_;
    all.insert(all.end(), others_.begin(), others_.end());
    write_file((folder_ / "runs.csv").string(), runs_csv(all));
  }

  const SweepRequest& request_;
  SweepScreen& screen_;
  fs::path folder_;
  FolderLock lock_;
  std::vector<SweepRow> rows_, others_;  // of the request's points; of runs that stay as they are
  std::vector<int64_t> targets_;         // steps that each run is to have
  MachineShares shares_;
  std::optional<Journal> journal_;
  std::list<StartedRun> started_;
  std::optional<Search> search_;
  int interrupts_ = 0;
  bool has_failed_ = false, is_changed_ = false, has_to_choose_ = true;
  int64_t rung_ = 0;  // steps of the rung that goes on; 0: of none yet
  const Clock::time_point begun_ = Clock::now();
};

}  // namespace

size_t SweepOutcome::count(SweepState state) const {
  return static_cast<size_t>(std::count_if(rows.begin(), rows.end(), [&](const SweepRow& row) { return row.state == state; }));
}

SweepOutcome run_sweep(const SweepRequest& request, SweepScreen& screen) { return Sweep(request, screen).run(); }

}  // namespace zerostep
