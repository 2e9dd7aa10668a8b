#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "experiments/sweep/planned_run.h"
#include "experiments/sweep/points.h"
#include "launch/subject.h"
#include "launch/target.h"
#include "runtime/report/plan_report.h"

namespace zerostep {

// Plans the points of a sweep for this machine, each on so many ranks with `threads` each, which on GPUs have `gpu` of one's memory. Points
// that differ in what no plan depends on share one.
class SweepPlanner {
 public:
  SweepPlanner(SweepBase base, int ranks, int threads, MemoryLimit gpu)
      : base_(std::move(base)), ranks_(ranks), threads_(threads), gpu_(std::move(gpu)) {}
  // Plans every point. `errors` gain all that each has against it (files that are missing, say), but for what its texts hold. That it does
  // not fit is no error: the plan says so.
  void plan(const std::vector<SweepPoint>& points, std::vector<PlannedRun>& plans, PointErrors& errors);
  // `errors` gain what is wrong with the files of points whose configurations are invalid, as far as these tell which files they are.
  void look_at_files(const std::vector<SweepPoint>& invalid, PointErrors& errors) const;
  // Makes the tokens of the points' data, where they are not there from before: then the runs find them. `say` gets what takes long,
  // `errors` what is refused.
  void make_tokens(const std::vector<SweepPoint>& points, const std::function<void(const std::string&)>& say, PointErrors& errors);
  // The same of those points that have no error yet, but that no folder is made for tokens and texts of more than kTriedBytes, whose tokens
  // are not there, are left out. Gives the names of the points whose texts were not all looked at.
  std::vector<std::string> try_texts(const std::vector<SweepPoint>& points, PointErrors& errors);
  static constexpr int64_t kTriedBytes = int64_t{64} << 20;
  // Why plans have no times; "": they have.
  const std::string& why_untimed() const { return why_untimed_; }

 private:
  // What opening the data of a point has come to.
  struct OpenedTexts {
    std::vector<std::string> refused;
    bool is_whole = true;  // all were looked at
  };
  OpenedTexts open_texts(const SweepPoint& point, const DataHooks& hooks);
  PlannedRun plan(const SweepPoint& point, const Subject& subject);
  MemoryLimit limit_of(const Config& config) const;
  Target target() const;

  SweepBase base_;
  int ranks_, threads_;
  MemoryLimit gpu_;
  std::map<std::string, PlannedRun> plans_;
  std::string why_untimed_;
};

}  // namespace zerostep
