#pragma once
#include <functional>
#include <memory>
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
struct NcclStart {
  int rank, size;
  std::string id;
  double timeout_seconds;
  std::function<void()> check_peers;  // throws when another rank has failed
};

// The functions of libzerostep_cuda.so (base/cuda/cuda_library.h) behind make_nccl_communicator(). Their names end with the version of
// DeviceTransport and of what is passed.
using GreetForNccl = void(const Device::Impl& device, int rank, NcclGreeting& greeting);
// Blocks until every rank of the group has come. RunError where NCCL does not start. The device must outlive what is made.
using StartNccl = void(const Device::Impl& device, const NcclStart& start, std::unique_ptr<DeviceTransport>& transport);
constexpr const char* kGreetForNccl = "zerostep_greet_for_nccl_2";
constexpr const char* kStartNccl = "zerostep_start_nccl_2";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::GreetForNccl zerostep_greet_for_nccl_2;
extern "C" __attribute__((visibility("default"))) zerostep::StartNccl zerostep_start_nccl_2;
