#pragma once
#include "runtime/config/config.h"
#include "runtime/state/store.h"

namespace zerostep {

// How a configuration uses memory of the host and files, on a rank.
TierOptions tier_options(const Config& config, int rank);

}  // namespace zerostep
