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
  std::shared_ptr<void> owner(data, [size, pinned = pin(name, data, num_bytes)](void* p) mutable {
    pinned = nullptr;
    ::munmap(p, size);
  });
  return Arena(name, std::move(owner), data, num_bytes);
}

std::shared_ptr<void> PinnedMemory::pin(const std::string& name, void* data, int64_t num_bytes) {
  int64_t pinned = 0;
  int error = 0;
  while (options_.pin_memory && pinned < num_bytes) {
    const int64_t slab = std::min(options_.slab_bytes, num_bytes - pinned);
    error = options_.locker->lock(static_cast<std::byte*>(data) + pinned, slab);
    if (error != 0) break;
    pinned += slab;
  }
  bytes_->pinned += pinned, bytes_->pageable += num_bytes - pinned;
  std::shared_ptr<void> lock(data, [num_bytes, pinned, bytes = bytes_, locker = options_.locker, slab = options_.slab_bytes](void* p) {
    for (int64_t begin = 0; begin < pinned; begin += slab)
      locker->unlock(static_cast<std::byte*>(p) + begin, std::min(slab, pinned - begin));
    bytes->pinned -= pinned, bytes->pageable -= num_bytes - pinned;
  });
  if (error != 0 && !std::exchange(has_warned_, true))
    options_.warn(fmt::format(
        "{} of '{}' cannot be pinned and stay pageable, so copies are slower ({}): {} are pinned, and this process may lock {} "
        "(RLIMIT_MEMLOCK). Raise that (`ulimit -l unlimited`, or memlock in /etc/security/limits.conf), or set \"pin_memory\": false",
        human_bytes(num_bytes - pinned), name, std::strerror(error), human_bytes(bytes_->pinned), lock_limit()));
  return lock;
}

}  // namespace zerostep
