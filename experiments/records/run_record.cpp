#include "experiments/records/run_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>

#include "base/error.h"
#include "base/json_depth.h"
#include "base/nth.h"
#include "experiments/records/read_file.h"
#include "models/text_file.h"
#include "runtime/config/document.h"
#include "runtime/config/schema.h"
#include "runtime/report/folder_lock.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

constexpr int kLevels = 3;

// The run's folder need not be named in what is said of its files.
void add_unread(RunRecord& run, std::string what) {
  const std::string folder = run.folder.string() + "/";
  for (size_t at = what.find(folder); at != what.npos; at = what.find(folder)) what.erase(at, folder.size());
  run.unread += (run.unread.empty() ? "" : "; ") + what;
}

bool is_there(const fs::path& file) {
  std::error_code error;
  return fs::exists(fs::symlink_status(file, error));
}

// null where the file is not there, cannot be read, or is no JSON.
nlohmann::json read_json(RunRecord& run, const char* name) {
  const fs::path file = run.folder / name;
  if (!is_there(file)) return {};
  try {
    nlohmann::json out = nlohmann::json::parse(unless_too_deep(read_file(file)), nullptr, false);
    if (out.is_object()) return out;
    add_unread(run, fmt::format("{} is damaged: a JSON object is expected", name));
  } catch (const std::exception& error) {
    add_unread(run, error.what());
  }
  return {};
}

// The way the last process of a run has ended, as the lines of its log since that process began tell.
void read_end(RunRecord& run) {
  constexpr std::string_view kBegins = "ranks   ", kStopped = "stopped by ", kError = "zerostep: ", kAsked = "--stop-after";
  const fs::path log = run.folder / "log.txt";
  run.state = RunState::Killed;
  if (!is_there(log)) return;
  std::string text;
  try {
    text = read_file(log);
  } catch (const std::exception& error) {
    run.state = RunState::Unknown;
    return add_unread(run, error.what());
  }
  for_each_line(text, [&](std::string_view line, int64_t) {
    const size_t counted = line.find_first_not_of("0123456789,");
    if (line.starts_with(kBegins) || line.starts_with(kKilledBy)) {
      run.state = RunState::Killed;
      run.why = line.starts_with(kKilledBy) ? line.substr(kKilledBy.size()) : "";
    }
    if (line.starts_with(kStopped)) {
      run.state = RunState::Interrupted;
      run.why = line.substr(kStopped.size(), line.find(" after ") - kStopped.size());
      if (run.why == kAsked) {
        run.state = RunState::Done;
        run.why = "has the steps it was asked for (--stop-after, or a search)";
      }
    }
    if (line == kSweepInterrupted) {
      run.state = RunState::Interrupted;
      run.why = line;
    }
    if (line.starts_with(kError)) {
      run.state = RunState::Failed;
      run.why = line.substr(kError.size());
    }
    if (counted != 0 && counted != line.npos &&
        (line.substr(counted).starts_with(" steps done") || line.substr(counted).starts_with(" step done"))) {
      run.state = RunState::Done;
      run.why.clear();
    }
  });
}

void add_below(const fs::path& folder, int levels, std::vector<fs::path>& out) {
  if (holds_run(folder)) out.push_back(folder);
  if (levels == 0) return;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    if (entry.is_directory(error) && entry.path().filename() != "checkpoints") add_below(entry.path(), levels - 1, out);
}

// The last `count` parts of a path.
std::string tail_of(const fs::path& path, int64_t count) {
  std::vector<fs::path> parts(path.begin(), path.end());
  if (!parts.empty() && parts.back().empty()) parts.pop_back();
  fs::path out;
  for (size_t i = parts.size() - std::min(parts.size(), static_cast<size_t>(count)); i < parts.size(); ++i) out /= parts[i];
  return out.string();
}

// What each run's name is the end of: its folder, or its file without ".csv", unless that is another run's path too.
std::vector<fs::path> paths_of_names(const std::vector<RunRecord*>& runs) {
  const auto whole = [](const fs::path& path) { return fs::absolute(path).lexically_normal(); };
  std::vector<fs::path> out;
  for (const RunRecord* run : runs) out.push_back(whole(run->folder.empty() ? fs::path(run->metrics).replace_extension() : run->folder));
  for (bool is_changed = true; is_changed;) {
    is_changed = false;
    std::map<fs::path, int> count;
    for (const fs::path& path : out) ++count[path];
    for (size_t i = 0; i < runs.size(); ++i) {
      if (!runs[i]->folder.empty() || count[out[i]] == 1 || out[i] == whole(runs[i]->metrics)) continue;
      out[i] = whole(runs[i]->metrics);
      is_changed = true;
    }
  }
  return out;
}

