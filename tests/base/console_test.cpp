#include "base/console.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "base/error.h"

namespace zerostep {
namespace {

bool is_null_device(int stream) {
  struct stat found {
  }, null_device{};
  return ::fstat(stream, &found) == 0 && ::stat("/dev/null", &null_device) == 0 && S_ISCHR(found.st_mode) &&
         found.st_rdev == null_device.st_rdev;
}

// Each case has a process of its own: streams and the memory of a failure are the process's.
TEST(Console, StreamsThatAreMissingAreTheNullDevice) {
  EXPECT_EXIT(
      {
        ::close(STDIN_FILENO);
        ::close(STDOUT_FILENO);
        open_missing_streams();
        const bool as_promised = is_null_device(STDIN_FILENO) && is_null_device(STDOUT_FILENO) && !is_null_device(STDERR_FILENO);
        std::_Exit(as_promised ? 7 : 1);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(Console, ControlCharactersAreWrittenOut) {
  EXPECT_EQ(visible("\x1b[31mred\r\x07\x7f"), R"(\x1b[31mred\x0d\x07\x7f)");
  EXPECT_EQ(visible("\xc2\x9b"
                    "31m"),
            R"(\x9b31m)")
      << "the control characters of eight bits";
  EXPECT_EQ(visible("lines\n\tand \xc3\xa9, \xc2\xa0, \xe2\x82\xac"), "lines\n\tand \xc3\xa9, \xc2\xa0, \xe2\x82\xac");
}

TEST(Console, AWriteThatFailedIsSaidWhenTheOutputIsFlushed) {
  EXPECT_EXIT(
      {
        remember_failed_output(ENOSPC);
        remember_failed_output(EPIPE);  // the first reason stays
        try {
          flush_out();
        } catch (const RunError& error) {
          print_err("{}\n", error.what());
          std::_Exit(7);
        }
      },
      ::testing::ExitedWithCode(7), "cannot write to the standard output: No space left on device");
}

TEST(Console, AReaderThatHasLeftIsToldApart) {
  EXPECT_EXIT(
      {
        std::signal(SIGPIPE, SIG_IGN);
        int ends[2];
        if (::pipe(ends) != 0) std::_Exit(1);
        ::dup2(ends[1], STDOUT_FILENO);
        ::close(ends[0]);
        try {
          print_out("{} of {}\n", 1, 2);
          flush_out();
        } catch (const OutputClosed&) {
          std::_Exit(7);
        }
      },
      ::testing::ExitedWithCode(7), "");
}

TEST(Console, AnErrorThatCannotBeWrittenChangesNothing) {
  EXPECT_EXIT(
      {
        ::close(STDERR_FILENO);
        print_err("nobody reads {}\n", "this");
        std::_Exit(7);
      },
      ::testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace zerostep
