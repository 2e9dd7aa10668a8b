#include "base/blas_workspace.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/error.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

namespace zerostep::testing {
namespace {

// cuBLAS's documentation: ":4096:2:16:8" is two buffers of 4,096 KiB and eight of 16 KiB.
TEST(BlasWorkspace, IsWhatTheVariableSays) {
  EXPECT_EQ(blas_workspace_bytes(":4096:8"), 32 << 20);
  EXPECT_EQ(blas_workspace_bytes(":4096:2:16:8"), (2 * 4096 + 8 * 16) << 10);
  EXPECT_EQ(blas_workspace_bytes(":16:8"), 128 << 10);
  EXPECT_EQ(blas_workspace_bytes(":0:0"), 0);
}

TEST(BlasWorkspace, RefusesWhatCublasDoesNotTake) {
  for (const char* says :
       {"", ":4096", "4096:8", ":4096:8:", ":x:8", ":-1:8", ":4096:8 ", ":99999999999:8", ":1000000:2000", ":1000000000:1:1000000000:1"})
    EXPECT_SAYS(message_of<InputError>([&] { blas_workspace_bytes(says); }), "expected :KIB:COUNT") << says;
}

TEST(BlasWorkspace, IsSetWhereNothingIsSaid) {
  const char* before = std::getenv(kBlasWorkspaceVariable);
  const std::string kept = before == nullptr ? "" : before;
  ::unsetenv(kBlasWorkspaceVariable);
  EXPECT_EQ(blas_workspace_bytes(), 32 << 20);
  set_blas_workspace();
  EXPECT_STREQ(std::getenv(kBlasWorkspaceVariable), ":4096:8");
  ::setenv(kBlasWorkspaceVariable, ":16:8", 1);
  set_blas_workspace();
  EXPECT_EQ(blas_workspace_bytes(), 128 << 10);
  before == nullptr ? ::unsetenv(kBlasWorkspaceVariable) : ::setenv(kBlasWorkspaceVariable, kept.c_str(), 1);
}

}  // namespace
}  // namespace zerostep::testing
