#pragma once
#include <functional>
#include <memory>
#include <string>

#include "base/device.h"
#include "sharding/device_transport.h"

namespace zerostep {

struct ThreadsStart {
  int rank, size;
  std::string group;  // a name that no other group of the process has
  double timeout_seconds;
  std::function<void()> check_peers;  // throws when another rank has failed
};

// The function of libzerostep_cuda.so (base/cuda/cuda_library.h) behind make_thread_communicator(), with the version of DeviceTransport and
// of what is passed at the end of its name. The device must outlive what is made.
using StartThreads = void(const Device::Impl& device, const ThreadsStart& start, std::unique_ptr<DeviceTransport>& transport);
constexpr const char* kStartThreads = "zerostep_start_threads_1";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::StartThreads zerostep_start_threads_1;
