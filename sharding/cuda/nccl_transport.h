#pragma once
#include <string>

#include "base/device.h"
#include "sharding/device_transport.h"

namespace zerostep {

// What the ranks tell each other before NCCL starts.
struct NcclGreeting {
  std::string gpu;      // a name that no other GPU has
  std::string id;       // of the group, in hexadecimal: rank 0's
  std::string why_not;  // "": NCCL is here
};

// The functions of libzerostep_cuda.so (base/cuda/cuda_library.h) behind make_nccl_communicator(). Their names end with the version of
// DeviceTransport and of what is passed. The second one blocks until every rank of the group has come.
using GreetForNccl = void(const Device::Impl& device, int rank, NcclGreeting& greeting);
constexpr const char* kGreetForNccl = "zerostep_greet_for_nccl_3";
constexpr const char* kStartNccl = "zerostep_start_nccl_3";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::GreetForNccl zerostep_greet_for_nccl_3;
extern "C" __attribute__((visibility("default"))) zerostep::StartTransport zerostep_start_nccl_3;
