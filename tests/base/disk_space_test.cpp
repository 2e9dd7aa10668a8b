#include "base/disk_space.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>

namespace zerostep {
namespace {

TEST(DiskSpace, IsTheSystems) {
  const auto space = disk_space("/proc");  // nothing, of nothing: it stays the same
  const auto expected = std::filesystem::space("/proc");
  ASSERT_TRUE(space);
  EXPECT_EQ(space->free, static_cast<int64_t>(expected.available));
  EXPECT_EQ(space->total, static_cast<int64_t>(expected.capacity));
  const std::string folder = std::filesystem::temp_directory_path();
  EXPECT_EQ(disk_space(folder).value().total, static_cast<int64_t>(std::filesystem::space(folder).capacity));
  EXPECT_GE(disk_space(folder).value().total, disk_space(folder).value().free);
  errno = 0;
  EXPECT_FALSE(disk_space("/no/such/folder"));
  EXPECT_EQ(errno, ENOENT);
}

}  // namespace
}  // namespace zerostep
