#include "offload/pinned_memory.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/format.h"
#include "tests/offload/support/denied_call.h"
#include "tests/offload/support/recording_locker.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

constexpr int64_t kPage = 4096;

int64_t locked_bytes() {
  std::ifstream file("/proc/self/status");
  for (std::string name; file >> name;) {
    int64_t kibibytes = 0;
    if (name == "VmLck:" && file >> kibibytes) return kibibytes * 1024;
    std::getline(file, name);
  }
  return -1;
}

// Sanitizers put an mlock that does nothing in the place of the system's.
bool mlock_locks() {
  alignas(kPage) static std::array<std::byte, kPage> page;
  const int64_t before = locked_bytes();
  if (::mlock(page.data(), page.size()) != 0) return true;
  const bool out = locked_bytes() != before;
  ::munlock(page.data(), page.size());
  return out;
}

using testing::RecordingLocker;

TEST(PinnedMemory, IsLockedSlabBySlabUntilItGoes) {
  const auto locker = std::make_shared<RecordingLocker>();
  PinnedMemory pinned({.slab_bytes = 2 * kPage, .locker = locker});
  {
    Arena arena = pinned.memory("ring", 5 * kPage);
    auto* data = static_cast<std::byte*>(arena.allocate(10, "first"));
    EXPECT_EQ(locker->locked, (std::map<std::byte*, int64_t>{{data, 2 * kPage}, {data + 2 * kPage, 2 * kPage}, {data + 4 * kPage, kPage}}));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % kPage, 0u);
    EXPECT_TRUE(std::all_of(data, data + 5 * kPage, [](std::byte b) { return b == std::byte{0}; }));
    EXPECT_EQ(arena.allocate(10, "second"), data + 64);
    EXPECT_THROW(arena.allocate(5 * kPage - 127, "third"), ProtocolError);
    EXPECT_EQ(arena.allocate(5 * kPage - 128, "third"), data + 128);
    EXPECT_EQ(arena.used_bytes(), 5 * kPage);
    Arena other = pinned.memory("other", 100);
    EXPECT_EQ(pinned.pinned_bytes(), 5 * kPage + 100);
    EXPECT_EQ(pinned.pageable_bytes(), 0);
  }
  EXPECT_TRUE(locker->locked.empty());
  EXPECT_EQ(pinned.pinned_bytes(), 0);
  EXPECT_EQ(pinned.memory("nothing", 0).capacity_bytes(), 0);
}

TEST(PinnedMemory, StaysPageableWhereLockingFailsAndSaysSo) {
  std::vector<std::string> warnings;
  const auto locker = std::make_shared<RecordingLocker>(2);
  PinnedMemory pinned({.slab_bytes = kPage, .locker = locker, .warn = [&](const std::string& text) { warnings.push_back(text); }});
  {
    Arena first = pinned.memory("ring of parameters", 5 * kPage), second = pinned.memory("masters", 3 * kPage);
    static_cast<std::byte*>(second.allocate(3 * kPage, "all"))[3 * kPage - 1] = std::byte{1};
    EXPECT_EQ(pinned.pinned_bytes(), 2 * kPage);
    EXPECT_EQ(pinned.pageable_bytes(), 6 * kPage);
    EXPECT_TRUE(warnings.empty());
    pinned.warn_of_pageable();
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_SAYS(warnings[0], "8.00 KiB of a rank's 32.0 KiB of host memory are pinned; the rest stays pageable");
    EXPECT_SAYS(warnings[0], "Cannot allocate memory");
    EXPECT_SAYS(warnings[0], "RLIMIT_MEMLOCK");
    EXPECT_SAYS(warnings[0], "ulimit -l");
  }
  EXPECT_TRUE(locker->locked.empty());
  EXPECT_EQ(pinned.pageable_bytes(), 0);
}

// Whatever the slabs, and however little of the last one is permitted.
TEST(PinnedMemory, IsLockedToThePageWhereTheLimitEnds) {
  for (const int64_t limit : {0, 1, 2, 3, 7, 12, 13, 29, 30})
    for (const int64_t slab : {1, 8, 10, 1000}) {
      const auto locker = std::make_shared<RecordingLocker>(1000, limit * kPage);
      int warnings = 0;
      PinnedMemory pinned({.slab_bytes = slab * kPage, .locker = locker, .warn = [&](const std::string&) { ++warnings; }});
      {
        Arena first = pinned.memory("first", 13 * kPage), second = pinned.memory("second", 17 * kPage - 100);
        auto* data = static_cast<std::byte*>(first.allocate(1, "first"));
        const int64_t in_second = std::min(std::max<int64_t>(0, limit - 13) * kPage, 17 * kPage - 100);
        EXPECT_EQ(pinned.pinned_bytes(), std::min<int64_t>(limit, 13) * kPage + in_second) << limit << " in slabs of " << slab;
        EXPECT_EQ(pinned.pageable_bytes(), 30 * kPage - 100 - pinned.pinned_bytes());
        // From its begin, without a gap.
        int64_t end = 0;
        for (auto at = locker->locked.find(data); at != locker->locked.end(); at = locker->locked.find(data + end)) end += at->second;
        EXPECT_EQ(end, std::min<int64_t>(limit, 13) * kPage);
        pinned.warn_of_pageable();
        EXPECT_EQ(warnings, limit < 30 ? 1 : 0);
      }
      EXPECT_TRUE(locker->locked.empty());
    }
}

