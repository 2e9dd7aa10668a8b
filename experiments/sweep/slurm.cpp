#include "experiments/sweep/slurm.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/error.h"
#include "base/program_name.h"
#include "experiments/process/run_command.h"
#include "models/text_file.h"
#include "runtime/report/output_file.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;

// What a program of Slurm says; RunError where it cannot be started or ends otherwise than well.
std::string said_by(const std::vector<std::string>& command) {
  constexpr double kPatience = 60;  // a busy controller is slow, not lost
  CommandResult result = run_command(command, {.timeout_seconds = kPatience, .has_own_group = true});
  if (result.timed_out) fail_run("{} has not answered in {} s", fmt::join(command, " "), kPatience);
  while (result.out.ends_with('\n')) result.out.pop_back();
  if (result.status != 0) fail_run("{} ends with status {}: {}{}", fmt::join(command, " "), result.status, result.out, result.err);
  return result.out;
}

bool says(const RunError& error, std::string_view text) { return std::string_view(error.what()).find(text) != std::string_view::npos; }
bool is_unknown_job(const RunError& error) { return says(error, "Invalid job id"); }

std::string batch_script(const fs::path& folder, const std::vector<SlurmArray::Task>& tasks, int ranks) {
  std::string text =
      "#!/bin/bash\n"
      "# Slurm's SIGUSR1 two minutes before the time is up makes a run save and stop.\n"
      "#SBATCH --signal=USR1@120\n"
      "case $SLURM_ARRAY_TASK_ID in\n";
  for (size_t i = 0; i < tasks.size(); ++i) {
    text += fmt::format("  {}) output={}; command=(", i, shell_word(tasks[i].output));
    for (const std::string& part : tasks[i].command) text += (part == tasks[i].command.front() ? "" : " ") + shell_word(part);
    text += ") ;;\n";
  }
  return text + fmt::format(
                    "esac\n"
                    "exec >>\"$output\" 2>&1\n"
                    ": >{1}/\"$SLURM_ARRAY_TASK_ID.begun\"\n"
                    "export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-1}}}}\n"
                    "status=0\n"
                    "srun --mpi=pmix --ntasks={0} --cpus-per-task=\"${{SLURM_CPUS_PER_TASK:-1}}\" --kill-on-bad-exit=1 \"${{command[@]}}\" "
                    "|| status=$?\n"
                    "echo $status >{1}/\"$SLURM_ARRAY_TASK_ID.status\"\n",
                    ranks, shell_word(folder.string()));
}

class SlurmWork : public Work {
 public:
  SlurmWork(std::shared_ptr<SlurmArray> array, size_t task) : array_(std::move(array)), task_(task) {}
  bool has_begun() override { return array_->has_begun(task_); }
  std::optional<int> ended() override {
    if (wish_ != Wish::None && !is_told_ && std::chrono::steady_clock::now() - told_ > std::chrono::seconds(2)) tell();
    return array_->ended(task_);
  }
  void stop() override {
    if (wish_ != Wish::None) return;
    wish_ = array_->has_begun(task_) ? Wish::Save : Wish::End;  // one that waits still has nothing to save
    tell();
  }
  void kill() override {
    if (wish_ == Wish::End) return;
    wish_ = Wish::End;
    tell();
  }

 private:
  enum class Wish : uint8_t { None, Save, End };
  // Again later where Slurm does not take it.
  void tell() {
    told_ = std::chrono::steady_clock::now();
    is_told_ = wish_ == Wish::Save ? array_->signal(task_, "USR1") : array_->cancel(task_);
  }

  std::shared_ptr<SlurmArray> array_;
  size_t task_;
  Wish wish_ = Wish::None;
  bool is_told_ = false;
  std::chrono::steady_clock::time_point told_;
};

}  // namespace