// Whether one of these paths lies below a folder, or is it.
bool holds_any_of(const std::string& folder, const std::vector<fs::path>& paths) {
  std::error_code error;
  const fs::path above = fs::weakly_canonical(folder, error);
  return std::any_of(paths.begin(), paths.end(), [&](const fs::path& path) {
    const fs::path way = fs::weakly_canonical(path, error).lexically_relative(above);
    return !way.empty() && *way.begin() != "..";
  });
}

void add_flat(const nlohmann::json& value, const std::string& path, std::map<std::string, nlohmann::json>& out) {
  // What the sources of a key say is one value, as a list of them is.
  const schema::Key* key = schema::find(path);
  if (!value.is_object() || value.empty() || (key != nullptr && key->type.kind == schema::Kind::Sources)) {
    out[path] = value;
    return;
  }
  for (const auto& [name, inner] : value.items()) add_flat(inner, path.empty() ? name : path + "." + name, out);
}

// Whether a key says where a run writes, which every run does elsewhere.
bool names_a_place(std::string_view path) {
  return path == "run.name" || path == "run.output_dir" || path == "data.cache" || path.ends_with(".output_path") ||
         path.ends_with(".job_name");
}

}  // namespace

std::string_view name_of(RunState state) {
  constexpr std::string_view kNames[] = {"running", "done", "interrupted", "failed", "killed", "unknown", "queued"};
  return nth(kNames, static_cast<int>(state));
}

std::string flaw_of(RunState state, bool has_diverged) {
  return is_broken(state) ? std::string(name_of(state)) : has_diverged ? "diverged" : "";
}

const nlohmann::json& RunRecord::value(std::string_view path) const {
  static const nlohmann::json kNone;
  const nlohmann::json* at = &config;
  while (true) {
    const size_t dot = path.find('.');
    if (!at->is_object()) return kNone;
    const auto it = at->find(std::string(path.substr(0, dot)));
    if (it == at->end()) return kNone;
    at = &*it;
    if (dot == path.npos) return *at;
    path.remove_prefix(dot + 1);
  }
}

double RunRecord::planned_bytes(std::string_view tier) const {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  if (!plan.is_object()) return kUnknown;
  const auto it = plan.find(std::string(tier) + "_peak_bytes");
  return it != plan.end() && it->is_number() ? it->get<double>() : kUnknown;
}

int64_t RunRecord::total_steps() const {
  constexpr const char* kSettled = "run_steps";  // in a plan: what run.epochs come to
  const nlohmann::json& steps = value("run.steps");
  if (steps.is_number_integer()) return steps.get<int64_t>();
  if (!plan.is_object() || !plan.contains(kSettled) || !plan[kSettled].is_number_integer()) return 0;
  return plan[kSettled].get<int64_t>();
}

bool holds_run(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_regular_file(folder / "metrics.csv", error)) return false;
  std::ifstream in(folder / "metrics.csv");
  if (!in.is_open()) return fs::is_regular_file(folder / "metrics.csv", error);  // and not gone meanwhile
  std::string header;
  return std::getline(in, header) && !in.eof();
}

RunRecord read_run(const fs::path& folder) {
  RunRecord run;
  run.folder = folder;
  run.metrics = folder / "metrics.csv";
  run.name = tail_of(fs::absolute(folder).lexically_normal(), 1);
  if (is_there(run.metrics) && !std::ifstream(run.metrics).is_open()) {
    run.may_read_metrics = false;
    add_unread(run, fmt::format("cannot read metrics.csv: {}", std::strerror(errno)));
  }
  run.config = read_json(run, "config.json");
  run.plan = read_json(run, "plan.json");
  run.owner = FolderLock::owner(folder.string());
  run.state = RunState::Running;
  if (run.owner.empty()) read_end(run);
  return run;
}