TEST(PinnedMemory, LocksWhatOthersHaveMade) {
  const auto locker = std::make_shared<RecordingLocker>();
  PinnedMemory pinned({.slab_bytes = 2 * kPage, .locker = locker});
  alignas(kPage) static std::array<std::byte, 3 * kPage> memory;
  {
    const std::shared_ptr<void> lock = pinned.pin(memory.data(), 3 * kPage);
    EXPECT_EQ(locker->locked, (std::map<std::byte*, int64_t>{{memory.data(), 2 * kPage}, {memory.data() + 2 * kPage, kPage}}));
    EXPECT_EQ(pinned.pinned_bytes(), 3 * kPage);
  }
  EXPECT_TRUE(locker->locked.empty());
  EXPECT_EQ(pinned.pinned_bytes(), 0);
}

TEST(PinnedMemory, IsNotLockedWherePinMemoryIsFalse) {
  const auto locker = std::make_shared<RecordingLocker>();
  PinnedMemory pinned({.pin_memory = false, .locker = locker, .warn = [](const std::string& text) { ADD_FAILURE() << text; }});
  Arena arena = pinned.memory("ring", 3 * kPage);
  static_cast<std::byte*>(arena.allocate(3 * kPage, "all"))[kPage] = std::byte{1};
  pinned.warn_of_pageable();
  EXPECT_TRUE(locker->locked.empty());
  EXPECT_EQ(pinned.pageable_bytes(), 3 * kPage);
}

TEST(PinnedMemory, IsLockedByTheSystemAsFarAsTheLimitGoes) {
  std::vector<std::string> warnings;
  const int64_t before = locked_bytes();
  {
    PinnedMemory pinned({.slab_bytes = 64 * kPage, .warn = [&](const std::string& text) { warnings.push_back(text); }});
    Arena arena = pinned.memory("ring", 200 * kPage);
    std::cout << "pinned on this machine: " << pinned.pinned_bytes() << " of " << 200 * kPage << " bytes\n";
    EXPECT_EQ(locked_bytes() - before, mlock_locks() ? pinned.pinned_bytes() : 0);
    EXPECT_EQ(pinned.pinned_bytes() + pinned.pageable_bytes(), 200 * kPage);
    pinned.warn_of_pageable();
    EXPECT_EQ(warnings.empty(), pinned.pageable_bytes() == 0);
  }
  EXPECT_EQ(locked_bytes(), before);
}

TEST(PinnedMemory, GoesOnWhereTheLimitIsSmall) {
  rlimit limit = {};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &limit), 0);
  const int64_t pages = static_cast<int64_t>(std::min<rlim_t>(limit.rlim_max, 16 * kPage)) / kPage;
  limit.rlim_cur = static_cast<rlim_t>(pages * kPage);
  const pid_t child = ::fork();  // without privileges and with a small limit
  if (child == 0) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    const __user_cap_data_struct none[2] = {};
    if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || ::syscall(SYS_capset, &header, none) != 0) ::_exit(2);
    std::string warning;
    PinnedMemory pinned({.slab_bytes = 10 * kPage, .warn = [&](const std::string& text) { warning += text; }});
    Arena arena = pinned.memory("ring", 30 * kPage);
    std::fill_n(static_cast<std::byte*>(arena.allocate(30 * kPage, "all")), 30 * kPage, std::byte{1});
    pinned.warn_of_pageable();
    const bool is_right =
        !mlock_locks() ||
        (pinned.pinned_bytes() == pages * kPage && pinned.pageable_bytes() == (30 - pages) * kPage &&
         warning.find(human_bytes(pages * kPage) + " of a rank's 120 KiB of host memory are pinned") != std::string::npos &&
         warning.find("This process may lock " + human_bytes(pages * kPage) + " (RLIMIT_MEMLOCK)") != std::string::npos);
    if (!is_right) fmt::print(stderr, "{} {} {}\n", pinned.pinned_bytes(), pinned.pageable_bytes(), warning);
    ::_exit(is_right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(PinnedMemory, PrefersTheNodeOfItsCaller) {
  PinnedMemory pinned({.pin_memory = false});
  Arena arena = pinned.memory("ring", 4 * kPage);
  void* data = arena.allocate(4 * kPage, "all");
  unsigned cpu = 0, node = 0;
  ASSERT_EQ(::syscall(SYS_getcpu, &cpu, &node, nullptr), 0);
  std::array<unsigned long, 16> mask = {};
  int policy = -1;
  if (::syscall(SYS_get_mempolicy, &policy, mask.data(), mask.size() * 64, data, MPOL_F_ADDR) != 0) {
    std::cout << "this machine says nothing of memory policies: " << std::strerror(errno) << "\n";
    EXPECT_TRUE(errno == EPERM || errno == ENOSYS) << errno;
  } else {
    EXPECT_EQ(policy, MPOL_PREFERRED);
    EXPECT_EQ(mask[node / 64], 1UL << (node % 64));
  }
  testing::run_without(SYS_mbind, EPERM, [&] {
    Arena other = pinned.memory("other", kPage);
    static_cast<std::byte*>(other.allocate(kPage, "all"))[0] = std::byte{1};
  });
}

}  // namespace
}  // namespace zerostep
