#pragma once
#include <functional>
#include <map>
#include <string>

#include "experiments/sweep/planned_run.h"
#include "experiments/sweep/points.h"
#include "runtime/report/plan_report.h"

namespace zerostep {

// Plans the points of a sweep for this machine, each on so many ranks with `threads` each, which on GPUs have `gpu` of one's memory. Points
// that differ in what no plan depends on share one.
class SweepPlanner {
 public:
  SweepPlanner(SweepBase base, int ranks, int threads, MemoryLimit gpu)
      : base_(std::move(base)), ranks_(ranks), threads_(threads), gpu_(std::move(gpu)) {}
  // Makes the tokens of its data, where they are not there from before: then the runs find them. `say` gets what takes long.
  // InputError: it could not be a run here (a file that is missing, say).
  void make_tokens(const SweepPoint& point, const std::function<void(const std::string&)>& say);
  // InputError likewise. That it does not fit is no error: the plan says so.
  PlannedRun plan(const SweepPoint& point);
  // Why plans have no times; "": they have.
  const std::string& why_untimed() const { return why_untimed_; }

 private:
  MemoryLimit limit_of(const Config& config) const;

  SweepBase base_;
  int ranks_, threads_;
  MemoryLimit gpu_;
  std::map<std::string, PlannedRun> plans_;
  std::map<std::string, int64_t> samples_;  // of the training data, by what it depends on
  std::string why_untimed_;
};

}  // namespace zerostep
