#include "runtime/plan/name_pattern.h"

#include <gtest/gtest.h>

namespace zerostep {
namespace {

TEST(NamePattern, GlobsMatchWholeNames) {
  EXPECT_TRUE(matches_pattern("transformer.h.0.ln_1.weight", "*.ln_?.weight"));
  EXPECT_TRUE(matches_pattern("transformer.h.0.ln_1.weight", "transformer.h.*"));
  EXPECT_FALSE(matches_pattern("transformer.h.0.ln_1.weight", "h.0"));
  EXPECT_TRUE(matches_any("lm_head.weight", {"x", "lm_*"}));
}

}  // namespace
}  // namespace zerostep