SlurmArray::SlurmArray(const fs::path& folder, const std::string& name, const std::vector<Task>& tasks, int ranks, int jobs)
    : folder_(folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail_run("cannot make the folder {}: {}", folder.string(), error.message());
  const fs::path script = folder / "array.sh";
  write_file(script.string(), batch_script(folder, tasks, ranks));
  id_ = said_by({"sbatch", "--parsable", "--job-name=" + name,
                 fmt::format("--array=0-{}{}", tasks.size() - 1, jobs > 0 ? fmt::format("%{}", jobs) : ""),
                 fmt::format("--ntasks={}", ranks), "--output=" + (folder / "slurm-%A_%a.out").string(), script.string()});
  id_ = id_.substr(id_.rfind('\n') + 1);
  id_ = id_.substr(0, id_.find(';'));  // of a named cluster
  if (id_.empty() || id_.find_first_not_of("0123456789") != id_.npos)
    fail_run("sbatch has said '{}'; the number of a job was expected", id_);
}

void SlurmArray::refresh() {
  if (!states_.is_due(std::chrono::steady_clock::now())) return;
  std::string text;
  try {
    text = said_by({"squeue", "--noheader", "--array", "--jobs=" + id_, "--format=%K %t"});
  } catch (const RunError& error) {
    // It knows a job no more that has ended some time ago; any other refusal may pass.
    if (!is_unknown_job(error)) return states_.refused(std::chrono::steady_clock::now());
  }
  std::map<size_t, std::string> listed;
  for_each_line(text, [&](std::string_view line, int64_t) {
    size_t task = 0;
    const auto [rest, error] = std::from_chars(line.data(), line.data() + line.size(), task);
    if (error == std::errc() && rest < line.data() + line.size()) listed[task] = std::string(rest + 1, line.data() + line.size());
  });
  states_.answered(std::chrono::steady_clock::now(), std::move(listed));
}

void SlurmArray::look() {
  const auto now = std::chrono::steady_clock::now();
  if (now - looked_ < std::chrono::milliseconds(200)) return;
  looked_ = now;
  // The folder is listed anew, since a network file system remembers for a while which names are not there.
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, error)) {
    size_t number = 0;
    int status = 0;
    const std::string name = entry.path().filename().string();
    const auto [rest, wrong] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (wrong != std::errc()) continue;
    if (std::string_view(rest) == ".begun") begun_.insert(number);
    if (std::string_view(rest) == ".status" && std::ifstream(entry.path()) >> status) statuses_[number] = status;
  }
}

bool SlurmArray::has_begun(size_t task) {
  look();
  if (begun_.contains(task)) return true;
  refresh();
  return states_.has_begun(task);
}

std::optional<int> SlurmArray::ended(size_t task) {
  look();
  if (const auto it = statuses_.find(task); it != statuses_.end()) return it->second;
  refresh();
  const bool is_gone = states_.is_lost(task) || (cancelled_.contains(task) && states_.is_missing(task));
  return is_gone ? std::optional(128 + SIGKILL) : std::nullopt;
}

bool SlurmArray::told(const std::vector<std::string>& command) {
  try {
    said_by(command);
    return true;
  } catch (const RunError& error) {
    return is_unknown_job(error) || says(error, "already complet");  // it may have ended meanwhile
  }
}

bool SlurmArray::signal(size_t task, const char* name) {
  return told({"scancel", fmt::format("--signal={}", name), fmt::format("{}_{}", id_, task)});
}

bool SlurmArray::cancel(size_t task) {
  cancelled_.insert(task);
  return told({"scancel", fmt::format("{}_{}", id_, task)});
}

std::unique_ptr<Work> make_slurm_work(std::shared_ptr<SlurmArray> array, size_t task) {
  return std::make_unique<SlurmWork>(std::move(array), task);
}

bool is_in_slurm(const std::string& id) {
  try {
    return !said_by({"squeue", "--noheader", "--jobs=" + id, "--format=%t"}).empty();
  } catch (const RunError& error) {
    if (is_unknown_job(error) || says(error, fmt::format("squeue cannot be started: {}", std::strerror(ENOENT)))) return false;
    fail_run("whether Slurm's job {} of this sweep still waits or runs is not known, and a run must not be started twice: {}", id,
             error.what());
  }
}

}  // namespace zerostep
