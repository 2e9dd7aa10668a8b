#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/report/columns.h"
#include "tests/launch/support/run_binary.h"
#include "tests/support/fake_hub.h"
#include "tests/support/terminal.h"

// `data fetch` as a user calls it, from a hub of the test's own. What a hub may do wrong: tests/experiments/fetch_*_test.cpp.
namespace zerostep::testing {
namespace {

using nlohmann::json;

class FetchCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    place_.config();
    place_.write("datasets.json", R"({
      "mine": {"files": "mine/en/part-*.jsonl.gz", "text": "{text}", "source": {"hub": "o/n", "files": "en/part-*.json.gz"}},
      "made": {"files": "made.parquet", "source": "made here"}})");
    for (const char* name : {"en/part-0.json.gz", "en/part-1.json.gz"}) {
      std::string lines;
      for (int i = 0; i < 100; ++i) lines += json{{"text", std::string(name) + " line " + std::to_string(i * 7919)}}.dump() + "\n";
      place_.write("lines", lines);
      EXPECT_EQ(place_.run_command({"gzip", "-f", place_.path("lines")}).status, 0);
      hub_.files[name] = place_.read("lines.gz");
    }
  }
  How how() const {
    return {.environment = {{"HF_ENDPOINT", hub_.url()}, {"HF_HOME", place_.path("home")}, {"no_proxy", "127.0.0.1"}},
            .without = {"HF_TOKEN", "HF_TOKEN_PATH"}};
  }
  std::vector<std::string> words(const std::string& name, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> out{"data", "fetch", name, "--catalogue", place_.path("datasets.json")};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
  Outcome train() const {
    const json data{{"train", "mine"}, {"catalogue", place_.path("datasets.json")}, {"sequence_length", 16}};
    return place_.run({"train", place_.path("config.json"), "--overwrite", "--set", "data=" + data.dump()});
  }
  Workplace place_;
  FakeHub hub_;
};

TEST_F(FetchCommand, WhatIsFetchedIsTrainedOn) {
  const Outcome missing = train();
  EXPECT_EQ(missing.status, 2);
  EXPECT_SAYS(missing.err, "`" + program() + " data fetch mine --catalogue " + place_.path("datasets.json") + "` brings it here");

  const Outcome some = place_.run(words("mine", {"--documents", "40", "--json"}), how());
  ASSERT_EQ(some.status, 0) << some.err;
  const int64_t bytes = std::ssize(hub_.files["en/part-0.json.gz"]);
  EXPECT_EQ(json::parse(some.out), (json{{"name", "mine"},
                                         {"repository", "o/n"},
                                         {"revision", "main"},
                                         {"commit", hub_.commit},
                                         {"folder", place_.path("mine")},
                                         {"files", 1},
                                         {"all_files", 2},
                                         {"bytes", bytes},
                                         {"fetched_files", 1},
                                         {"fetched_bytes", bytes},
                                         {"rows", 100}}));
  EXPECT_SAYS(some.err, "'en/part-0.json.gz' is here: ");
  const Outcome list = place_.run({"data", "list", "--catalogue", place_.path("datasets.json")});
  EXPECT_SAYS(list.out, "1 of 2 files");
  EXPECT_SAYS(list.out, " data fetch NAME --catalogue " + place_.path("datasets.json") + "` brings one");

  const Outcome all = place_.run(words("mine"), how());
  ASSERT_EQ(all.status, 0) << all.err;
  EXPECT_SAYS(all.out, "mine: 2 files, ");
  EXPECT_SAYS(all.out, " in " + place_.path("mine") + "; 1 fetched, ");
  EXPECT_SAYS(all.out, "\"data\": {\"train\": \"mine\", \"catalogue\": \"" + place_.path("datasets.json") + "\"}");
  EXPECT_EQ(count(all.err, "is here: "), 1U) << all.err;
  const Outcome trained = train();
  EXPECT_EQ(trained.status, 0) << trained.err;
  const Outcome shown = place_.run({"data", "show", "mine", "--json", "--catalogue", place_.path("datasets.json")});
  EXPECT_EQ(json::parse(shown.out)["rows"], 200);
}

TEST_F(FetchCommand, TheProgramsOwnDataSetsLieInTheCacheFolder) {
  hub_.files["pqa_artificial/train-0.parquet"] = "any bytes";
  How with_cache = how();
  with_cache.environment["XDG_CACHE_HOME"] = place_.path("cache");
  const Outcome done = place_.run({"data", "fetch", "pubmedqa"}, with_cache);
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(place_.read("cache/zerostep/data/pubmedqa/pqa_artificial/train-0.parquet"), "any bytes");
  const json listed = json::parse(place_.run({"data", "list", "--json"}, with_cache).out);
  for (const json& one : listed["data_sets"]) EXPECT_EQ(one["here"], one["name"] == "pubmedqa") << one["name"];
}

