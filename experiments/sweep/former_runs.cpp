#include "experiments/sweep/former_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/first_names.h"
#include "base/format.h"
#include "experiments/records/last_row.h"
#include "experiments/records/metrics_table.h"
#include "experiments/records/run_record.h"
#include "experiments/sweep/train_command.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

// What tells the configuration of a run from others; nothing: the journal has no command of it, or one that is none any more.
// `slurm_ranks`: where Slurm starts the ranks, which the command does not name then.
std::optional<RunIdentity> identity_of_former(const FormerRun& run, const SweepBase& base, int slurm_ranks) {
  if (run.command.empty()) return std::nullopt;
  ConfigRequest request{
      .file = base.name, .set = point_settings(run.command), .world = ranks_of(run.command).value_or(slurm_ranks), .text = base.text};
  request.set.push_back({"run.name=\"sweep\"", ""});
  try {
    return identity_of(load_config(request));
  } catch (const InputError&) {
    return std::nullopt;
  }
}

// "2 runs keep the names of their folders: a, b".
void add_note(std::vector<std::string>& notes, const std::vector<std::string>& runs, const char* one, const char* several) {
  if (!runs.empty())
    notes.push_back(fmt::format("{} {}: {}", counted(std::ssize(runs), "run"), runs.size() == 1 ? one : several, first_names(runs)));
}

// What a run did until its sweep was killed is not in the journal: whether it is done, though the journal does not know that. One whose
// folder tells that it has saved was interrupted.
bool hear_of_end(SweepRow& row, const fs::path& folder) {
  if (!row.is_stopped()) return false;
  const RunState state = read_run(folder).state;
  if (state == RunState::Interrupted && !row.exit) row.state = SweepState::Interrupted;
  if (state != RunState::Done) return false;
  row.state = SweepState::Done;
  row.exit = 0;
  row.error.clear();
  return true;
}

// Nor is how long: what its last row tells counts.
void add_unheard_seconds(SweepRow& row, const FormerRun& former, const fs::path& folder) {
  if (former.runs_since.empty()) return;
  const auto last = last_row(folder / "metrics.csv");
  const auto stamp = last.find("timestamp");
  if (stamp == last.end()) return;
  const double seconds = seconds_of_timestamp(stamp->second) - seconds_of_timestamp(former.runs_since);
  if (seconds > 0) row.seconds += seconds;  // else the row is of a process before it
}

}  // namespace

std::vector<std::string> keep_former_names(std::vector<SweepPoint>& points, const FormerRuns& former, const SweepBase& base,
                                           int slurm_ranks) {
  std::map<std::string, std::optional<RunIdentity>> identities;  // of former runs by name
  for (const auto& [name, run] : former) identities[name] = identity_of_former(run, base, slurm_ranks);
  // Names of runs by the values of their identities. Few runs of the same values differ in their shares.
  std::map<std::string_view, std::vector<const std::string*>> by_values;
  for (const auto& [name, identity] : identities)
    if (identity) by_values[identity->values].push_back(&name);
  std::set<std::string_view> given;  // names of former runs that points have
  // Of several runs of one identity that no point has one that is done.
  const auto former_of = [&](const RunIdentity& identity) {
    const std::string* found = nullptr;
    if (const auto it = by_values.find(identity.values); it != by_values.end())
      for (const std::string* name : it->second)
        if (!given.contains(*name) && identities.at(*name)->is_same(identity) &&
            (found == nullptr || former.at(*found).row.state != SweepState::Done))
          found = name;
    return found;
  };
  std::set<std::string> taken;
  for (const auto& [name, run] : former) taken.insert(name);
  std::vector<std::string> others, numbered, gone;
  std::vector<SweepPoint*> without;  // a former run
  std::vector<std::pair<SweepPoint*, RunIdentity>> unknown;
  for (SweepPoint& point : points) {
    RunIdentity identity = identity_of(point.loaded);
    const auto own = identities.find(point.name);
    if (own != identities.end() && own->second && own->second->is_same(identity))
      given.insert(own->first);
    else
      unknown.emplace_back(&point, std::move(identity));
  }
  for (const auto& [point, identity] : unknown) {
    const auto own = identities.find(point->name);
    if (const std::string* name = former_of(identity)) {
      others.push_back(fmt::format("{} is {}", point->name, *name));
      point->name = *name;
      given.insert(*name);
    } else if (own == identities.end() || own->second) {
      without.push_back(point);
    }
  }
  for (SweepPoint* point : without) {
    const std::string wanted = point->name;
    for (int number = 2; !taken.insert(point->name).second; ++number) point->name = fmt::format("{}-{}", wanted, number);
    if (point->name != wanted) numbered.push_back(point->name);
  }
  std::set<std::string_view> names;
  for (const SweepPoint& point : points) names.insert(point.name);
  for (const auto& [name, run] : former)
    if (!names.contains(name)) gone.push_back(name);
  std::vector<std::string> notes;
  add_note(notes, others, "keeps the name of its folder", "keep the names of their folders");
  add_note(notes, numbered, "gets a number, since a former run of other values has its name",
           "get a number, since former runs of other values have their names");
  add_note(notes, gone, "of the folder is no point of the file any more and stays as it is",
           "of the folder are no points of the file any more and stay as they are");
  return notes;
}

