#include "experiments/sweep/sweep.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <list>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "experiments/records/metrics_table.h"
#include "experiments/records/read_file.h"
#include "experiments/records/run_record.h"
#include "experiments/sweep/halving.h"
#include "experiments/sweep/journal.h"
#include "experiments/sweep/process.h"
#include "experiments/sweep/slots.h"
#include "models/text_file.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/report/folder_lock.h"
#include "runtime/report/metrics.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// What a run has said of its end: the last line that begins as errors do, or the last line.
std::string last_words(const fs::path& output) {
  constexpr std::string_view kError = "zerostep: ";
  std::string last, error;
  std::error_code ignored;
  if (!fs::is_regular_file(output, ignored)) return "";
  for_each_line(read_file(output), [&](std::string_view line, int64_t) {
    if (line.starts_with(kError)) error = line.substr(kError.size());
    if (line.find_first_not_of(" \t\r") != line.npos) last = line;
  });
  return error.empty() ? last : error;
}

// Whether a status says that somebody has ended the process from outside, as the system does where memory runs out.
bool is_ended_from_outside(int status) {
  constexpr std::array kSignals{SIGINT, SIGTERM, SIGKILL, SIGHUP, SIGUSR1};
  return std::find(kSignals.begin(), kSignals.end(), status - 128) != kSignals.end();
}

class Sweep {
 public:
  Sweep(const SweepRequest& request, SweepScreen& screen)
      : request_(request),
        screen_(screen),
        folder_(request.file.folder()),
        lock_(lock_folder()),
        slots_(request.file.resources, cores_of_process(), request.memory_bytes, request.points.size()),
        journal_(open_journal()) {}

  SweepOutcome run() {
    if (request_.begins) request_.begins();
    refuse_what_is_too_large();
    save();
    for (;;) {
      collect();
      heed_interrupts();
      if (!is_stopping()) {
        choose();
        while (start_next()) {
        }
      }
      if (is_changed_) save();
      screen_.show(rows_, targets_);
      const bool waits =
          !is_stopping() && std::any_of(rows_.begin(), rows_.end(), [](const SweepRow& row) { return row.state == SweepState::Queued; });
      if (jobs_.empty() && !waits) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    screen_.finish(rows_, targets_);
    journal_->note("end",
                   fmt::format("{} of {} runs are done",
                               std::count_if(rows_.begin(), rows_.end(), [](const SweepRow& row) { return row.state == SweepState::Done; }),
                               rows_.size()));
    return {rows_, interrupts_ > 0};
  }

 private:
  struct Job {
    size_t row, slot;
    Process process;
    Clock::time_point begun;
    double seconds_before;
  };

  fs::path folder_of(size_t row) const { return folder_ / rows_[row].run; }
  bool is_stopping() const { return interrupts_ > 0 || (request_.options.stops_on_failure && has_failed_); }

  FolderLock lock_folder() {
    const bool has_journal = fs::exists(folder_ / Journal::kFile);
    if (request_.options.resumes && !has_journal)
      fail_input("--resume: {} holds no sweep ({} is expected there): start it without --resume, or name its output_dir and name",
                 folder_.string(), Journal::kFile);
    if (!request_.options.resumes && has_journal)
      fail_input("{}: the folder {} holds a sweep already. --resume goes on with it; another name (or output_dir) keeps both",
                 request_.file.file, folder_.string());
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error || ::access(folder_.c_str(), W_OK | X_OK) != 0)
      fail_input("{}: output_dir: the folder {} cannot be {}: {}. Name one that can be written", request_.file.file, folder_.string(),
                 error ? "made" : "written into", error ? error.message() : std::string(std::strerror(errno)));
    return {folder_.string(), "name or output_dir of the sweep"};
  }

