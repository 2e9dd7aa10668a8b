#include "base/arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace zerostep {

Arena::Arena(std::string name, std::shared_ptr<void> owner, void* data, int64_t num_bytes)
    : name_(std::move(name)), owner_(std::move(owner)), data_(static_cast<std::byte*>(data)), capacity_(num_bytes) {}

Arena Arena::host_memory(std::string name, int64_t num_bytes) {
  if (num_bytes == 0) return Arena(std::move(name), nullptr, nullptr, 0);
  const size_t size = static_cast<size_t>(num_bytes);
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) fail_run("[{}] cannot map {} bytes of host memory: {}", name, num_bytes, std::strerror(errno));
  madvise(data, size, MADV_HUGEPAGE);
  return Arena(std::move(name), std::shared_ptr<void>(data, [size](void* p) { munmap(p, size); }), data, num_bytes);
}

void* Arena::allocate(int64_t num_bytes, const std::string& what) {
  const int64_t size = round_up(num_bytes, kAlignmentBytes);
  if (size > capacity_ - used_)
    fail_protocol("[arena {}] {} needs {} bytes, {} of {} are left", name_, what, size, capacity_ - used_, capacity_);
  void* out = data_ == nullptr ? nullptr : data_ + used_;
  used_ += size;
  return out;
}

}  // namespace zerostep
