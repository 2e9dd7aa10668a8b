#pragma once
#include <memory>
#include <string>

#include "sharding/comm/operation.h"
#include "sharding/device_transport.h"

namespace zerostep {

// Makes a rank's transport by a function of libzerostep_cuda.so (base/cuda/cuda_library.h), and tells the other ranks of the group what
// that throws, `advice` behind it. `name`: TransportStart::group. `call`: what calls of the transport are for, the start to begin with; it
// is read within them. Collective. The group and the device must outlive the transport.
std::unique_ptr<DeviceTransport> start_transport(const Communicator& group, const Device& device, const char* function,
                                                 const std::string& name, double timeout_seconds, std::shared_ptr<const Fingerprint> call,
                                                 const std::string& advice = {});

}  // namespace zerostep
