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
// up, until two in a row have made the loss clearly worse or the rate is 1.
RateCurve rate_curve(const ProbeInput& input, double epsilon, int64_t steps);

// Half a decade below the rate with the lowest loss: what descends fastest within a few steps is close to what diverges in many. The lowest
// rate itself where that is the best. Nothing where no rate has lowered the loss.
std::optional<double> recommended_rate(const RateCurve& curve);

}  // namespace zerostep
