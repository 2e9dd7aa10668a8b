#pragma once
#include <functional>
#include <string>
#include <vector>

#include "experiments/sweep/planned_run.h"
#include "experiments/sweep/points.h"
#include "experiments/sweep/sweep_file.h"
#include "experiments/sweep/sweep_row.h"

namespace zerostep {

struct SweepOptions {
  bool resumes = false, retries_failed = false, stops_on_failure = false;
};

// A sweep whose points are resolved and planned.
struct SweepRequest {
  SweepFile file;
  std::string base;  // the file of a run that every point starts from
  std::vector<SweepPoint> points;
  std::vector<PlannedRun> planned;  // of each point
  std::vector<SweepPoint> others;   // points of a sweep that goes on which are not to be started: their rows stay
  SweepOptions options;
  std::string program;             // that runs them
  std::string goes_on;             // the command that goes on with the sweep, where the folder holds one; "": none does
  int64_t memory_bytes = 0;        // of this machine that are free now
  int64_t process_bytes = 0;       // that a process has before it holds a model
  std::vector<int64_t> gpu_bytes;  // that are free now of the memory of each of file.resources.gpus; none: not known
  std::function<void()> on_begin;  // called once the folder is owned, before anything is started
  // How often the sweep was asked to stop: once: its runs stop, and save where they make checkpoints; twice: they end.
  std::function<int()> interrupts;
};

// What a screen shows of a sweep.
class SweepScreen {
 public:
  virtual ~SweepScreen() = default;
  virtual void line(const std::string& text) = 0;
  // Every row as it stands, and the steps that each run is to have; called many times a second.
  virtual void show(const std::vector<SweepRow>& rows, const std::vector<int64_t>& steps) = 0;
  // The last time: it stays.
  virtual void finish(const std::vector<SweepRow>& rows, const std::vector<int64_t>& steps) = 0;
};

struct SweepOutcome {
  std::vector<SweepRow> rows;    // of the request's points
  std::vector<SweepRow> others;  // of the other runs of a sweep that goes on: as they were
  bool was_interrupted = false;
  size_t count(SweepState state) const;  // of rows
};

// Runs what is to be run, as far as the machine has room, the longest first, and gives what became of it. Each run is a process group with
// an ordinary run folder, whose output.txt has what it says. Leaves runs.csv (every run of the sweep, started now or not) and journal.jsonl
// in the sweep's folder, which this process owns meanwhile; what else lies there on_begin leaves. However this process ends, its runs end
// with it. InputError: the folder holds a sweep and options.resumes is not set, holds none and it is, or has another owner. RunError: the
// folder cannot be written, or a run cannot be started.
SweepOutcome run_sweep(const SweepRequest& request, SweepScreen& screen);

}  // namespace zerostep
