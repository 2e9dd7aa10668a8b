#pragma once
#include <functional>
#include <memory>

#include "sharding/comm/operation.h"
#include "sharding/device_transport.h"

namespace zerostep {

// What moves the values of a group of GPUs, and what is to be known of it.
struct GpuGroup {
  const char* name;  // of the backend
  std::unique_ptr<DeviceTransport> transport;
  std::shared_ptr<Fingerprint> call;  // start_transport()'s
  double timeout_seconds;             // within which an operation that has begun on this rank must end
  bool may_use_other_order = false;   // fp32 sums into targets that are not added to are the transport's, which has them
  // A group of two or more of its ranks that is split from it. Collective.
  std::function<Communicator(const Communicator& part)> make;
};

// The operations of a group of two or more ranks with a GPU each, from GPU to GPU. Scalars, texts and splits are the host group's, as is
// the meeting of the ranks before each operation, which finds what differs and who does not come. Operations are put on streams of the
// device; one that has begun ends with an error within seconds of a peer's death, and at the time-out. Operands in memory of the host take
// the way of the staged communicator, but for pinned memory when the ranks have agreed on it. Sums need memory of the device.
Communicator make_gpu_communicator(const Communicator& host, const Device& device, GpuGroup group);

}  // namespace zerostep
