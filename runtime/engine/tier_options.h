#pragma once
#include "base/device.h"
#include "runtime/config/config.h"
#include "runtime/state/store.h"

namespace zerostep {

// How a configuration uses memory of the host, which is pinned for the device, and files, on a rank.
TierOptions tier_options(const Config& config, int rank, const Device& device = Device::cpu());

}  // namespace zerostep
