#include "launch/run_folder.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/report/csv_monitor.h"
#include "runtime/report/flops_profile.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

// What a run leaves, beside its checkpoints, its monitor's folder and the traces of its ranks.
constexpr std::array kFilesOfARun{"config.json", "plan.json", "metrics.csv", "metrics.csv.former", "log.txt", "zo_log.jsonl"};

bool is_trace(const std::string& name) { return name.starts_with("trace_rank") && name.ends_with(".json"); }

// What a run has left in a folder; empty: no run.
std::vector<fs::path> leavings_of_run(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const bool belongs_to_run = std::find(kFilesOfARun.begin(), kFilesOfARun.end(), name) != kFilesOfARun.end() || is_trace(name);
    if (belongs_to_run && entry.is_regular_file(error)) found.push_back(entry.path());
  }
  if (found.empty() && holds_checkpoints((folder / "checkpoints").string())) found.push_back(folder / "checkpoints");
  return found;
}

// What a run writes or cuts there is a file, or is made anew. A device keeps what is written to it.
void check_files_of_run(const Config& config, const fs::path& folder) {
  std::error_code error;
  for (const char* name : kFilesOfARun) {
    const fs::file_status status = fs::status(folder / name, error);
    if (fs::is_directory(status) || fs::is_fifo(status) || fs::is_socket(status))
      fail_input("{}: '{}' is {}; a regular file is expected, which the run would write: remove it, or choose another run.name",
                 config.file, (folder / name).string(), fs::is_directory(status) ? "a directory" : "a pipe or socket");
  }
}

bool is_within(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

std::string steps_of_run(const fs::path& folder) {
  std::ifstream metrics(folder / "metrics.csv");
  int64_t lines = 0;
  for (std::string line; std::getline(metrics, line);) ++lines;
  return lines < 2 ? "a run" : fmt::format("a run of {} step{}", lines - 1, lines == 2 ? "" : "s");
}

[[noreturn]] void refuse(const Config& config, const fs::path& folder) {
  const bool has_checkpoints = holds_checkpoints((folder / "checkpoints").string());
  fail_input(
      "{}: the folder {} holds {}, which a new one would replace. {}; another run.name keeps both; --overwrite (or run.overwrite) removes "
      "it and begins anew",
      config.file, folder.string(), steps_of_run(folder),
      has_checkpoints ? "--resume goes on with it"
                      : "--resume cannot go on with it: it has no checkpoint (run.checkpoint_interval writes some)");
}

[[noreturn]] void fail_making(const Config& config, const fs::path& folder, const std::string& reason) {
  fail_input("{}: run.output_dir: cannot make the folder {} of the run: {}. Set run.output_dir to one that can be written",
             config.source("run.output_dir"), folder.string(), reason);
}

// Makes a folder and those above it; gives those that were missing.
std::vector<fs::path> make_folders(const Config& config, const fs::path& folder) {
  std::vector<fs::path> missing;
  std::error_code error;
  for (fs::path at = fs::absolute(folder); !at.empty() && !fs::exists(at, error) && at != at.parent_path(); at = at.parent_path())
    missing.insert(missing.begin(), at);
  for (const fs::path& one : missing)
    if (!fs::create_directory(one, error) && error) fail_making(config, folder, error.message());
  if (!fs::is_directory(folder, error)) fail_making(config, folder, std::strerror(ENOTDIR));
  return missing;
}

void check_writable_file(const Config& config, const char* key, const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code error;
  if (fs::is_directory(path, error)) fail_input("{}: {}: {} is a folder: name a file", config.source(key), key, path.string());
  if (::access(fs::exists(path, error) ? path.c_str() : folder.c_str(), W_OK) != 0)
    fail_input("{}: {}: cannot write {}: {}", config.source(key), key, path.string(), std::strerror(errno));
}

// Folders of runs whose files give no name: the first free one, made here so that no other run takes it.
std::vector<fs::path> make_new_folder(Config& config) {
  std::vector<fs::path> made = make_folders(config, config.run.output_dir);
  const std::string name = config.run.name;
  for (int number = 2;; ++number) {
    const fs::path folder = run_folder_path(config);
    std::error_code error;
    if (fs::create_directory(folder, error)) {
      made.push_back(folder);
      return made;
    }
    if (error) fail_making(config, folder, error.message());
    config.run.name = fmt::format("{}-{}", name, number);
  }
}

}  // namespace

