#include "base/process_limits.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

// In a process of its own, as a limit that is lowered stays.
void expect_in_child(const std::function<void()>& checks) {
  const pid_t child = ::fork();
  if (child == 0) {
    checks();
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(ProcessLimits, OpenFilesAreAllowedUpToTheHardLimit) {
  expect_in_child([] {
    const rlimit before{20, 60};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_EQ(allow_open_files(1), "");
    rlimit now{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &now), 0);
    EXPECT_EQ(now.rlim_cur, 20U);  // which is enough
    EXPECT_EQ(allow_open_files(30), "");
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &now), 0);
    EXPECT_GE(now.rlim_cur, 33U);  // beside the three streams
    EXPECT_LE(now.rlim_cur, 60U);
    const std::string why = allow_open_files(100);
    EXPECT_SAYS(why, "this process may have 60 files open, has ");
    EXPECT_SAYS(why, " and needs about 100 more: raise that (`ulimit -n 1");
  });
}

TEST(ProcessLimits, AddressesAreNamedWhereTheyAreLimited) {
  expect_in_child([] {
    const rlimit none{RLIM_INFINITY, RLIM_INFINITY}, some{rlim_t{1} << 50, rlim_t{1} << 50};
    if (::setrlimit(RLIMIT_AS, &none) == 0) {
      EXPECT_EQ(address_limit(), "");
    }
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &some), 0);
    EXPECT_EQ(address_limit(), ". This process may have 1.00 PiB of addresses: raise that (`ulimit -v`)");
  });
}

}  // namespace
}  // namespace zerostep