  std::optional<Journal> open_journal() {
    const fs::path file = folder_ / Journal::kFile;
    for (size_t i = 0; i < request_.points.size(); ++i) {
      SweepRow& row = rows_.emplace_back();
      row.run = request_.points[i].name;
      row.values = request_.points[i].values;
      targets_.push_back(request_.planned[i].steps);
    }
    std::optional<Journal> journal;
    if (!request_.options.resumes) {
      journal.emplace(file);
      journal->begin(request_.file.name, rows_.size(), false);
      return journal;
    }
    const std::map<std::string, SweepRow> before = Journal::read(file);
    journal.emplace(file);
    journal->begin(request_.file.name, rows_.size(), true);
    for (SweepRow& row : rows_) {
      const auto it = before.find(row.run);
      if (it == before.end()) continue;
      KeyValues values = std::move(row.values);
      row = it->second;
      row.values = std::move(values);
      const fs::path folder = folder_ / row.run;
      // What it did until the sweep was killed is not in the journal.
      const bool is_done = holds_run(folder) && read_run(folder).state == RunState::Done;
      if (row.state == SweepState::Interrupted && is_done) {
        row.state = SweepState::Done;
        row.exit = 0;
        row.error.clear();
        read_metrics(row, folder);
        journal->end(row);
      }
      read_metrics(row, folder);
      if (row.state == SweepState::Done && !holds_run(folder)) row.state = SweepState::Queued;  // somebody has removed it
      if (row.state == SweepState::Interrupted || (row.state == SweepState::Failed && request_.options.retries_failed))
        row.state = SweepState::Queued;
    }
    return journal;
  }

