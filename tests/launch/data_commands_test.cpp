#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/launch/support/run_binary.h"
#include "tests/runtime/support/table_files.h"

// The commands on data sets: options of theirs, and what their messages advise.
namespace zerostep::testing {
namespace {

class DataCommandsTest : public ::testing::Test {
 protected:
  Workplace place_;
};

// What a message advises is an option that the command has.
TEST_F(DataCommandsTest, NameTheirOwnWaysOut) {
  place_.write("a.jsonl", "{\"body\": \"a\"}\n");
  const std::string a = place_.path("a.jsonl"), both = table_file("both"), out = place_.path("o.parquet");
  place_.write("holed.jsonl", "{\"body\": null}\n{\"body\": \"a\"}\n{\"other\": \"b\"}\n");
  for (const std::vector<std::string>& command : {std::vector<std::string>{"data", "check"}, {"data", "merge", out}}) {
    const auto run = [&](const std::vector<std::string>& more) {
      std::vector<std::string> whole = command;
      whole.insert(whole.end(), more.begin(), more.end());
      return place_.run(whole);
    };
    const Outcome no_field = run({a});
    EXPECT_EQ(no_field.status, 2);
    EXPECT_SAYS(no_field.err, "a.jsonl:1 has no field 'text', which --text-field names; its fields are: body (--missing skip leaves");
    EXPECT_EQ(no_field.err.find("data."), no_field.err.npos) << no_field.err;
    const Outcome null = run({place_.path("holed.jsonl"), "--text-field", "body"});
    EXPECT_EQ(null.status, 2);
    EXPECT_SAYS(null.err, "holed.jsonl:1: field 'body' is null; a text is expected (--missing skip leaves such rows out)");
    const Outcome left_out = run({place_.path("holed.jsonl"), "--text-field", "body", "--missing", "skip"});
    EXPECT_EQ(left_out.status, 0) << left_out.err;
    EXPECT_SAYS(left_out.out, "2 rows left out, without a field");
    const Outcome split = run({both});
    EXPECT_EQ(split.status, 2);
    EXPECT_SAYS(split.err, "holds the splits train, validation: name one, --split train, or its folder, '" + both + "/train'\n");
  }
  EXPECT_EQ(place_.run({"data", "show", both, "--split", "train"}).status, 0);
  const Outcome wrong = place_.run({"data", "show", a, "--missing", "skp"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_SAYS(wrong.err, "--missing is 'skp'; expected error or skip");
}

}  // namespace
}  // namespace zerostep::testing