fs::path link_on_way(const fs::path& place, const fs::path& folder) {
  std::error_code error;
  fs::path way = place.lexically_normal();
  if (!way.has_filename()) way = way.parent_path();
  const fs::path rest = folder.lexically_normal().lexically_relative(way);
  if (rest.empty() || rest == ".") return fs::is_symlink(way, error) ? way : fs::path();
  for (const fs::path& part : rest) {
    way /= part;
    if (fs::is_symlink(way, error)) return way;
  }
  return {};
}

void name_runs(const std::vector<RunRecord*>& runs) {
  constexpr int64_t kMostParts = 64;
  const std::vector<fs::path> paths = paths_of_names(runs);
  int64_t of_folders = 1, of_files = 1;
  while (true) {
    std::map<std::string, std::vector<RunRecord*>> named;
    for (size_t i = 0; i < runs.size(); ++i) {
      runs[i]->name = tail_of(paths[i], runs[i]->folder.empty() ? of_files : of_folders);
      named[runs[i]->name].push_back(runs[i]);
    }
    const bool is_last = std::max(of_folders, of_files) == kMostParts;
    bool are_folders = false, are_files = false;  // that have one name
    for (const auto& [name, all] : named)
      for (RunRecord* run : all) {
        if (all.size() > 1) (run->folder.empty() ? are_files : are_folders) = true;
        if (all.size() > 1 && is_last) run->name = run->metrics.string();
      }
    if (is_last || (!are_folders && !are_files)) break;
    if (are_folders) ++of_folders;
    if (are_files) ++of_files;
  }
  // A file system takes any bytes for a name; pages and pictures are text.
  for (RunRecord* run : runs) run->name = schema::printable(run->name);
}

std::vector<RunRecord> find_runs(const std::vector<std::string>& places, const std::vector<fs::path>& others) {
  std::vector<RunRecord> out;
  std::set<fs::path> known;
  std::error_code error;
  for (const std::string& place : places) {
    if (!fs::exists(place, error)) fail_input("{} cannot be found: a run's folder, a folder of runs or a CSV file is expected", place);
    if (!fs::is_directory(place, error)) {
      if (!known.insert(fs::weakly_canonical(place, error)).second) continue;
      RunRecord run;
      run.metrics = place;
      if (fs::path(place).filename() == "metrics.csv") run = read_run(fs::absolute(place).parent_path());
      out.push_back(std::move(run));
      continue;
    }
    std::vector<fs::path> folders;
    add_below(place, kLevels, folders);
    if (folders.empty() && !holds_any_of(place, others))
      fail_input(
          "{} holds no run: a folder with a metrics.csv, as `zerostep train` leaves it, is expected there or at most {} levels below it",
          place, kLevels);
    // Of a folder and links to it the folder counts.
    const auto links =
        std::stable_partition(folders.begin(), folders.end(), [&](const fs::path& folder) { return link_on_way(place, folder).empty(); });
    std::sort(folders.begin(), links);
    std::sort(links, folders.end());
    std::erase_if(folders,
                  [&](const fs::path& folder) { return !known.insert(fs::weakly_canonical(folder / "metrics.csv", error)).second; });
    std::sort(folders.begin(), folders.end());
    for (const fs::path& folder : folders) out.push_back(read_run(folder));
  }
  std::vector<RunRecord*> all;
  for (RunRecord& run : out) all.push_back(&run);
  name_runs(all);
  return out;
}

std::map<std::string, nlohmann::json> flat(const nlohmann::json& config) {
  std::map<std::string, nlohmann::json> out;
  if (config.is_object() && !config.empty()) add_flat(config, "", out);
  return out;
}

std::string plain(const nlohmann::json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

const std::string& RunKeys::value(const std::string& path) const {
  static const std::string kNone;
  const auto it = values.find(path);
  return it == values.end() ? kNone : it->second;
}

std::vector<std::string> differing_keys(const std::vector<RunKeys>& runs) {
  std::set<std::string> paths;
  for (const RunKeys& run : runs)
    for (const auto& [path, value] : run.values) paths.insert(path);
  std::vector<std::string> out;
  for (const std::string& path : paths) {
    std::set<std::string> values;
    for (const RunKeys& run : runs)
      if (run.knows(path)) values.insert(run.value(path));
    if (values.size() > 1 && !names_a_place(path)) out.push_back(path);
  }
  return out;
}

}  // namespace zerostep
