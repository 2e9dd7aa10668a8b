#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>

#include "tests/launch/support/run_binary.h"

// What becomes of a command whose standard streams are closed, full or read by nobody.
namespace zerostep::testing {
namespace {

class StandardStreams : public ::testing::Test {
 protected:
  // The program with redirections of bash; "$fifo" is a pipe that has a name.
  Outcome run(const std::vector<std::string>& arguments, const std::string& redirections, const std::string& before = "") const {
    std::vector<std::string> command{"bash", "-c", before + "\"$@\" " + redirections, "bash"};
    for (const std::string& word : place_.command(arguments, 1)) command.push_back(word);
    return place_.run_command(command, {.environment = {{"fifo", place_.path("fifo")}}});
  }
  // File descriptor 4 is a pipe without a reader.
  static constexpr const char* kNoReader = "exec 3<>$fifo; exec 4>$fifo; exec 3<&-; ";
  void make_fifo() const { ASSERT_EQ(::mkfifo(place_.path("fifo").c_str(), 0600), 0); }
  std::string model() const {
    EXPECT_EQ(place_.run({"init", place_.config(), place_.path("model")}).status, 0);
    return place_.path("model");
  }
  Workplace place_;
};

TEST_F(StandardStreams, NoFileOfARunTakesThePlaceOfAClosedOne) {
  const std::string file = place_.config();
  const std::vector<std::string> train{"train", file, "--set", "run.checkpoint_interval=2", "--set", "csv_monitor.enabled=true"};
  ASSERT_EQ(run(train, "").status, 0);
  const size_t lines = count(place_.read("runs/test/log.txt"), "\n");
  EXPECT_GT(lines, 8u);
  for (const char* closed : {"<&- >&-", "<&- >&- 2>&-", ">&-"}) {
    std::filesystem::remove_all(place_.path("runs/test"));
    const Outcome done = run(train, closed);
    EXPECT_EQ(done.status, 0) << closed << done.err;
    EXPECT_EQ(count(place_.read("runs/test/log.txt"), "\n"), lines) << closed;
    EXPECT_EQ(count(place_.read("runs/test/log.txt"), "model     "), 1u) << closed;
    EXPECT_EQ(count(place_.read("runs/test/metrics.csv"), "\n"), 5u) << closed;
    EXPECT_EQ(place_.read("runs/test/checkpoints/latest"), "step_00000004\n") << closed;
  }
}

TEST_F(StandardStreams, ResultsThatCannotBeWrittenAreAFailure) {
  const std::string file = place_.config(), saved = model();
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"--help"},
           {"train", "--help"},
           {"config", "--keys"},
           {"config", file, "--json"},
           {"config", file},
           {"plan", file},
           {"plan", file, "--json"},
           {"eval", file, "--json", "--set", "data.eval=" + place_.path("corpus.txt")},
           {"inspect", "model", file},
           {"inspect", "batches", file, "--steps", "100"},
           {"inspect", "batches", file},
           {"inspect", "noise", file, "--set", "step.mode=zo", "--count", "3"},
           {"generate", "--model", saved, "--tokens", "5"},
           {"init", file, place_.path("other")},
       }) {
    const Outcome done = run(command, ">/dev/full");
    EXPECT_EQ(done.status, 1) << command[0] << ": " << done.err;
    EXPECT_SAYS(done.err, "zerostep: cannot write to the standard output: No space left on device");
    EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
  }
}

TEST_F(StandardStreams, AReaderThatLeavesIsNoFailureToSpeakOf) {
  make_fifo();
  const std::string file = place_.config();
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{{"config", "--keys"}, {"config", file, "--json"}}) {
    const Outcome done = run(command, ">&4", kNoReader);
    EXPECT_EQ(done.status, 128 + SIGPIPE) << command[1];
    EXPECT_EQ(done.err, "");
  }
  // A run goes on.
  const Outcome trained = run({"train", file}, ">&4", kNoReader);
  EXPECT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(place_.metrics("test").size(), 4u);
}

TEST_F(StandardStreams, ErrorsThatCannotBeWrittenChangeNothing) {
  make_fifo();
  const std::string file = place_.config();
  place_.write("warned.json", place_.read("config.json").replace(0, 1, "{\"amp\": {\"enabled\": false}, \"zero_optimization\": true, "));
  const Outcome warned = run({"config", place_.path("warned.json"), "--json"}, "");
  ASSERT_EQ(warned.status, 0) << warned.err;
  ASSERT_NE(warned.err, "");
  for (const auto& [lost, before] : {std::pair("2>&-", ""), std::pair("2>/dev/full", ""), std::pair("2>&4", kNoReader)}) {
    std::filesystem::remove_all(place_.path("runs"));
    const Outcome config = run({"config", place_.path("warned.json"), "--json"}, lost, before);
    EXPECT_EQ(config.status, 0) << lost;
    EXPECT_EQ(config.out, warned.out) << lost;
    EXPECT_EQ(run({"train", place_.path("warned.json")}, lost, before).status, 0) << lost;
    EXPECT_EQ(place_.metrics("test").size(), 4u) << lost;
    EXPECT_EQ(run({"plan", place_.path("nothing.json")}, lost, before).status, 2) << lost;
  }
}

}  // namespace
}  // namespace zerostep::testing