bool is_folder_of_run(const fs::path& folder) {
  std::error_code error;
  for (const char* name : {"plan.json", "metrics.csv", "metrics.csv.former", "zo_log.jsonl"})
    if (fs::is_regular_file(folder / name, error)) return true;
  return holds_checkpoints((folder / "checkpoints").string());
}

std::string monitor_folder(const Config& config, const RunFolder& folder) {
  const std::string& path = config.monitor.csv_output_path;
  return (fs::path(path.empty() ? folder.file(CsvMonitor::kFolder) : path) / config.monitor.csv_job_name).string();
}

FolderLock claim_other_files(const Config& config, const RunFolder& folder) {
  const std::string& profile = config.monitor.flops_output_file;
  if (config.monitor.flops_enabled && !profile.empty()) {
    check_writable_file(config, "flops_profiler.output_file", profile);
    if (!may_hold_flops_profile(profile))
      fail_input("{}: flops_profiler.output_file: {} is a file of another kind, which the profile would replace: name another file",
                 config.source("flops_profiler.output_file"), profile);
  }
  if (!config.monitor.csv_enabled || config.monitor.csv_output_path.empty()) return {};
  const std::string monitor = monitor_folder(config, folder);
  std::error_code error;
  fs::create_directories(monitor, error);
  if (error || ::access(monitor.c_str(), W_OK | X_OK) != 0)
    fail_input("{}: csv_monitor.output_path: cannot write into the folder {}: {}. Set it to one that can be written",
               config.source("csv_monitor.output_path"), monitor, error ? error.message() : std::strerror(errno));
  return {monitor, "csv_monitor.output_path or csv_monitor.job_name"};
}

std::string run_folder_path(const Config& config) { return (fs::path(config.run.output_dir) / config.run.name).string(); }

RunFolder RunFolder::claim(Config& config, bool continues) {
  RunFolder folder;
  const bool is_new = !config.run.is_named && !continues;
  folder.made_ = is_new ? make_new_folder(config) : make_folders(config, run_folder_path(config));
  folder.path_ = run_folder_path(config);
  if (::access(folder.path_.c_str(), W_OK | X_OK) != 0)
    fail_input("{}: run.output_dir: cannot write into the folder {} of the run: {}", config.source("run.output_dir"), folder.path_,
               std::strerror(errno));
  folder.lock_ = FolderLock(folder.path_, "run.name");
  check_files_of_run(config, folder.path_);
  if (continues) return folder;
  folder.former_ = leavings_of_run(folder.path_);
  if (folder.replaces() && !config.run.overwrite) refuse(config, folder.path_);
  if (folder.replaces())
    for (const char* name : {"checkpoints", CsvMonitor::kFolder}) folder.former_.emplace_back(folder.file(name));
  return folder;
}

void RunFolder::check_spares(const Config& config, const std::vector<NamedPath>& paths) const {
  std::error_code error;
  for (const auto& [name, path] : paths) {
    // By its own name and, where that is a link, by that of its target.
    const fs::path named = fs::weakly_canonical(fs::absolute(path).lexically_normal().parent_path(), error) / fs::path(path).filename(),
                   target = fs::weakly_canonical(path, error);
    for (const fs::path& former : former_) {
      const fs::path goes = fs::weakly_canonical(former, error);
      if (is_within(named, goes) || is_within(target, goes))
        fail_input(
            "{}: {}: {} lies where --overwrite (or run.overwrite) removes {} of the former run: move it out of {}, or choose another "
            "run.name",
            config.source(name), name, path, former.string(), path_);
    }
  }
}

void RunFolder::begin() {
  made_.clear();
  for (const fs::path& path : former_) {
    std::error_code error;
    fs::remove_all(path, error);
    if (error) fail_run("cannot remove {} of the former run: {}", path.string(), error.message());
  }
}

void RunFolder::leave() {
  lock_ = FolderLock();
  std::error_code ignored;
  for (; !made_.empty(); made_.pop_back()) fs::remove(made_.back(), ignored);  // a folder with something in it stays
}

RunFolder::~RunFolder() { leave(); }

RunFolder& RunFolder::operator=(RunFolder&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(lock_, other.lock_);
  std::swap(made_, other.made_);
  std::swap(former_, other.former_);
  return *this;
}

}  // namespace zerostep
