#include "experiments/report/absent_runs.h"

#include <filesystem>
#include <set>
#include <utility>

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
      return RunState::Queued;
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

AbsentRun absent_run(const fs::path& sweep, const SweepRow& row, const std::string& archive) {
  AbsentRun out{{}, row, archive};
  out.record.name = row.run;
  out.record.folder = sweep / row.run;
  out.record.metrics = out.record.folder / "metrics.csv";
  out.record.config = config_of(row.values);
  out.record.state = state_of(row.state);
  out.record.why = row.error.empty() && row.state == SweepState::Queued ? "it has not begun" : row.error;
  return out;
}

// One that is done and not there was taken away, and one with steps too; one that runs is about to write its first.
bool has_not_begun(const SweepRow& row) { return row.state != SweepState::Done && row.state != SweepState::Running && row.steps == 0; }

}  // namespace

std::vector<AbsentRun> find_absent_runs(const std::vector<std::string>& places, std::vector<std::string>& notes) {
  constexpr int kLevels = 2;
  std::set<fs::path> sweeps;
  std::error_code error;
  for (const std::string& place : places)
    if (fs::is_directory(place, error)) add_sweeps(place, kLevels, sweeps);
  std::vector<AbsentRun> out;
  for (const fs::path& sweep : sweeps) {
    std::set<std::string> archived;
    try {
      for (const auto& [name, run] : Journal::read(sweep / Journal::kFile)) {
        if (run.archive.empty() || holds_run(sweep / name)) continue;
        archived.insert(name);
        out.push_back(absent_run(sweep, run.row, run.archive));
      }
    } catch (const InputError& damaged) {
      notes.push_back(std::string("archived runs of a sweep are not known: ") + damaged.what());
    }
    if (!fs::is_regular_file(sweep / "runs.csv", error)) continue;
    try {
      for (const SweepRow& row : read_runs_csv(sweep / "runs.csv"))
        if (has_not_begun(row) && !archived.contains(row.run) && !holds_run(sweep / row.run)) out.push_back(absent_run(sweep, row, ""));
    } catch (const InputError& damaged) {
      notes.push_back(std::string("runs of a sweep that have not begun are not known: ") + damaged.what());
    }
  }
  return out;
}

std::vector<AbsentRun> without_archived(std::vector<AbsentRun> runs) {
  std::erase_if(runs, [](const AbsentRun& run) { return run.is_archived(); });
  return runs;
}

std::vector<RunRecord> find_runs_beside(const std::vector<std::string>& places, std::vector<AbsentRun>& absent) {
  std::vector<fs::path> others;
  for (const AbsentRun& run : absent)
    if (!run.is_archived()) others.push_back(run.record.folder);
  std::vector<RunRecord> out = find_runs(places, others);
  std::vector<RunRecord*> all;
  for (RunRecord& run : out) all.push_back(&run);
  for (AbsentRun& run : absent) all.push_back(&run.record);
  name_runs(all);
  return out;
}

}  // namespace zerostep