FormerRows former_rows(const std::vector<SweepPoint>& points, const FormerRuns& former, const fs::path& sweep, bool retries_failed) {
  FormerRows out;
  std::vector<std::string> archived, anew;
  for (size_t i = 0; i < points.size(); ++i) {
    SweepRow& row = out.rows.emplace_back();
    const auto it = former.find(points[i].name);
    if (it != former.end()) row = it->second.row;
    row.run = points[i].name;
    row.values = resolved_values(points[i]);
    if (it == former.end()) continue;
    const fs::path folder = sweep / row.run;
    const bool is_there = holds_run(folder);
    const std::string archive = is_there ? "" : it->second.archive;
    if (is_there) {
      if (hear_of_end(row, folder)) out.ended_unheard.push_back(i);
      read_metrics(row, folder);
      add_unheard_seconds(row, it->second, folder);
    } else if (row.state == SweepState::Done && !archive.empty()) {
      out.archived.push_back(i);
      archived.push_back(fmt::format("{} ({})", row.run, archive));
    } else if (row.state == SweepState::Done) {
      row.state = SweepState::Queued;  // somebody has removed it
    }
    if (row.is_stopped() || (row.state == SweepState::Failed && retries_failed)) row.state = SweepState::Queued;
    if (is_there || row.state != SweepState::Queued) continue;
    row.forget_metrics();
    if (!archive.empty()) anew.push_back(fmt::format("{} ({})", row.run, archive));
  }
  add_note(out.notes, archived, "is archived and counts as done", "are archived and count as done");
  add_note(out.notes, anew, "was archived before it was done and begins anew", "were archived before they were done and begin anew");
  return out;
}

void queue_shorter_runs(FormerRows& former, const std::vector<int64_t>& steps) {
  std::vector<std::string> shorter;
  for (size_t i = 0; i < former.rows.size(); ++i) {
    SweepRow& row = former.rows[i];
    const bool is_archived = std::find(former.archived.begin(), former.archived.end(), i) != former.archived.end();
    if (row.state != SweepState::Done || row.steps >= steps[i] || is_archived) continue;
    row.state = SweepState::Queued;
    shorter.push_back(row.run);
  }
  std::erase_if(former.ended_unheard, [&](size_t i) { return former.rows[i].state == SweepState::Queued; });
  add_note(former.notes, shorter, "has fewer steps, of a search, and goes on", "have fewer steps, of a search, and go on");
}

void refuse_unknown_folders(const std::vector<SweepPoint>& points, const FormerRuns& former, const fs::path& sweep) {
  std::vector<std::string> unknown;
  for (const SweepPoint& point : points)
    if (!former.contains(point.name) && holds_run(sweep / point.name)) unknown.push_back(point.name);
  if (unknown.empty()) return;
  fail_input(
      "the folder {} holds {} that {} does not know, which a new one would replace: {}. Move {} away, or give the sweep another name",
      sweep.string(), unknown.size() == 1 ? "a run" : "runs", Journal::kFile, first_names(unknown), unknown.size() == 1 ? "it" : "them");
}

std::vector<SweepRow> rows_that_stay(const std::vector<SweepPoint>& points, const std::vector<SweepPoint>& others, const FormerRuns& former,
                                     const fs::path& sweep) {
  std::vector<SweepRow> out;
  std::set<std::string> known;
  for (const SweepPoint& point : points) known.insert(point.name);
  const auto add = [&](SweepRow row, const FormerRun& run) {
    if (const fs::path folder = sweep / row.run; holds_run(folder)) {
      hear_of_end(row, folder);
      read_metrics(row, folder);
      add_unheard_seconds(row, run, folder);
    }
    out.push_back(std::move(row));
  };
  for (const SweepPoint& point : others) {
    known.insert(point.name);
    const auto it = former.find(point.name);
    const FormerRun run = it != former.end() ? it->second : FormerRun();
    SweepRow row = run.row;
    row.run = point.name;
    row.values = resolved_values(point);
    add(std::move(row), run);
  }
  for (const auto& [name, run] : former)
    if (!known.contains(name)) add(run.row, run);
  return out;
}

}  // namespace zerostep
