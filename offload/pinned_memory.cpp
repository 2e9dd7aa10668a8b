#include "offload/pinned_memory.h"

#include <linux/mempolicy.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/format.h"

namespace zerostep {
namespace {

class SystemLocker final : public PageLocker {
 public:
  int lock(void* data, int64_t num_bytes) override { return ::mlock(data, static_cast<size_t>(num_bytes)) == 0 ? 0 : errno; }
  void unlock(void* data, int64_t num_bytes) noexcept override { ::munlock(data, static_cast<size_t>(num_bytes)); }
};

// Pages come from the node that the caller runs on, or from others where it has none left. A container may forbid to ask for that; pages
// then come from the node of who touches them first, which is the caller where it locks them.
void prefer_this_node(void* data, int64_t num_bytes) {
  constexpr int kBits = sizeof(unsigned long) * CHAR_BIT;
  unsigned cpu = 0, node = 0;
  std::array<unsigned long, 16> mask = {};
  if (::syscall(SYS_getcpu, &cpu, &node, nullptr) != 0 || node / kBits >= mask.size()) return;
  mask[node / kBits] = 1UL << (node % kBits);
  ::syscall(SYS_mbind, data, num_bytes, MPOL_PREFERRED, mask.data(), mask.size() * kBits, 0);
}

std::string lock_limit() {
  struct rlimit limit = {};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "without a limit";
  return fmt::format("{}", human_bytes(static_cast<int64_t>(limit.rlim_cur)));
}

}  // namespace

std::shared_ptr<PageLocker> PageLocker::system() { return std::make_shared<SystemLocker>(); }

PinnedMemory::PinnedMemory(PinnedOptions options) : options_(std::move(options)), bytes_(std::make_shared<Bytes>()) {
  if (!options_.locker) options_.locker = PageLocker::system();
  if (!options_.warn) options_.warn = [](const std::string& text) { spdlog::warn("{}", text); };
}

Arena PinnedMemory::memory(const std::string& name, int64_t num_bytes) {
  if (num_bytes == 0) return Arena(name, nullptr, nullptr, 0);
  const auto size = static_cast<size_t>(num_bytes);
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) fail_run("[{}] cannot map {} bytes of host memory: {}", name, num_bytes, std::strerror(errno));
  // A block of a file is then a few pieces for its disk instead of hundreds: on a virtual disk more than twice as fast.
  ::madvise(data, size, MADV_HUGEPAGE);
  prefer_this_node(data, num_bytes);
  std::shared_ptr<void> owner(data, [size, pinned = pin(data, num_bytes)](void* p) mutable {
    pinned = nullptr;
    ::munmap(p, size);
  });
  return Arena(name, std::move(owner), data, num_bytes);
}

std::shared_ptr<void> PinnedMemory::pin(void* data, int64_t num_bytes) {
  std::vector<int64_t> slabs;
  int64_t pinned = 0;
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  // Half of what is refused may be permitted.
  for (int64_t size = options_.pin_memory ? std::min(options_.slab_bytes, num_bytes) : 0; size > 0 && pinned < num_bytes;) {
    size = std::min(size, num_bytes - pinned);
    if (const int error = options_.locker->lock(static_cast<std::byte*>(data) + pinned, size); error != 0) {
      error_ = error;
      size = size / 2 / page * page;
      continue;
    }
    slabs.push_back(size);
    pinned += size;
  }
  bytes_->pinned += pinned, bytes_->pageable += num_bytes - pinned;
  return {data, [num_bytes, pinned, slabs = std::move(slabs), bytes = bytes_, locker = options_.locker](void* p) {
            auto* at = static_cast<std::byte*>(p);
            for (const int64_t slab : slabs) {
              locker->unlock(at, slab);
              at += slab;
            }
            bytes->pinned -= pinned, bytes->pageable -= num_bytes - pinned;
          }};
}

void PinnedMemory::warn_of_pageable() const {
  if (!options_.pin_memory || pageable_bytes() == 0) return;
  options_.warn(fmt::format(
      "{} of a rank's {} of host memory are pinned; the rest stays pageable, may be swapped, and copies of it are slower ({}). This "
      "process may "
      "lock "
      "{} (RLIMIT_MEMLOCK). Raise that (`ulimit -l unlimited`, or memlock in /etc/security/limits.conf), or set \"pin_memory\": false",
      human_bytes(pinned_bytes()), human_bytes(pinned_bytes() + pageable_bytes()), std::strerror(error_), lock_limit()));
}

}  // namespace zerostep
