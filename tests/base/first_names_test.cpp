#include "base/first_names.h"

#include <gtest/gtest.h>

namespace zerostep {
namespace {

TEST(FirstNames, AreFiveAndTheNumberOfTheOthers) {
  EXPECT_EQ(first_names({}), "");
  EXPECT_EQ(first_names({"a"}), "a");
  EXPECT_EQ(first_names({"a", "b", "c", "d", "e"}), "a, b, c, d, e");
  EXPECT_EQ(first_names({"a", "b", "c", "d", "e", "f"}), "a, b, c, d, e and 1 more");
  EXPECT_EQ(first_names({"a", "b", "c", "d", "e", "f", "g"}), "a, b, c, d, e and 2 more");
}

}  // namespace
}  // namespace zerostep
