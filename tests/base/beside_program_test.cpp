#include "base/beside_program.h"

#include <gtest/gtest.h>

#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using testing::message_of;

// Where none lies beside the program, the system's.
TEST(BesideProgram, FunctionsOfLibraries) {
  EXPECT_EQ(function_beside_program<double(double)>("libm.so.6", "cos", "")(0), 1);
  const auto missing = [] { function_beside_program<void(), InputError>("libnone.so", "open", "this needs libnone.so"); };
  EXPECT_SAYS(message_of<InputError>(missing), "this needs libnone.so: libnone.so: ");
  const auto former = [] { function_beside_program<void()>("libm.so.6", "zerostep_none_2", "this needs libm.so.6"); };
  EXPECT_SAYS(message_of<RunError>(former), "libm.so.6 is of another version than the program: ");
}

}  // namespace
}  // namespace zerostep
