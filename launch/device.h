#pragma once
#include <optional>
#include <string>

#include "base/device.h"
#include "runtime/config/config.h"
#include "sharding/communicator.h"

namespace zerostep {

// Settles run.device: "auto" is a GPU where there is one (nothing: where one answers here), and else the processor.
void settle_device(Config& config, std::optional<bool> has_gpu = {});
// What a rank computes on, as the settled run.device says: of the GPUs the one with the rank's number on its host, or, where there are
// fewer, one that it shares. InputError with the way out where there is none.
Device open_device(const Config& config, int local_rank);
// What a plan for this machine may measure on: the device that the settled run.device says, or, where that is a GPU and none answers, the
// processor.
Device device_of_plan(const Config& config);
// How ranks reach each other's values there, over the group of the host; and what a user should know of it ("": nothing).
struct DeviceGroup {
  Communicator ranks;
  std::string warning;
};
// From GPU to GPU where every rank has one of its own and NCCL is there. Collective.
DeviceGroup group_on(const Device& device, const Communicator& world, const Config& config);

}  // namespace zerostep
