#include "experiments/report/archived_runs.h"

#include <set>

#include "base/error.h"
#include "experiments/sweep/journal.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

void add_sweeps(const fs::path& folder, int levels, std::set<fs::path>& out) {
  std::error_code error;
  if (fs::is_regular_file(folder / Journal::kFile, error)) out.insert(fs::weakly_canonical(folder, error));
  if (levels == 0) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    if (entry.is_directory(error) && entry.path().filename() != "checkpoints") add_sweeps(entry.path(), levels - 1, out);
}

RunState state_of(SweepState state) {
  switch (state) {
    case SweepState::Queued:
    case SweepState::Running:
      return RunState::Unknown;  // the journal tells of no end
    case SweepState::Done:
      return RunState::Done;
    case SweepState::Failed:
      return RunState::Failed;
    case SweepState::Interrupted:
      return RunState::Interrupted;
    case SweepState::Killed:
      return RunState::Killed;
  }
  return RunState::Unknown;
}

// The block of a configuration that has these values. Keys below a value that is no block replace it.
nlohmann::json config_of(const KeyValues& values) {
  nlohmann::json out = nlohmann::json::object();
  for (const auto& [path, value] : values) {
    nlohmann::json* at = &out;
    for (size_t begin = 0, end = 0; end != path.npos; begin = end + 1) {
      end = path.find('.', begin);
      if (!at->is_object()) *at = nlohmann::json::object();
      at = &(*at)[path.substr(begin, end - begin)];
    }
    *at = value;
  }
  return out;
}

}  // namespace

std::vector<ArchivedRun> find_archived_runs(const std::vector<std::string>& places, std::vector<std::string>& notes) {
  constexpr int kLevels = 2;
  std::set<fs::path> sweeps;
  std::error_code error;
  for (const std::string& place : places)
    if (fs::is_directory(place, error)) add_sweeps(place, kLevels, sweeps);
  std::vector<ArchivedRun> out;
  for (const fs::path& sweep : sweeps) try {
      for (const auto& [name, run] : Journal::read(sweep / Journal::kFile)) {
        if (run.archive.empty() || holds_run(sweep / name)) continue;
        ArchivedRun& archived = out.emplace_back(ArchivedRun{{}, run.row, run.archive});
        archived.record.name = name;
        archived.record.folder = sweep / name;
        archived.record.config = config_of(run.row.values);
        archived.record.state = state_of(run.row.state);
        archived.record.why = run.row.error;
      }
    } catch (const InputError& damaged) {
      notes.push_back(std::string("archived runs of a sweep are not known: ") + damaged.what());
    }
  return out;
}

}  // namespace zerostep
