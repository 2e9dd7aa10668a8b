#pragma once
#include <map>
#include <optional>
#include <vector>

#include "base/nth.h"
#include "launch/fit_planner.h"

namespace zerostep {

// What an option leaves of the device's and the host's memory is filled with parts of what rests further away: the optimizer's state on the
// device (offload_optimizer.ratio), parameters of files in memory of the host (offload_param.max_in_cpu). The bytes of a tier are very
// nearly linear in the elements that rest there, so the largest part that fits takes a few plans to find, and it is kept only where it is
// predicted to be faster. Without a machine it is kept where it fits.
class FitFiller {
 public:
  // `capacity`: of what nothing was measured for. Adds candidates to `result`.
  FitFiller(const FitRequest& request, const TierBytes& capacity, FitPlanner& planner, FitResult& result)
      : request_(request), capacity_(capacity), planner_(planner), result_(result) {}

  // Whether a candidate that does not fit may do so once some of its state stays on the device.
  bool may_fit(const FitCandidate& candidate) const;
  // Of each candidate of the search, with its layout.
  void see(const FitCandidate& candidate, const ModelLayout& layout);
  // Fills one candidate. Gives whether that adds one.
  bool fill_one(int index) {
    const FitCandidate base = nth(result_.candidates, index);
    return add(filled(base), base);
  }
  // Fills the candidates from `first` on: those that could be the best with everything on the device, the fastest first, as long as that
  // takes no more than `plans` plans.
  void fill(int first, int plans);
  // Tries other parts, other numbers of buffers and lower limits of stage 3 beside what the best candidate fills with. Gives whether
  // something is faster.
  bool polish(int best);

 private:
  // Where a tier can be cut: groups rest whole.
  struct Cuts {
    std::vector<double> ratios;     // by the number of groups whose state is offloaded, from 0 on
    std::vector<int64_t> elements;  // by the number of groups whose parameters rest in memory of the host, from 0 on
    double element_bytes = 0;       // of parameters
  };
  bool fills_state(const FitCandidate& candidate) const;
  bool fills_parameters(const FitCandidate& candidate) const;
  // Plans the candidate and judges it. False: it cannot be planned.
  bool plan(FitCandidate& candidate);
  // Of the candidate that was planned last.
  void predict(FitCandidate& candidate) const;
  // The fewest groups whose state must be offloaded for the rest to fit on the device, of a candidate with all of it offloaded.
  int fewest_offloaded(FitCandidate candidate);
  // The candidate with as many parameters in memory of the host as fit, planned and predicted.
  FitCandidate with_parameters(FitCandidate candidate);
  FitCandidate with_ratio(FitCandidate candidate, int offloaded);
  // The fastest way to fill that was found; nothing where none fits.
  std::optional<FitCandidate> filled(const FitCandidate& base);
  double reachable(const FitCandidate& candidate);
  // Adds it where it fits and is faster. Gives whether it is.
  bool add(const std::optional<FitCandidate>& candidate, const FitCandidate& than);

  const FitRequest& request_;
  const TierBytes capacity_;
  FitPlanner& planner_;
  FitResult& result_;
  std::optional<FitPlanner::Planned> planned_;                   // the last
  std::map<std::array<int, kFitDimensions>, Cuts> cuts_;         // by options
  std::map<std::array<int, kFitDimensions>, double> reachable_;  // by options
};

}  // namespace zerostep
