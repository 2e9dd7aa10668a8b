#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/data/table_writer.h"
#include "tests/launch/support/run_binary.h"
#include "tests/runtime/support/table_files.h"

// The commands on data sets: options of theirs, and what their messages advise.
namespace zerostep::testing {
namespace {

using nlohmann::json;

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

// A file that holds lines as the stored blocks of Zstandard (RFC 8878).
void write_zst(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream file(path, std::ios::binary);
  file << std::string_view("\x28\xB5\x2F\xFD\x00\x38", 6);  // magic, no options, a window of 128 KiB
  constexpr size_t kBlock = 100000;
  for (size_t at = 0; at < text.size(); at += kBlock) {
    const std::string block = text.substr(at, kBlock);
    const size_t head = block.size() << 3 | (at + kBlock >= text.size() ? 1U : 0U);
    for (const int shift : {0, 8, 16}) file << static_cast<char>(head >> shift);
    file << block;
  }
}

// What the program's own catalogue says of the data set that no hub has makes it, where `train` looks for it.
TEST_F(DataCommandsTest, MakeTheMergedSetAsTheCatalogueSays) {
  const std::string source = std::getenv("ZEROSTEP_SOURCE_DIR"), data = place_.path("cache/zerostep/data/");
  const json entry = json::parse(std::ifstream(source + "/configs/datasets.json"), nullptr, true, true)["dclm-pubmedqa-merged"];
  std::string pages;
  for (int i = 0; i < 10100; ++i) pages += "{\"text\": \"page " + std::to_string(i) + "\"}\n";
  write_zst(data + "dclm/global-shard_01_of_10/local-shard_0_of_10/shard_00000000_processed.jsonl.zst", pages);
  std::filesystem::create_directories(data + "pubmedqa/pqa_artificial");
  const auto table = write_parquet(data + "pubmedqa/pqa_artificial/train-0.parquet", {"question", "long_answer", "final_decision"}, "test");
  for (int i = 0; i < 10100; ++i) table->append({"question " + std::to_string(i), "answer", "yes"});
  table->close();
  // Nothing is fetched: all of it is here.
  const std::string command = entry["source"].get<std::string>().substr(std::string("made here: ").size());
  EXPECT_SAYS(command, "zerostep data fetch dclm --documents 10000 && zerostep data fetch pubmedqa && zerostep data merge ");
  const std::map<std::string, std::string> environment{{"XDG_CACHE_HOME", place_.path("cache")}};
  const Outcome made = place_.run_command({"bash", "-c", "zerostep() { [ \"$2\" = fetch ] || \"$ZEROSTEP_BINARY\" \"$@\"; }; " + command},
                                          {.environment = environment});
  ASSERT_EQ(made.status, 0) << made.err;
  const json told = json::parse(place_.read("cache/zerostep/data/dclm-pubmedqa-merged.json"));
  EXPECT_EQ(told["rows"], 20000);
  EXPECT_EQ(told["sources"][0]["rows"], 10000);
  EXPECT_EQ(entry["size"], "20 k documents");
  const Outcome shown =
      place_.run_command({program(), "data", "show", "dclm-pubmedqa-merged", "--json"},
                         {.environment = environment, .without = {"COLUMNS"}});  // of the program itself, beside which the catalogue is
  ASSERT_EQ(shown.status, 0) << shown.err;
  EXPECT_EQ(json::parse(shown.out)["rows"], 20000);
}

TEST_F(DataCommandsTest, CheckTakesAnotherTextOfEvaluationData) {
  std::string rows, held_out;
  for (int i = 0; i < 30; ++i) {
    const std::string text = std::to_string(i * 7919) + std::string(200, static_cast<char>('a' + i % 26)) + std::to_string(i);
    rows += json{{"body", text}}.dump() + "\n";
    if (i % 10 == 0) held_out += json{{"sentence", text}, {"n", i}}.dump() + "\n";
  }
  place_.write("rows.jsonl", rows);
  place_.write("held_out.jsonl", held_out);
  const auto check = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"data", "check", place_.path("rows.jsonl"), "--against", place_.path("held_out.jsonl"), "--json"});
    return place_.run(more);
  };
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--text-field", "body", "--against-text-field", "sentence"},
                                               {"--text", "{body}", "--against-text-field", "sentence"},
                                               {"--text-field", "body", "--against-text", "{sentence}"}}) {
    const Outcome done = check(more);
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_EQ(json::parse(done.out)["overlap"]["overlapping_documents"], 3);
    EXPECT_EQ(json::parse(done.out)["overlap"]["texts"], 3);
  }
  const Outcome shared = check({"--text-field", "body"});
  EXPECT_EQ(shared.status, 2);
  EXPECT_SAYS(shared.err,
              "held_out.jsonl:1 has no field 'body', which --text-field (--against-text-field is that of evaluation data) names");
  EXPECT_EQ(check({"--against-text-field", "sentence", "--against-text", "{sentence}"}).status, 2);
}

TEST_F(DataCommandsTest, TellOfFieldsThatNoRowHas) {
  const std::string rows = place_.path("rows.jsonl");
  place_.write("rows.jsonl", "{\"body\": \"abc\"}\n{\"body\": \"def\", \"more\": 1}\n");
  for (const std::vector<std::string>& command : {std::vector<std::string>{"data", "show", rows},
                                                  {"data", "check", rows},
                                                  {"data", "merge", place_.path("out.parquet"), rows, "--overwrite"}})
    for (const auto& [text, told] : {std::pair{"{body}[[ {more}]]", false}, {"{body}[[ {moer}]]", true}}) {
      std::vector<std::string> words = command;
      words.insert(words.end(), {"--text", text});
      const Outcome done = place_.run(words);
      ASSERT_EQ(done.status, 0) << done.err;
      EXPECT_EQ(count(done.err, "warning: "), told ? 1U : 0U) << done.err;
      EXPECT_EQ(count(done.err, rows + ": no row has a field 'moer', which --text names"), told ? 1U : 0U) << done.err;
    }
}

// What the user says comes before what the catalogue says.
TEST_F(DataCommandsTest, AFieldThatIsAskedForComesBeforeTheCatalogues) {
  place_.write("rows.jsonl", R"({"title": "abc", "body": "defgh"})");
  place_.write("datasets.json", R"({"mine": {"files": "rows.jsonl", "text": "{title}: {body}"}})");
  const auto text = [&](const std::vector<std::string>& more) {
    std::vector<std::string> command{"data", "show", "mine", "--catalogue", place_.path("datasets.json"), "--json"};
    command.insert(command.end(), more.begin(), more.end());
    const Outcome done = place_.run(command);
    EXPECT_EQ(done.status, 0) << done.err;
    return json::parse(done.out).at("text");
  };
  EXPECT_EQ(text({}), "{title}: {body}");
  EXPECT_EQ(text({"--text-field", "body"}), "body");
  EXPECT_EQ(text({"--text", "{body}!"}), "{body}!");
}

}  // namespace
}  // namespace zerostep::testing
