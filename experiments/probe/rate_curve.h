#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "experiments/probe/probe_input.h"

namespace zerostep {

// The loss after a few steps at a learning rate, on the batches that follow them. Not finite: the steps diverged.
struct RateLoss {
  double lr = 0, loss = 0;
};
struct RateCurve {
  double start = 0;  // the loss on the same batches before any step
  std::vector<RateLoss> rates;
};

// The steps whose rate is tried. Where backprop steps have a rate of their own (step.bp_lr), each kind is tried while that of the other is
// 0, so that what one does hides nothing of the other.
enum class ProbedSteps : uint8_t { All, ForwardOnly, Backprop };

// Short runs of the file's mode, optimizer, type and clipping with `epsilon`, each from the first values at a constant rate, on the same
// batches along the same directions: what differs between two of them is the rate alone. (A single run with a growing rate would change
// rate, batch and progress together, and a forward-only one descends too little within a step to tell.) Rates are half decades from 1e-7
// up, until two in a row have made the loss clearly worse or the rate is 100.
RateCurve rate_curve(const ProbeInput& input, ProbedSteps tried, double epsilon, int64_t steps);

struct RecommendedRate {
  double lr = 0;
  double good = 0;  // the lowest rate that lowers the loss nearly as much as the best one
  double best = 0;  // the rate with the lowest loss
};
constexpr double kNearlyAsMuch = 0.9;

// A good rate lowers the loss by 90 % or more of what the best one does. Half a decade below the lowest good rate is recommended, because
// the rate that descends fastest within a few steps is close to one that diverges in many. Where that would be below the table, or
// has not lowered the loss itself, it is that lowest good rate. The lowest good rate is taken and not the best one: of rates that do about
// as much, chance decides which is the best, but hardly which is the lowest. With twice the steps half the rate does as much, so it moves
// by half a decade as a rule. Nothing where no rate has lowered the loss.
std::optional<RecommendedRate> recommended_rate(const RateCurve& curve);

}  // namespace zerostep
