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

// Short runs of the file's mode, optimizer, type and clipping with `epsilon`, each from the first values at a constant rate, on the same
// batches along the same directions: what differs between two of them is the rate alone. (A single run with a growing rate would change
// rate, batch and progress together, and a forward-only one descends too little within a step to tell.) Rates are half decades from 1e-7
// up, until two in a row have made the loss clearly worse or the rate is 100.
RateCurve rate_curve(const ProbeInput& input, double epsilon, int64_t steps);

struct RecommendedRate {
  double lr = 0;
  double good = 0;  // the lowest rate that lowers the loss nearly as much as the best one
  double best = 0;  // the rate with the lowest loss
};
constexpr double kNearlyAsMuch = 0.9;

// Half a decade below the lowest rate that lowers the loss by 90 % of what the best one does: what descends fastest within a few steps is
// close to what diverges in many. Where the best rates do about as much as each other, chance decides which of them is the best one, but
// hardly which is the lowest of the good ones: with twice the steps half the rate does as much, so it moves by half a decade as a rule.
// The lowest rate of the table itself where that is a good one. Nothing where no rate has lowered the loss.
std::optional<RecommendedRate> recommended_rate(const RateCurve& curve);

}  // namespace zerostep
