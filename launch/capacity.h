#pragma once
#include "launch/fit.h"
#include "launch/target.h"
#include "runtime/report/plan_report.h"

namespace zerostep {

// What a rank may use of each tier. Where the device is this machine's processor, its limit and what rests on the host are
// parts of one memory.
TierBytes capacity(const Config& config, const Target& target, const MemoryLimit& limit);

}  // namespace zerostep
