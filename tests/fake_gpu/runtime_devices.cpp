#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "fake_gpu/machine.h"

// The runtime's functions about devices, and about memory that is allocated or pinned.

using fake_gpu::current_device;
using fake_gpu::enter;
using fake_gpu::fail;
using fake_gpu::Machine;

namespace {

void wait_where_pinning_does() {
  Machine& machine = Machine::instance();
  if (!machine.settings().pinning_waits) return;
  machine.count("waits of pinning");
  machine.synchronize(current_device());
}

bool is_device(int device) { return device >= 0 && device < Machine::instance().settings().num_devices; }

}  // namespace

FAKE_GPU_API cudaError_t cudaGetDeviceCount(int* count) {
  *count = Machine::instance().settings().num_devices;
  return enter(__func__);
}

FAKE_GPU_API cudaError_t cudaGetDevice(int* device) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  *device = current_device();
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  if (!is_device(device)) return fail(cudaErrorInvalidDevice);
  current_device() = device;
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaDriverGetVersion(int* version) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  *version = CUDART_VERSION;
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaRuntimeGetVersion(int* version) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  *version = CUDART_VERSION;
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaGetLastError() { return fake_gpu::take_last_error(); }
FAKE_GPU_API cudaError_t cudaPeekAtLastError() { return fake_gpu::last_error(); }

FAKE_GPU_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  if (!is_device(device)) return fail(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "Fake GPU");
  const std::vector<int>& numbers = Machine::instance().settings().numbers;
  properties->uuid.bytes[0] = static_cast<char>(1 + (numbers.empty() ? device : numbers[static_cast<size_t>(device)]));
  properties->major = 9;
  properties->totalGlobalMem = static_cast<size_t>(Machine::instance().settings().memory_bytes);
  properties->multiProcessorCount = 4;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->sharedMemPerBlock = 48 << 10;
  properties->regsPerBlock = 64 << 10;
  properties->maxGridSize[0] = properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 2048;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    default:
      *value = 0;
      return cudaSuccess;
  }
}

FAKE_GPU_API cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  *least = *greatest = 0;
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  *can = device != peer;
  return is_device(device) && is_device(peer) ? cudaSuccess : fail(cudaErrorInvalidDevice);
}

FAKE_GPU_API cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  return is_device(peer) ? cudaSuccess : fail(cudaErrorInvalidDevice);
}

FAKE_GPU_API cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  Machine::instance().synchronize(current_device());
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  Machine& machine = Machine::instance();
  *total = static_cast<size_t>(machine.settings().memory_bytes);
  *free = *total - static_cast<size_t>(machine.memory().used_bytes(current_device()));
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaMalloc(void** data, size_t num_bytes) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  return fail(Machine::instance().memory().allocate(current_device(), num_bytes, data));
}

FAKE_GPU_API cudaError_t cudaFree(void* data) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  if (data == nullptr) return cudaSuccess;
  Machine& machine = Machine::instance();
  const int device = machine.memory().device_of_allocation(data);
  if (device < 0) return fail(cudaErrorInvalidValue);
  machine.synchronize(device);
  machine.memory().release(data);
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaHostAlloc(void** data, size_t num_bytes, unsigned) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  wait_where_pinning_does();
  constexpr size_t kPageBytes = 4096, kMostBytes = size_t{1} << 40;  // more than any machine pins
  *data = nullptr;
  if (num_bytes > kMostBytes) return fail(cudaErrorMemoryAllocation);
  *data = std::aligned_alloc(kPageBytes, (num_bytes + kPageBytes - 1) / kPageBytes * kPageBytes);
  if (*data == nullptr) return fail(cudaErrorMemoryAllocation);
  std::memset(*data, 0xff, num_bytes);
  return fail(Machine::instance().memory().pin(*data, num_bytes));
}

FAKE_GPU_API cudaError_t cudaFreeHost(void* data) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  wait_where_pinning_does();
  if (data == nullptr) return cudaSuccess;
  if (!Machine::instance().memory().unpin(data)) return fail(cudaErrorInvalidValue);
  std::free(data);
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t cudaHostRegister(void* data, size_t num_bytes, unsigned) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  wait_where_pinning_does();
  return num_bytes == 0 ? fail(cudaErrorInvalidValue) : fail(Machine::instance().memory().pin(data, num_bytes));
}

FAKE_GPU_API cudaError_t cudaHostUnregister(void* data) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  wait_where_pinning_does();
  return Machine::instance().memory().unpin(data) ? cudaSuccess : fail(cudaErrorHostMemoryNotRegistered);
}

FAKE_GPU_API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const auto found = Machine::instance().memory().operand(data, 1);
  *attributes = {};
  attributes->type = found.type;
  attributes->device = found.type == cudaMemoryTypeHost ? current_device() : std::max(0, found.device);
  if (found.type != cudaMemoryTypeUnregistered) attributes->devicePointer = const_cast<void*>(data);
  if (found.type != cudaMemoryTypeDevice) attributes->hostPointer = const_cast<void*>(data);
  return cudaSuccess;
}
