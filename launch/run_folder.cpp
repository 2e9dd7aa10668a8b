#include "launch/run_folder.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>

#include "base/error.h"
#include "launch/model_directory.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/report/csv_monitor.h"
#include "runtime/report/flops_profile.h"
#include "runtime/report/tensorboard.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

// What a run leaves, beside its checkpoints, its monitors' folders and the traces of its ranks.
constexpr std::array kFilesOfARun{"config.json",  "plan.json", "metrics.csv",         "metrics.csv.former", "log.txt",
                                  "zo_log.jsonl", "loss.svg",  "classification.json", "test.json"};

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

// What the folder of a run is from.
std::string source_of_folder(const Config& config) {
  return config.source(config.sources.contains("run.name") ? "run.name" : "run.output_dir");
}

// What a run writes or cuts there is a file, or is made anew. A device keeps what is written to it.
void check_files_of_run(const Config& config, const fs::path& folder, bool continues) {
  std::vector<fs::path> files;
  for (const char* name : kFilesOfARun) files.push_back(folder / name);
  if (continues || !config.run.overwrite)  // else they go
    for (const char* name : {kLatestFile, kBestFile}) files.push_back(folder / "checkpoints" / name);
  std::error_code error;
  for (const fs::path& file : files) {
    const fs::file_status status = fs::status(file, error);
    if (fs::is_directory(status) || fs::is_fifo(status) || fs::is_socket(status))
      fail_input("{}: '{}' is {}; a regular file is expected, which the run would write: remove it, or choose another run.name",
                 source_of_folder(config), file.string(), fs::is_directory(status) ? "a directory" : "a pipe or socket");
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
      source_of_folder(config), folder.string(), steps_of_run(folder),
      has_checkpoints ? "--resume goes on with it"
                      : "--resume cannot go on with it: it has no checkpoint (run.checkpoint_interval writes some)");
}

std::string folder_of_series(const MonitorConfig::Series& series, const std::string& own) {
  return (fs::path(series.output_path.empty() ? own : series.output_path) / series.job_name).string();
}

// Makes a folder where it is missing. Gives "" where it can be written then, else why not, as an end of "FOLDER ...".
std::string make_writable(const std::string& folder, NewFolders& new_folders) {
  std::string why = new_folders.make(folder);
  if (why.empty() && ::access(folder.c_str(), W_OK | X_OK) != 0) why = fmt::format("cannot be written into: {}", std::strerror(errno));
  return why;
}

// Two monitors may write to one folder, and to that of the run: it has its owner already.
void claim_once(const std::string& folder, const std::string& block, std::vector<std::string>& owned, std::vector<FolderLock>& locks) {
  if (std::any_of(owned.begin(), owned.end(), [&](const std::string& other) { return is_same_place(folder, other); })) return;
  locks.emplace_back(folder, fmt::format("{0}.output_path or {0}.job_name", block));
  owned.push_back(folder);
}

// Beside a folder, for what was in it: FOLDER.former, or FOLDER.former-2 and so on where that is taken.
fs::path new_folder_beside(const std::string& folder) {
  const std::string first = fs::path(folder).lexically_normal().string() + ".former";
  std::error_code error;
  fs::path path = first;
  for (int number = 2; !fs::create_directory(path, error) && !error; ++number) path = fmt::format("{}-{}", first, number);
  if (error) fail_run("cannot make the folder {} for the series of another run: {}", path.string(), error.message());
  return path;
}

// Makes it where it is missing.
void make_folder(const Config& config, const std::string& folder, NewFolders& new_folders) {
  if (const std::string why = make_writable(folder, new_folders); !why.empty())
    fail_input("{}: run.output_dir: the folder {} of the run {}. Set run.output_dir to one that can be written",
               config.source("run.output_dir"), folder, why);
}

void check_writable_file(const Config& config, const char* key, const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code error;
  if (fs::is_directory(path, error)) fail_input("{}: {}: {} is a folder: name a file", config.source(key), key, path.string());
  if (::access(fs::exists(path, error) ? path.c_str() : folder.c_str(), W_OK) != 0)
    fail_input("{}: {}: cannot write {}: {}", config.source(key), key, path.string(), std::strerror(errno));
}

