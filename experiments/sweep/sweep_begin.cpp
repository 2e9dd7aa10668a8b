#include "experiments/sweep/sweep_begin.h"

#include <utility>

#include "base/error.h"
#include "base/program_name.h"
#include "experiments/sweep/former_runs.h"
#include "experiments/sweep/slurm.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void refuse_archived(const FormerRows& former, const FormerRuns& runs, const fs::path& folder) {
  const std::string& run = former.rows[former.archived.front()].run;
  fail_input("--resume: the search compares its runs by their metrics.csv, and {} is archived: unpack it with `tar -xf {} -C {}`", run,
             shell_word(runs.at(run).archive), shell_word(folder.string()));
}

SweepBegin begin_anew(const SweepRequest& request, const fs::path& folder, std::vector<int64_t> targets) {
  std::vector<SweepRow> rows;
  for (const SweepPoint& point : request.points) {
    SweepRow& row = rows.emplace_back();
    row.run = point.name;
    row.values = resolved_values(point);
  }
  refuse_unknown_folders(request.points, {}, folder);
  Journal journal(folder / Journal::kFile);
  journal.begin(request.file.name, rows.size(), false);
  return {std::move(rows), {}, std::move(targets), std::move(journal), {}};
}

}  // namespace

SweepBegin begin_sweep(const SweepRequest& request, const fs::path& folder) {
  const fs::path file = folder / Journal::kFile;
  std::vector<int64_t> targets;
  for (const PlannedRun& planned : request.planned) targets.push_back(planned.steps);
  if (!request.options.resumes) return begin_anew(request, folder, std::move(targets));
  for (const std::string& id : Journal::submitted_jobs(file))
    if (is_in_slurm(id))
      fail_input("--resume: Slurm's job {} of this sweep still waits or runs: wait for it, or end it with `scancel {}`", id, id);
  const FormerRuns former_runs = Journal::read(file);
  refuse_unknown_folders(request.points, former_runs, folder);
  FormerRows former = former_rows(request.points, former_runs, folder, request.options.retries_failed);
  if (!request.file.search) queue_shorter_runs(former, targets);
  if (request.file.search && !former.archived.empty()) refuse_archived(former, former_runs, folder);
  std::vector<SweepRow> others = rows_that_stay(request.points, request.others, former_runs, folder);
  Journal journal(file);
  journal.begin(request.file.name, former.rows.size(), true);
  for (size_t row : former.ended_unheard) journal.end(former.rows[row]);
  return {std::move(former.rows), std::move(others), std::move(targets), std::move(journal), std::move(former.notes)};
}

}  // namespace zerostep
