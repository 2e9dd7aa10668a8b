#include "base/nearest_name.h"

#include <gtest/gtest.h>

#include <string>

namespace zerostep {
namespace {

TEST(NearestName, Distances) {
  EXPECT_EQ(edit_distance("", "", 3), 0u);
  EXPECT_EQ(edit_distance("stage", "stage", 3), 0u);
  EXPECT_EQ(edit_distance("Stage", "sTAGE", 3), 0u);
  EXPECT_EQ(edit_distance("stge", "stage", 3), 1u);
  EXPECT_EQ(edit_distance("trian", "train", 3), 1u);  // a swap is one edit
  EXPECT_EQ(edit_distance("kitten", "sitting", 5), 3u);
  EXPECT_EQ(edit_distance("", "abc", 5), 3u);
  EXPECT_EQ(edit_distance("abcdef", "uvwxyz", 10), 6u);
}

TEST(NearestName, StopsAtTheLimit) {
  EXPECT_EQ(edit_distance("abcdef", "uvwxyz", 2), 3u);
  EXPECT_EQ(edit_distance("a", "abcdef", 2), 3u);
  EXPECT_EQ(edit_distance(std::string(1000000, 'x'), "stage", 2), 3u);
}

TEST(NearestName, ChoosesTheNearestOrNothing) {
  const std::string_view names[] = {"stage", "sub_group_size", "fo", "zo", "AdamW", "Adam"};
  EXPECT_EQ(nearest_name("stge", names), "stage");
  EXPECT_EQ(nearest_name("sub_groop_sizes", names), "sub_group_size");
  EXPECT_EQ(nearest_name("fi", names), "fo");
  EXPECT_EQ(nearest_name("AdamWW", names), "AdamW");
  EXPECT_EQ(nearest_name("xy", names), "");
  EXPECT_EQ(nearest_name("completely_else", names), "");
  EXPECT_EQ(nearest_name("", names), "");
  EXPECT_EQ(nearest_name("stage", {}), "");
}

TEST(NearestName, OnlyWhatIsNearIsMeant) {
  using Names = std::vector<std::string_view>;
  const Names views{"loss", "overview", "zo", "compare", "alternating", "memory", "lanes"};
  EXPECT_EQ(did_you_mean("los", views), "; did you mean loss?");
  EXPECT_EQ(did_you_mean("zoo", views), "; did you mean zo?");
  EXPECT_EQ(did_you_mean("foo", views), ".");
  EXPECT_EQ(did_you_mean("fo", views), ".");
  EXPECT_EQ(did_you_mean("", views), ".");
  EXPECT_EQ(did_you_mean("mem", views), "; did you mean memory?");
  EXPECT_EQ(did_you_mean("eval", Names{"step", "eval_loss", "eval_accuracy", "loss"}), "; did you mean eval_loss or eval_accuracy?");
  EXPECT_EQ(did_you_mean("query", Names{"queries", "query_batch", "my_query_kind", "query_last"}),
            "; did you mean queries, query_batch or my_query_kind?");
}

}  // namespace
}  // namespace zerostep
