#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

namespace fake_gpu {

// The memory of all devices, and which of the host's is pinned. In strict mode an address of a device is mapped without access: copies and
// fills reach the bytes at another address, kernels while change_access() opens it. Any thread.
class DeviceMemory {
 public:
  // Of the next allocations. False while some live.
  bool configure(int64_t bytes_of_device, bool is_strict);

  cudaError_t allocate(int device, size_t num_bytes, void** out);
  // -1: no allocation begins there.
  int device_of_allocation(const void* data);
  void release(void* data);
  int64_t used_bytes(int device);

  // cudaErrorHostMemoryAlreadyRegistered where it is.
  cudaError_t pin(const void* data, size_t num_bytes);
  bool unpin(const void* data);

  // An operand: what it is (type and device), and where device work reaches its first byte; nullptr: it leaves its allocation.
  struct Operand {
    cudaMemoryType type = cudaMemoryTypeUnregistered;
    int device = -1;
    std::byte* bytes = nullptr;
  };
  Operand operand(const void* data, size_t num_bytes);

  // Kernels run, one more or one less: while some do, device addresses are open.
  void change_access(int kernels);

 private:
  struct Block {
    size_t num_bytes, mapped_bytes;
    std::byte* bytes;  // where device work reaches it
    int device;
  };

  std::mutex mutex_;
  int64_t bytes_of_device_ = 0;
  bool is_strict_ = false;
  int running_kernels_ = 0;
  std::map<uintptr_t, Block> blocks_;
  std::map<uintptr_t, size_t> pinned_;
  std::map<int, int64_t> used_;
};

}  // namespace fake_gpu
