#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/plan/plan.h"

namespace zerostep {

// Collectives and buffers of a plan, added up by what they are of.
struct CollectiveTotal {
  std::string operation, what;  // "all-gather", "parameters"
  int64_t calls = 0, elements = 0;
};
std::vector<CollectiveTotal> collectives_of(const Plan& plan);

struct BufferTotal {
  std::string kind;  // "optimizer state"
  Tier tier = Tier::Device;
  int64_t count = 0, bytes = 0;
};
std::vector<BufferTotal> buffers_of(const Plan& plan);
// What a rank's parameters, gradients and optimizer state, fp32 masters included, take of each tier: "parameters: device 1.20 MiB,
// host 24.0 MiB; gradients: ...". "": all of it rests on the device.
std::string rests_text(const Plan& plan);

}  // namespace zerostep