// Of a run whose file gives no name: the first free one, made here so that no other run takes it.
void make_new_folder(Config& config, NewFolders& new_folders) {
  make_folder(config, config.run.output_dir, new_folders);
  const std::string name = config.run.name;
  std::error_code error;
  for (int number = 2; !new_folders.make_one(run_folder_path(config), error); ++number) {
    if (error) return make_folder(config, run_folder_path(config), new_folders);  // which says why not
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

std::string csv_folder(const Config& config, const RunFolder& folder) {
  return folder_of_series(config.monitor.csv, folder.file(CsvMonitor::kFolder));
}

std::string tensorboard_folder(const Config& config, const RunFolder& folder) {
  return folder_of_series(config.monitor.tensorboard, folder.file(TensorBoard::kFolder));
}

std::vector<FolderLock> claim_other_files(const Config& config, const RunFolder& folder, NewFolders& new_folders) {
  const std::string& profile = config.monitor.flops_output_file;
  if (config.monitor.flops_enabled && !profile.empty()) {
    check_writable_file(config, "flops_profiler.output_file", profile);
    if (!may_hold_flops_profile(profile))
      fail_input("{}: flops_profiler.output_file: {} is a file of another kind, which the profile would replace: name another file",
                 config.source("flops_profiler.output_file"), profile);
  }
  std::vector<FolderLock> locks;
  std::vector<std::string> owned{folder.path()};
  if (config.monitor.csv.enabled && !config.monitor.csv.output_path.empty()) {
    const std::string monitor = csv_folder(config, folder);
    if (const std::string why = make_writable(monitor, new_folders); !why.empty())
      fail_input("{}: csv_monitor.output_path: the folder {} {}. Set it to one that can be written",
                 config.source("csv_monitor.output_path"), monitor, why);
    claim_once(monitor, "csv_monitor", owned, locks);
  }
  if (config.monitor.tensorboard.enabled && !config.monitor.tensorboard.output_path.empty()) {
    const std::string monitor = tensorboard_folder(config, folder);
    if (make_writable(monitor, new_folders).empty()) claim_once(monitor, "tensorboard", owned, locks);
  }
  return locks;
}

std::vector<std::string> set_series_aside(const Config& config, const RunFolder& folder) {
  std::map<std::string, std::vector<fs::path>> former;  // by folder, which the two monitors may share
  const auto add = [&](const MonitorConfig::Series& series, const std::string& place, const std::vector<fs::path>& files) {
    if (series.enabled && !files.empty()) former[place].insert(former[place].end(), files.begin(), files.end());
  };
  const std::string csv = csv_folder(config, folder), board = tensorboard_folder(config, folder);
  add(config.monitor.csv, csv, CsvMonitor::series_in(csv));
  add(config.monitor.tensorboard, board, TensorBoard::events_in(board));
  std::vector<std::string> notes;
  for (const auto& [place, files] : former) {
    const fs::path beside = new_folder_beside(place);
    for (const fs::path& file : files) {
      std::error_code error;
      fs::rename(file, beside / file.filename(), error);
      if (error) fail_run("cannot move {} of another run to {}: {}", file.string(), beside.string(), error.message());
    }
    notes.push_back(fmt::format("{} held the series of another run: they are in {} now (another job_name keeps them where they are)", place,
                                beside.string()));
  }
  return notes;
}

std::string run_folder_path(const Config& config) { return (fs::path(config.run.output_dir) / config.run.name).string(); }

void check_run_folder(const Config& config) {
  NewFolders new_folders;
  make_folder(config, config.run.is_named ? run_folder_path(config) : config.run.output_dir, new_folders);
}

RunFolder RunFolder::claim(Config& config, bool continues) {
  RunFolder folder;
  const bool is_new = !config.run.is_named && !continues;
  is_new ? make_new_folder(config, folder.new_folders_) : make_folder(config, run_folder_path(config), folder.new_folders_);
  folder.path_ = run_folder_path(config);
  folder.lock_ = FolderLock(folder.path_, "run.name");
  check_files_of_run(config, folder.path_, continues);
  if (continues) return folder;
  folder.former_ = leavings_of_run(folder.path_);
  if (folder.replaces() && !config.run.overwrite) refuse(config, folder.path_);
  if (folder.replaces())
    for (const char* name : {"checkpoints", CsvMonitor::kFolder, TensorBoard::kFolder}) folder.former_.emplace_back(folder.file(name));
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
  new_folders_.keep();
  for (const fs::path& path : former_) {
    std::error_code error;
    fs::remove_all(path, error);
    if (error) fail_run("cannot remove {} of the former run: {}", path.string(), error.message());
  }
}

void RunFolder::leave() {
  lock_ = FolderLock();
  new_folders_.remove();
}

RunFolder::~RunFolder() { leave(); }

RunFolder& RunFolder::operator=(RunFolder&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(lock_, other.lock_);
  std::swap(new_folders_, other.new_folders_);
  std::swap(former_, other.former_);
  return *this;
}

}  // namespace zerostep
