#include "base/file_lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <thread>

#include "base/file_descriptor.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

TEST(FileLock, IsOnesAloneUntilItsFileIsClosed) {
  const ScratchFolder scratch;
  const auto open = [&] { return FileDescriptor(::open(scratch.path("lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)); };
  auto first = std::make_unique<FileDescriptor>(open());
  const FileDescriptor second = open();
  EXPECT_EQ(try_lock(first->get(), LOCK_EX), 0);
  EXPECT_EQ(try_lock(second.get(), LOCK_EX), EWOULDBLOCK);
  EXPECT_EQ(try_lock(second.get(), LOCK_SH), EWOULDBLOCK);
  int got = -1;
  std::jthread waiting([&] { got = wait_for_lock(second.get(), LOCK_EX); });
  first.reset();
  waiting.join();
  EXPECT_EQ(got, 0);
  EXPECT_EQ(try_lock(open().get(), LOCK_EX), EWOULDBLOCK);
  EXPECT_EQ(try_lock(-1, LOCK_EX), EBADF);
}

TEST(FileLock, AFileThatWasRenamedIsNoLongerTheOneAtItsPath) {
  const ScratchFolder scratch;
  const FileDescriptor file(::open(scratch.path("a").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  EXPECT_TRUE(is_file_at(scratch.path("a"), file.get()));
  std::filesystem::rename(scratch.path("a"), scratch.path("b"));
  EXPECT_FALSE(is_file_at(scratch.path("a"), file.get()));
  EXPECT_TRUE(is_file_at(scratch.path("b"), file.get()));
}

}  // namespace
}  // namespace zerostep