TEST_F(FetchCommand, AnInterruptedOneGoesOn) {
  const std::string content = hub_.files.at("en/part-0.json.gz"), part = place_.path("mine/en/part-0.jsonl.gz.part");
  ASSERT_GT(content.size(), 500U);
  bool stalls = true;
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") == std::string::npos || !std::exchange(stalls, false)) return;
    reply.most_bytes = 500;
    reply.stalls = true;
  };
  const pid_t pid = place_.start(place_.command(words("mine"), 1), how());
  std::error_code error;
  for (int i = 0; i < 1000 && (!std::filesystem::exists(part, error) || std::filesystem::file_size(part, error) < 500); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ::kill(pid, SIGINT);
  EXPECT_EQ(place_.finish(pid).status, 128 + SIGINT);
  EXPECT_EQ(place_.read("mine/en/part-0.jsonl.gz.part"), content.substr(0, 500));
  const Outcome done = place_.run(words("mine"), how());
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.err, "'en/part-0.json.gz' goes on behind its first 500 B");
  EXPECT_EQ(hub_.asked_for_files().at(1).header("range"), "bytes=500-");
  EXPECT_EQ(place_.read("mine/en/part-0.jsonl.gz"), content);
}

TEST_F(FetchCommand, DocumentsOfParquetAreCountedByItsLibrary) {
  std::ifstream table(std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/tests/runtime/tables/snappy.parquet", std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(table), {}};
  std::ifstream lines(std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/tests/runtime/tables/rows.jsonl");  // the rows of the table
  const auto rows = std::count(std::istreambuf_iterator<char>(lines), {}, '\n');
  ASSERT_GT(rows, 1);
  hub_.files = {{"a.parquet", content}, {"b.parquet", content}, {"c.parquet", content}};
  place_.write("datasets.json", R"({"mine": {"files": "mine/*.parquet", "source": {"hub": "o/n", "files": "*.parquet"}}})");
  const Outcome done = place_.run(words("mine", {"--json", "--documents", std::to_string(rows + 1)}), how());
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(json::parse(done.out)["rows"], 2 * rows);
  EXPECT_EQ(json::parse(done.out)["files"], 2);
}

TEST_F(FetchCommand, AFileInTheWayIsWrongInput) {
  std::filesystem::create_directories(place_.path("mine/en"));
  place_.write("mine/en/part-1.jsonl.gz", "my own");
  const Outcome done = place_.run(words("mine"), how());
  EXPECT_EQ(done.status, 2);
  EXPECT_SAYS(done.err, "part-1.jsonl.gz' is here already, and is not the file 'en/part-1.json.gz'");
  EXPECT_EQ(place_.read("mine/en/part-1.jsonl.gz"), "my own");
  EXPECT_TRUE(hub_.asked_for_files().empty());
}

TEST_F(FetchCommand, OnATerminalOneLineTellsAndGoesWhenItIsInterrupted) {
  // The line is as wide as the terminal less one: it ends within the name, whose letters are of two bytes.
  std::string name = "file";
  for (int i = 0; i < 60; ++i) name += "\xc3\xa9";
  hub_.files = {{name + ".txt", std::string(4000, 'x')}};
  place_.write("datasets.json", R"({"mine": {"files": "mine/*.txt", "source": {"hub": "o/n", "files": "*.txt"}}})");
  hub_.change = [&](const Asked& asked, Reply& reply) {
    if (asked.target.find("/resolve/") == std::string::npos) return;
    reply = {.body = std::string(4000, 'x'), .most_bytes = 1000, .stalls = true};
  };
  Terminal terminal(60);
  std::vector<std::string> command{"sh", "-c", "exec \"$@\" 2>" + terminal.name(), "sh"};
  for (const std::string& word : place_.command(words("mine"), 1)) command.push_back(word);
  command[4] = std::getenv("ZEROSTEP_BINARY");
  const pid_t pid = place_.start(command, how());
  const std::string line = "\r\x1b[Kfile 1 of 1 | 0 B of 3.91 KiB (0 %)";
  const std::string shown = terminal.read_until(line);
  EXPECT_SAYS(shown, line);
  ::kill(pid, SIGINT);
  EXPECT_EQ(place_.finish(pid).status, 128 + SIGINT);
  const std::string all = terminal.read_all();
  EXPECT_TRUE(all.ends_with("\r\x1b[K")) << all;
  const std::string last = all.substr(all.find(line) + 4, all.find('\r', all.find(line) + 4) - all.find(line) - 4);
  EXPECT_EQ(columns_of_text(last), 59) << last;
  EXPECT_TRUE(last.ends_with("\xc3\xa9")) << last;
}

TEST_F(FetchCommand, NamesThatCannotBeFetchedAreRefused) {
  const Outcome unknown = place_.run(words("mien"), how());
  EXPECT_EQ(unknown.status, 2);
  EXPECT_SAYS(unknown.err, "'mien' is not a name of the catalogue");
  EXPECT_SAYS(unknown.err, "the nearest is mine");
  const Outcome made = place_.run(words("made"));
  EXPECT_EQ(made.status, 2);
  EXPECT_SAYS(made.err, "'made' is of no hub");
  EXPECT_SAYS(made.err, "\"made here\"");
  EXPECT_SAYS(made.err, place_.path("made.parquet"));
  const Outcome count = place_.run(words("mine", {"--documents", "0"}));
  EXPECT_EQ(count.status, 2);
  EXPECT_SAYS(count.err, "--documents");
  EXPECT_TRUE(hub_.asked().empty());
}

}  // namespace
}  // namespace zerostep::testing
