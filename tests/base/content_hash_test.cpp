#include "base/content_hash.h"

#include <gtest/gtest.h>

namespace zerostep {
namespace {

TEST(ContentHash, APartAfterAPartIsTheWholeText) {
  const std::string text = "a text of some parts";
  const auto whole = [&](const std::string& of) { return ContentHash().add(of).add("behind").hex(); };
  for (size_t at = 0; at <= text.size(); ++at) {
    ContentHash parts;
    parts.add(uint64_t{text.size()}).add_part(text.substr(0, at)).add_part(text.substr(at)).add("behind");
    EXPECT_EQ(parts.hex(), whole(text)) << at;
  }
  // The bounds between texts count.
  EXPECT_NE(ContentHash().add("ab").add("c").hex(), ContentHash().add("a").add("bc").hex());
  EXPECT_NE(whole(text), whole(text + "b"));
}

}  // namespace
}  // namespace zerostep