  void refuse_what_is_too_large() {
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i].state != SweepState::Queued) continue;
      const int64_t bytes = bytes_of(i);
      std::string why = request_.planned[i].refusal;
      if (why.empty() && bytes > slots_.memory_bytes())
        why = fmt::format("needs {} of this machine's memory, its processes' own {} among them; {} are free: {} are missing",
                          human_bytes(bytes), human_bytes(request_.process_bytes * request_.file.resources.ranks),
                          human_bytes(slots_.memory_bytes()), human_bytes(bytes - slots_.memory_bytes()));
      if (why.empty()) continue;
      rows_[i].state = SweepState::Failed;
      rows_[i].error = why;
      rows_[i].exit = 2;
      journal_->end(rows_[i]);
      has_failed_ = true;
      screen_.line(fmt::format("{}: not started: {}", rows_[i].run, why));
    }
  }

  int64_t bytes_of(size_t row) const { return request_.planned[row].machine_bytes(request_.file.resources.ranks, request_.process_bytes); }

  // Which runs of a search have further steps to take.
  void choose() {
    if (!request_.file.search || !std::exchange(has_to_choose_, false)) return;
    std::vector<Contestant> contestants;
    for (const SweepRow& row : rows_) contestants.push_back({row.steps, row.state == SweepState::Failed});
    const auto value = [&](size_t row, int64_t steps) {
      const std::string_view column = request_.file.search->metric;
      const MetricsTable table = MetricsTable::read(folder_of(row) / "metrics.csv", {&column, 1});
      return final_mean(table.column(column).first(std::min(table.column(column).size(), static_cast<size_t>(steps))));
    };
    const std::vector<std::optional<int64_t>> next = next_rung(*request_.file.search, contestants, value);
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (!next[i] || rows_[i].state == SweepState::Running) continue;
      targets_[i] = *next[i];
      if (rows_[i].state != SweepState::Queued) is_changed_ = true;
      rows_[i].state = SweepState::Queued;
    }
    // A run whose turn has passed while it waited.
    for (size_t i = 0; i < rows_.size(); ++i)
      if (!next[i] && rows_[i].state == SweepState::Queued) rows_[i].state = SweepState::Done;
  }

  // Seconds or, where none are predicted, FLOPs that are still to be spent.
  double left_of(size_t row) const {
    const PlannedRun& planned = request_.planned[row];
    const double share = planned.steps > 0 ? static_cast<double>(targets_[row] - rows_[row].steps) / static_cast<double>(planned.steps) : 1;
    return share * planned.seconds.value_or(planned.flops);
  }

  bool start_next() {
    constexpr double kPatience = 30;  // for the processes of a sweep that was killed to end
    std::vector<size_t> queue;
    for (size_t i = 0; i < rows_.size(); ++i)
      if (rows_[i].state == SweepState::Queued) queue.push_back(i);
    std::stable_sort(queue.begin(), queue.end(), [&](size_t a, size_t b) { return left_of(a) > left_of(b); });
    for (size_t row : queue) {
      if (seconds_since(begun_) < kPatience && FolderLock::is_owned(folder_of(row).string())) continue;
      if (const std::optional<size_t> slot = slots_.take(bytes_of(row))) {
        start(row, *slot);
        return true;
      }
    }
    return false;
  }

  std::vector<std::string> command_of(size_t row) const {
    const SweepPoint& point = request_.points[row];
    const fs::path folder = folder_of(row);
    const SweepResources& resources = request_.file.resources;
    std::vector<std::string> command;
    if (resources.ranks > 1) {
      command = {"mpirun", "--oversubscribe", "--bind-to", "none", "-np", std::to_string(resources.ranks)};
      if (::geteuid() == 0) command.insert(command.begin() + 1, "--allow-run-as-root");
    }
    command.insert(command.end(), {request_.program, "train", request_.base});
    const auto set = [&](const std::string& text) { command.insert(command.end(), {"--set", text}); };
    for (const Setting& setting : point.set) set(setting.text);
    set("run.name=" + nlohmann::json(rows_[row].run).dump());
    set("run.output_dir=" + nlohmann::json(folder_.string()).dump());
    if (!resources.gpus.empty() && point.loaded.config.run.device == "auto") set("run.device=\"cuda\"");
    if (request_.file.search) {
      if (point.loaded.config.run.checkpoint_interval == 0) set(fmt::format("run.checkpoint_interval={}", request_.planned[row].steps));
      if (targets_[row] < request_.planned[row].steps) command.insert(command.end(), {"--stop-after", std::to_string(targets_[row])});
    }
    if (holds_checkpoints((folder / "checkpoints").string()))
      command.emplace_back("--resume");
    else if (holds_run(folder))
      command.emplace_back("--overwrite");
    return command;
  }

  void start(size_t index, size_t slot) {
    SweepRow& row = rows_[index];
    const Slot& share = slots_.at(slot);
    const bool is_mpirun = request_.file.resources.ranks > 1;
    // mpirun takes its ranks with it where it is asked to end, not where it is killed.
    ProcessRequest process{.command = command_of(index),
                           .environment = {},
                           .cores = share.cores,
                           .output = (folder_of(index) / "output.txt").string(),
                           .signal_of_parents_death = is_mpirun ? SIGTERM : SIGKILL};
    if (share.cores.empty() && std::getenv("OMP_NUM_THREADS") == nullptr) process.environment["OMP_NUM_THREADS"] = "1";
    if (!share.gpus.empty()) process.environment["CUDA_VISIBLE_DEVICES"] = fmt::format("{}", fmt::join(share.gpus, ","));
    row.device = share.gpus.empty() && !request_.planned[index].device_is_host ? "cuda" : share.device();
    std::error_code error;
    fs::create_directories(folder_of(index), error);
    if (error) fail_run("cannot make the folder {}: {}", folder_of(index).string(), error.message());
    if (row.started.empty()) row.started = timestamp_now();
    journal_->start(row, process.command);
    jobs_.push_back({index, slot, Process(process), Clock::now(), row.seconds});
    row.state = SweepState::Running;
    row.exit.reset();
    row.error.clear();
    is_changed_ = true;
    screen_.line(fmt::format("{}: started{}", row.run, row.steps > 0 ? fmt::format(" again after step {}", row.steps) : ""));
  }

  void collect() {
    for (auto it = jobs_.begin(); it != jobs_.end();) {
      const std::optional<int> status = it->process.ended();
      if (status) end(*it, *status);
      it = status ? jobs_.erase(it) : std::next(it);
    }
  }

  void end(const Job& job, int status) {
    SweepRow& row = rows_[job.row];
    const fs::path folder = folder_of(job.row);
    slots_.give_back(job.slot);
    row.exit = status;
    row.seconds = job.seconds_before + seconds_since(job.begun);
    const RunRecord record = holds_run(folder) ? read_run(folder) : RunRecord();
    if (record.state != RunState::Unknown) read_metrics(row, folder);
    const bool has_its_steps = record.state == RunState::Done || (request_.file.search && row.steps >= targets_[job.row]);
    if (status == 0 && has_its_steps) {
      row.state = SweepState::Done;
    } else if (status == 0 || is_ended_from_outside(status)) {
      row.state = SweepState::Interrupted;
      if (interrupts_ == 0)
        row.error = status == 0 ? last_words(folder / "output.txt")
                                : fmt::format("ended by signal {} from outside; --resume goes on with it", status - 128);
    } else {
      row.state = SweepState::Failed;
      has_failed_ = true;
      row.error = last_words(folder / "output.txt");
    }
    journal_->end(row);
    is_changed_ = has_to_choose_ = true;
    const int64_t ended = std::count_if(rows_.begin(), rows_.end(),
                                        [](const SweepRow& r) { return r.state != SweepState::Queued && r.state != SweepState::Running; });
    screen_.line(fmt::format("[{}/{}] {}: {} after {}{}{}", ended, rows_.size(), row.run, name_of(row.state), human_duration(row.seconds),
                             row.loss ? fmt::format(", {} steps, loss {:.4f}", row.steps, *row.loss) : "",
                             row.error.empty() ? "" : ": " + row.error));
  }

  void heed_interrupts() {
    constexpr double kGrace = 10;  // seconds from SIGTERM to SIGKILL
    const int asked = request_.interrupts ? request_.interrupts() : 0;
    if (asked >= 1 && interrupts_ == 0) {
      journal_->note("interrupt", "runs save and stop");
      screen_.line(fmt::format("interrupted: {} and stop; once more ends them at once",
                               jobs_.size() == 1 ? "the run that goes on is asked to save" : "the runs that go on are asked to save"));
      for (const Job& job : jobs_) job.process.send(SIGUSR1);
    }
    if (asked >= 2 && interrupts_ < 2) {
      journal_->note("interrupt", "runs end at once");
      ended_ = Clock::now();
      for (const Job& job : jobs_) job.process.send_to_group(SIGTERM);
    }
    if (asked >= 2 && seconds_since(ended_) > kGrace)
      for (const Job& job : jobs_) job.process.send_to_group(SIGKILL);
    interrupts_ = std::max(interrupts_, asked);
  }

  void save() {
    is_changed_ = false;
    write_file((folder_ / "runs.csv").string(), runs_csv(rows_));
  }

  const SweepRequest& request_;
  SweepScreen& screen_;
  fs::path folder_;
  FolderLock lock_;
  std::vector<SweepRow> rows_;
  std::vector<int64_t> targets_;  // steps that each run is to have
  Slots slots_;
  std::optional<Journal> journal_;
  std::list<Job> jobs_;
  int interrupts_ = 0;
  bool has_failed_ = false, is_changed_ = false, has_to_choose_ = true;
  const Clock::time_point begun_ = Clock::now();
  Clock::time_point ended_;
};

}  // namespace

size_t SweepOutcome::count(SweepState state) const {
  return static_cast<size_t>(std::count_if(rows.begin(), rows.end(), [&](const SweepRow& row) { return row.state == state; }));
}

SweepOutcome run_sweep(const SweepRequest& request, SweepScreen& screen) { return Sweep(request, screen).run(); }

}  // namespace zerostep
