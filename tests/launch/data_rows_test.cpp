#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "tests/launch/support/run_binary.h"
#include "tests/runtime/support/table_files.h"

// Rows of data files, from the file to the batches of a run.
namespace zerostep::testing {
namespace {

class DataRows : public ::testing::Test {
 protected:
  Outcome train(const std::vector<std::string>& set, const std::vector<std::string>& more = {}, int ranks = 1) const {
    return place_.run(arguments({"train"}, set, more), {.ranks = ranks});
  }
  // `command` on the file of place_.config().
  std::vector<std::string> arguments(std::vector<std::string> command, const std::vector<std::string>& set,
                                     const std::vector<std::string>& more = {}) const {
    command.push_back(place_.path("config.json"));
    command.insert(command.end(), more.begin(), more.end());
    for (const std::string& s : set) command.insert(command.end(), {"--set", s});
    return command;
  }
  Workplace place_;
};

TEST_F(DataRows, ThatLackAFieldAreNamedOrLeftOutAndCounted) {
  std::string good, holed;
  for (int i = 0; i < 60; ++i) {
    const std::string row = "{\"text\": \"row " + std::to_string(i) + " of the first text\", \"more\": \"and of the other\"}\n";
    good += row;
    holed += row;
    if (i == 39) holed += "{\"text\": \"nothing more\"}\n{\"text\": \"null\", \"more\": null}\n";
  }
  place_.write("good.jsonl", good);
  place_.write("holed.jsonl", holed);
  place_.config();
  const auto set = [&](const std::string& file, const std::string& missing) {
    return std::vector<std::string>{"data={\"train\": \"" + place_.path(file) + "\", \"join_fields\": [\"more\"], \"sequence_length\": 16" +
                                    (missing.empty() ? "" : ", \"missing\": \"" + missing + "\"") + "}"};
  };
  for (const char* missing : {"", "error"}) {
    const Outcome refused = train(set("holed.jsonl", missing));
    EXPECT_EQ(refused.status, 2);
    EXPECT_SAYS(refused.err, "holed.jsonl:41 has no field 'more'");
    EXPECT_SAYS(refused.err, "data.missing");
  }
  for (const int ranks : {2, 1}) {  // made by the first, from the cache for the second
    const Outcome done = train(set("holed.jsonl", "skip"), {"--overwrite"}, ranks);
    ASSERT_EQ(done.status, 0) << done.err;
    // Whichever rank has made it.
    EXPECT_EQ(done.out.find("(from the cache)") != std::string::npos, ranks == 1) << done.out << done.err;
    EXPECT_EQ(count(done.out + done.err, "data.train: 2 rows are left out, without text or more"), 1u) << done.out << done.err;
  }
  const auto batches = [&](const std::vector<std::string>& data) {
    const Outcome done = place_.run(arguments({"inspect", "batches"}, data, {"--steps", "4"}));
    EXPECT_EQ(done.status, 0) << done.err;
    return done.out;
  };
  EXPECT_EQ(batches(set("holed.jsonl", "skip")), batches(set("good.jsonl", "")));
}

// The rows of tests/runtime/tables/rows.jsonl, as other kinds of files.
TEST_F(DataRows, OfEveryKindOfFileMakeTheSameBatches) {
  place_.config();
  const auto batches = [&](const std::string& file) {
    const std::string data = "data={\"train\": \"" + table_file(file) + "\", \"sequence_length\": 16}";
    const Outcome done = place_.run(arguments({"inspect", "batches"}, {data}, {"--steps", "4"}));
    EXPECT_EQ(done.status, 0) << done.err;
    return done.out;
  };
  const std::string expected = batches("rows.jsonl");
  EXPECT_EQ(count(expected, "\n"), 4u);
  for (const char* file : {"zstd.parquet", "stream.arrow", "saved", "both/validation", "rows.jsonl.gz", "rows.jsonl.zst"})
    EXPECT_EQ(batches(file), expected) << file;
}

TEST_F(DataRows, OfTablesNeedALibraryBesideTheProgram) {
  place_.config();
  const std::string alone = place_.path("zerostep");
  std::filesystem::copy_file(std::getenv("ZEROSTEP_BINARY"), alone);
  const auto train = [&](const std::string& file) {
    const std::string data = "data={\"train\": \"" + table_file(file) + "\", \"sequence_length\": 16}";
    return place_.run_command({alone, "inspect", "batches", place_.path("config.json"), "--steps", "1", "--set", data});
  };
  EXPECT_EQ(train("rows.jsonl").status, 0);
  const Outcome refused = train("zstd.parquet");
  EXPECT_EQ(refused.status, 2);
  for (const char* part : {"data.train", "zstd.parquet", "libzerostep_arrow.so", "launch/setup.sh", "launch/build.sh"})
    EXPECT_SAYS(refused.err, part);
}

}  // namespace
}  // namespace zerostep::testing
