#include "base/host_name.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

namespace zerostep {
namespace {

TEST(HostName, IsThatOfTheSystem) {
  std::array<char, 256> name{};
  ASSERT_EQ(::gethostname(name.data(), name.size() - 1), 0);
  const std::string expected = name.data();
  EXPECT_EQ(host_name(), expected.empty() ? "?" : expected);
}

}  // namespace
}  // namespace zerostep
