#include "base/json_depth.h"

#include <gtest/gtest.h>

#include <string>

namespace zerostep {
namespace {

std::string nested(size_t depth, const std::string& inside = "1") { return std::string(depth, '[') + inside + std::string(depth, ']'); }

TEST(JsonDepth, CountsWhatIsOpenOutsideStrings) {
  EXPECT_FALSE(is_json_too_deep(nested(kDeepestJson)));
  EXPECT_TRUE(is_json_too_deep(nested(kDeepestJson + 1)));
  EXPECT_TRUE(is_json_too_deep(nested(200000)));
  EXPECT_TRUE(is_json_too_deep(std::string(600, '[')));
  std::string objects;
  for (size_t i = 0; i <= kDeepestJson; ++i) objects += "{\"a\":";
  EXPECT_TRUE(is_json_too_deep(objects));
  // Side by side, and in strings, with and without escapes.
  std::string beside;
  for (int i = 0; i < 2000; ++i) beside += "[{}],";
  EXPECT_FALSE(is_json_too_deep(beside));
  EXPECT_FALSE(is_json_too_deep("\"" + nested(1000) + "\""));
  EXPECT_FALSE(is_json_too_deep("\"a \\\"" + nested(1000) + "\""));
  EXPECT_TRUE(is_json_too_deep("\"a\\\\\"" + nested(1000)));
  EXPECT_FALSE(is_json_too_deep(""));
  EXPECT_EQ(unless_too_deep("[1]"), "[1]");
  EXPECT_EQ(unless_too_deep(nested(1000)), "");
}

}  // namespace
}  // namespace zerostep
