#pragma once
#include <string>

#include "sharding/communicator.h"

namespace zerostep {

// DeepSpeed's comms_logger: calls, volume and time of each collective of this rank.
// Times contain the wait for the slowest rank, bandwidths are received bytes over time.
std::string comms_summary(const CommCounters& counters, int world);
// One line for one step: what `after` has more than `before`. "" when nothing was moved.
std::string comms_of_step(const CommCounters& before, const CommCounters& after);

}  // namespace zerostep
