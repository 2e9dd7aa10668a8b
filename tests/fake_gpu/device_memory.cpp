#include "fake_gpu/device_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>

namespace fake_gpu {
namespace {

constexpr size_t kPageBytes = 4096, kFilledBytes = size_t{4} << 20;

uintptr_t number(const void* data) { return reinterpret_cast<uintptr_t>(data); }

// The entry whose [begin, begin + size) holds an address; end() where none does.
template <typename Map, typename Size>
typename Map::iterator find_range(Map& ranges, uintptr_t address, Size size_of) {
  auto after = ranges.upper_bound(address);
  if (after == ranges.begin()) return ranges.end();
  const auto found = std::prev(after);
  return address - found->first < size_of(found->second) ? found : ranges.end();
}

}  // namespace

bool DeviceMemory::configure(int64_t bytes_of_device, bool is_strict) {
  std::lock_guard lock(mutex_);
  if (!blocks_.empty()) return false;
  bytes_of_device_ = bytes_of_device;
  is_strict_ = is_strict;
  return true;
}

cudaError_t DeviceMemory::allocate(int device, size_t num_bytes, void** out) {
  *out = nullptr;
  if (num_bytes == 0) return cudaSuccess;
  std::lock_guard lock(mutex_);
  const auto size = static_cast<int64_t>(num_bytes);
  if (size > bytes_of_device_ - used_[device]) return cudaErrorMemoryAllocation;
  const size_t mapped = (num_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  const int file = ::memfd_create("device memory", MFD_CLOEXEC);
  if (file < 0) return cudaErrorMemoryAllocation;
  void *data = MAP_FAILED, *bytes = MAP_FAILED;
  if (::ftruncate(file, static_cast<off_t>(mapped)) == 0) {
    bytes = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    data = is_strict_ ? ::mmap(nullptr, mapped, running_kernels_ > 0 ? PROT_READ | PROT_WRITE : PROT_NONE, MAP_SHARED, file, 0) : bytes;
  }
  ::close(file);
  if (data == MAP_FAILED || bytes == MAP_FAILED) {
    if (bytes != MAP_FAILED) ::munmap(bytes, mapped);
    return cudaErrorMemoryAllocation;
  }
  std::memset(bytes, 0xff, std::min(num_bytes, kFilledBytes));
  used_[device] += size;
  blocks_[number(data)] = {num_bytes, mapped, static_cast<std::byte*>(bytes), device};
  *out = data;
  return cudaSuccess;
}

int DeviceMemory::device_of_allocation(const void* data) {
  std::lock_guard lock(mutex_);
  const auto found = blocks_.find(number(data));
  return found == blocks_.end() ? -1 : found->second.device;
}

void DeviceMemory::release(void* data) {
  std::lock_guard lock(mutex_);
  const auto found = blocks_.find(number(data));
  if (found == blocks_.end()) return;
  const Block block = found->second;
  used_[block.device] -= static_cast<int64_t>(block.num_bytes);
  blocks_.erase(found);
  ::munmap(block.bytes, block.mapped_bytes);
  if (block.bytes != data) ::munmap(data, block.mapped_bytes);
}

int64_t DeviceMemory::used_bytes(int device) {
  std::lock_guard lock(mutex_);
  return used_[device];
}

cudaError_t DeviceMemory::pin(const void* data, size_t num_bytes) {
  std::lock_guard lock(mutex_);
  const auto next = pinned_.lower_bound(number(data));
  const bool overlaps_next = next != pinned_.end() && next->first < number(data) + num_bytes;
  if (overlaps_next || find_range(pinned_, number(data), [](size_t size) { return size; }) != pinned_.end())
    return cudaErrorHostMemoryAlreadyRegistered;
  pinned_[number(data)] = num_bytes;
  return cudaSuccess;
}

bool DeviceMemory::unpin(const void* data) {
  std::lock_guard lock(mutex_);
  return pinned_.erase(number(data)) == 1;
}

DeviceMemory::Operand DeviceMemory::operand(const void* data, size_t num_bytes) {
  std::lock_guard lock(mutex_);
  const uintptr_t address = number(data);
  const auto block = find_range(blocks_, address, [](const Block& b) { return b.num_bytes; });
  if (block != blocks_.end()) {
    const size_t offset = address - block->first;
    const bool fits = num_bytes <= block->second.num_bytes - offset;
    return {cudaMemoryTypeDevice, block->second.device, fits ? block->second.bytes + offset : nullptr};
  }
  std::byte* bytes = static_cast<std::byte*>(const_cast<void*>(data));
  const auto pinned = find_range(pinned_, address, [](size_t size) { return size; });
  if (pinned == pinned_.end()) return {cudaMemoryTypeUnregistered, -1, bytes};
  return {cudaMemoryTypeHost, -1, num_bytes <= pinned->second - (address - pinned->first) ? bytes : nullptr};
}

void DeviceMemory::change_access(int kernels) {
  std::lock_guard lock(mutex_);
  const bool was_open = running_kernels_ > 0;
  running_kernels_ += kernels;
  const bool is_open = running_kernels_ > 0;
  if (!is_strict_ || was_open == is_open) return;
  for (const auto& [data, block] : blocks_)
    ::mprotect(reinterpret_cast<void*>(data), block.mapped_bytes, is_open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

}  // namespace fake_gpu
