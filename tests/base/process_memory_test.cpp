#include "base/process_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

namespace zerostep {
namespace {

TEST(ResidentMemory, FollowsWhatTheProcessTouchesAndKeepsThePeak) {
  constexpr int64_t kBytes = int64_t{64} << 20,
                    kOther = int64_t{8} << 20;  // of the rest of the process, and of counters that the system brings up to date late
  const ResidentMemory before = resident_memory();
  void* pages = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  EXPECT_LT(resident_memory().now, before.now + kOther) << "memory that nothing has touched";
  std::memset(pages, 1, kBytes);
  const ResidentMemory touched = resident_memory();
  EXPECT_NEAR(static_cast<double>(touched.now - before.now), static_cast<double>(kBytes), static_cast<double>(kOther));
  EXPECT_GE(touched.peak, touched.now - kOther);
  ASSERT_EQ(::munmap(pages, kBytes), 0);
  const ResidentMemory after = resident_memory();
  EXPECT_LT(after.now, touched.now - kBytes + kOther);
  EXPECT_GE(after.peak, touched.now - kOther);
}

}  // namespace
}  // namespace zerostep
