#pragma once
#include <functional>

#include "sharding/communicator.h"

namespace zerostep {

// Runs `body(communicator)` on `size` threads as ranks; rethrows the first exception that is not the echo of another rank's.
void run_local_ranks(int size, const CommOptions& options, const std::function<void(Communicator)>& body);

}  // namespace zerostep
