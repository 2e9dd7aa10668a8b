#pragma once
#include <cstdint>
#include <initializer_list>
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
// `staging_bytes`: host memory that the state is copied to for a checkpoint, beside the plan's buffers.
std::vector<BufferTotal> buffers_of(const Plan& plan, int64_t staging_bytes = 0);
// What a plan's buffers of these kinds take of a tier.
int64_t bytes_in(const Plan& plan, Tier tier, std::initializer_list<BufferKind> kinds);
// What a rank's parameters, gradients and optimizer state, fp32 masters included, take of each tier: "parameters: device 1.20 MiB,
// host 24.0 MiB; gradients: ...". "": all of it rests on the device.
std::string rests_text(const Plan& plan);

}  // namespace zerostep
