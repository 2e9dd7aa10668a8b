#pragma once
#include "base/device.h"
#include "sharding/communicator.h"

namespace zerostep {

// The operations of a group of the host, of operands in the memory of a device: each passes through pinned memory of the host in two parts
// of bounded size, of which one is copied while the other is with the group. It gives the group's bits, for more ranks than devices and
// where nothing faster is there. Operations are put on streams of the device. Operands of the host take the same way. Collective.
// `part_bytes`: of each of the two parts, the same on every rank.
Communicator make_staged_communicator(const Communicator& host, const Device& device, int64_t part_bytes = int64_t{8} << 20);

}  // namespace zerostep
