#include "experiments/records/run_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <set>

#include "base/error.h"
#include "base/nth.h"
#include "experiments/records/read_file.h"
#include "models/text_file.h"
#include "runtime/config/document.h"
#include "runtime/report/folder_lock.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

constexpr int kLevels = 3;

// null where the file is not there or, as it is being written, no JSON.
nlohmann::json read_json(const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return {};
  nlohmann::json out = nlohmann::json::parse(read_file(file), nullptr, false);
  return out.is_discarded() ? nlohmann::json() : out;
}

// The way the last process of a run has ended, as the lines of its log since that process began tell.
void read_end(RunRecord& run) {
  constexpr std::string_view kBegins = "ranks   ", kStopped = "stopped by ", kError = "zerostep: ", kAsked = "--stop-after";
  const fs::path log = run.folder / "log.txt";
  std::error_code error;
  run.state = RunState::Killed;
  if (!fs::is_regular_file(log, error)) return;
  for_each_line(read_file(log), [&](std::string_view line, int64_t) {
    const size_t counted = line.find_first_not_of("0123456789,");
    if (line.starts_with(kBegins)) run.state = RunState::Killed;
    if (line.starts_with(kStopped)) {
      run.state = RunState::Interrupted;
      run.why = line.substr(kStopped.size(), line.find(" after ") - kStopped.size());
      if (run.why == kAsked) run.state = RunState::Done;
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
  if (run.state == RunState::Killed) run.why.clear();
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

// As many parts of the paths as tell them apart.
void name_runs(std::vector<RunRecord>& runs) {
  constexpr int64_t kMostParts = 64;
  for (int64_t parts = 1; parts <= kMostParts; ++parts) {
    std::map<std::string, int> count;
    for (RunRecord& run : runs) {
      const fs::path path = run.folder.empty() ? fs::path(run.metrics).replace_extension() : run.folder;
      if (parts == 1 || run.name.empty()) run.name = tail_of(fs::absolute(path).lexically_normal(), parts);
      ++count[run.name];
    }
    bool are_apart = true;
    for (RunRecord& run : runs)
      if (count[run.name] > 1) {
        run.name.clear();
        are_apart = false;
      }
    if (are_apart) return;
  }
  for (RunRecord& run : runs)
    if (run.name.empty()) run.name = run.metrics.string();
}

// A file system takes any bytes for a name; pages and pictures are text.
void make_printable(std::vector<RunRecord>& runs) {
  for (RunRecord& run : runs) run.name = schema::printable(run.name);
}

void add_flat(const nlohmann::json& value, const std::string& path, std::map<std::string, nlohmann::json>& out) {
  if (!value.is_object() || value.empty()) {
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
  constexpr std::string_view kNames[] = {"running", "done", "interrupted", "failed", "killed", "unknown"};
  return nth(kNames, static_cast<int>(state));
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
  const nlohmann::json& steps = value("run.steps");
  return steps.is_number_integer() ? steps.get<int64_t>() : 0;
}

bool holds_run(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_regular_file(folder / "metrics.csv", error)) return false;
  std::ifstream in(folder / "metrics.csv");
  std::string header;
  return std::getline(in, header) && !in.eof();
}

RunRecord read_run(const fs::path& folder) {
  RunRecord run;
  run.folder = folder;
  run.metrics = folder / "metrics.csv";
  run.name = tail_of(fs::absolute(folder).lexically_normal(), 1);
  run.config = read_json(folder / "config.json");
  run.plan = read_json(folder / "plan.json");
  run.owner = FolderLock::owner(folder.string());
  run.state = RunState::Running;
  if (run.owner.empty()) read_end(run);
  return run;
}

std::vector<RunRecord> find_runs(const std::vector<std::string>& places) {
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
    std::sort(folders.begin(), folders.end());
    if (folders.empty())
      fail_input(
          "{} holds no run: a folder with a metrics.csv, as `zerostep train` leaves it, is expected there or at most {} levels below it",
          place, kLevels);
    for (const fs::path& folder : folders)
      if (known.insert(fs::weakly_canonical(folder / "metrics.csv", error)).second) out.push_back(read_run(folder));
  }
  name_runs(out);
  make_printable(out);
  return out;
}

std::map<std::string, nlohmann::json> flat(const nlohmann::json& config) {
  std::map<std::string, nlohmann::json> out;
  if (config.is_object() && !config.empty()) add_flat(config, "", out);
  return out;
}

std::string plain(const nlohmann::json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::vector<std::string> differing_keys(const std::vector<std::map<std::string, std::string>>& runs) {
  struct Seen {
    std::set<std::string> values;
    size_t runs = 0;
  };
  std::map<std::string, Seen> all;
  for (const auto& values : runs)
    for (const auto& [path, value] : values) {
      Seen& seen = all[path];
      seen.values.insert(value);
      ++seen.runs;
    }
  std::vector<std::string> out;
  for (const auto& [path, seen] : all)
    if ((seen.values.size() > 1 || seen.runs < runs.size()) && !names_a_place(path)) out.push_back(path);
  return out;
}

}  // namespace zerostep
