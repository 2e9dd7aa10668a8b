#pragma once
#include "sharding/device_transport.h"

namespace zerostep {

// The function of libzerostep_cuda.so (base/cuda/cuda_library.h) behind make_thread_communicator(). Its name ends with the version of
// DeviceTransport and of what is passed.
constexpr const char* kStartThreads = "zerostep_start_threads_2";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::StartTransport zerostep_start_threads_2;
