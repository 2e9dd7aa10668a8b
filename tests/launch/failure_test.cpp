#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

bool is_alive(pid_t pid) { return ::kill(pid, 0) == 0; }

class Failure : public ::testing::Test {
 protected:
  std::vector<std::string> train(const std::vector<std::string>& more = {}, int ranks = 1) const {
    std::vector<std::string> arguments{"train", place_.config("\"zero_optimization\": {\"stage\": 3}")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return place_.command(arguments, ranks);
  }
  Workplace place_;
};

TEST_F(Failure, AnInputErrorIsSaidOnceWhateverTheNumberOfRanks) {
  for (const int ranks : {1, 2}) {
    const Outcome done = place_.run_command(train({"--set", "zero_optimization.stge=1"}, ranks));
    EXPECT_EQ(done.status, 2) << done.err;
    EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
    EXPECT_SAYS(done.err, "stge is not a known key; the nearest is stage");
  }
  const Outcome corpus = place_.run_command(train({"--set", "data.train=/nowhere/at_all.txt"}, 2));
  EXPECT_EQ(corpus.status, 2);
  EXPECT_EQ(count(corpus.err, "/nowhere/at_all.txt"), 1u) << corpus.err;
  EXPECT_FALSE(place_.exists("runs/test"));
}

TEST_F(Failure, RanksStartedWithDifferentConfigurationsAreOneError) {
  std::vector<std::string> command = train();
  command.insert(command.begin(), {"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "1"});
  const std::vector<std::string> other = train({"--set", "optimizer.params.lr=0.5"});
  command.insert(command.end(), {":", "-np", "1"});
  command.insert(command.end(), other.begin(), other.end());
  const Outcome done = place_.run_command(command);
  EXPECT_EQ(done.status, 2) << done.err;
  EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
  EXPECT_SAYS(done.err, "rank 1 was started with another configuration");
  EXPECT_SAYS(done.err, "optimizer/params/lr is 0.5 there and 0.001 on rank 0");
}

TEST_F(Failure, SignalsEndARunAfterItsStep) {
  struct Case {
    int signal, status;
  };
  for (const Case& c : {Case{SIGTERM, 143}, Case{SIGINT, 130}, Case{SIGUSR1, 0}}) {
    const pid_t pid = place_.start(train({"--set", "run.steps=100000"}));
    ASSERT_TRUE(place_.wait_for_rows("test", 2, pid)) << place_.finish(pid, 0).err;
    ::kill(pid, c.signal);
    const Outcome done = place_.finish(pid, 20);
    EXPECT_EQ(done.status, c.status) << done.err;
    EXPECT_SAYS(done.out, "stopped by SIG");
    const std::string text = place_.read("runs/test/metrics.csv");
    EXPECT_EQ(text.back(), '\n');
    const auto rows = place_.metrics("test");
    EXPECT_EQ(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')), rows.size() + 1);
    EXPECT_EQ(rows.back().at("step"), std::to_string(rows.size() - 1));
    std::filesystem::remove_all(place_.path("runs"));
  }
}

TEST_F(Failure, SIGUSR1ToMpirunEndsTheJobWithSuccess) {
  const pid_t pid = place_.start(train({"--set", "run.steps=100000"}, 2));
  ASSERT_TRUE(place_.wait_for_rows("test", 2, pid)) << place_.finish(pid, 0).err;
  ::kill(pid, SIGUSR1);
  const Outcome done = place_.finish(pid, 20);
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "stopped by SIGUSR1");
}

TEST_F(Failure, AKilledRankEndsTheJobInSeconds) {
  const pid_t pid = place_.start(train({"--set", "run.steps=100000"}, 2), {.environment = kNoGrace});
  ASSERT_TRUE(place_.wait_for_rows("test", 2, pid)) << place_.finish(pid, 0).err;
  const std::vector<pid_t> ranks = children_of(pid);
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(ranks[1], SIGKILL);
  const Outcome done = place_.finish(pid, 30);
  EXPECT_EQ(done.status, 137) << done.err;  // mpirun's, of the signal
  EXPECT_LT(done.seconds, 15);
  for (int wait = 0; wait < 500 && std::any_of(ranks.begin(), ranks.end(), is_alive); ++wait) ::usleep(10000);
  for (const pid_t rank : ranks) EXPECT_FALSE(is_alive(rank));
}

TEST_F(Failure, ARankThatIsStoppedIsNamedAfterTheTimeOut) {
  const pid_t pid =
      place_.start(train({"--set", "run.steps=100000", "--set", "run.collective_timeout_seconds=2"}, 2), {.environment = kNoGrace});
  ASSERT_TRUE(place_.wait_for_rows("test", 2, pid)) << place_.finish(pid, 0).err;
  const std::vector<pid_t> ranks = children_of(pid);
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(ranks[1], SIGSTOP);
  const Outcome done = place_.finish(pid, 40);
  EXPECT_EQ(done.status, 1) << done.err;
  EXPECT_LT(done.seconds, 30);
  EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
  EXPECT_SAYS(done.err, "rank 1");
}

TEST_F(Failure, ADivergedRunNamesItsStepOnce) {
  for (const int ranks : {1, 2}) {
    const Outcome done =
        place_.run_command(train({"--overwrite", "--set", "optimizer.params.lr=1e30", "--set", "gradient_clipping=0"}, ranks));
    EXPECT_EQ(done.status, 1) << done.err;
    EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
    EXPECT_SAYS(done.err, "step 1");
    EXPECT_EQ(place_.metrics("test").size(), 1u);
  }
}

TEST_F(Failure, AFullDiskIsNamedOnce) {
  std::filesystem::create_directories(place_.path("runs/test"));
  std::filesystem::create_symlink("/dev/full", place_.path("runs/test/metrics.csv"));
  for (const int ranks : {1, 2}) {
    const Outcome done = place_.run_command(train({"--overwrite"}, ranks));
    EXPECT_EQ(done.status, 1) << done.err;
    EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
    EXPECT_SAYS(done.err, "runs/test/metrics.csv");
    EXPECT_SAYS(done.err, "space");
  }
}

TEST_F(Failure, AFolderThatCannotBeMadeIsTheUsersFault) {
  place_.write("file", "");
  const Outcome done =
      place_.run_command(train({"--set", "run.output_dir=" + place_.path("file"), "--set", "data.cache=" + place_.path("cache")}, 2));
  EXPECT_EQ(done.status, 2) << done.err;
  EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
  EXPECT_SAYS(done.err, "run.output_dir");
}

}  // namespace
}  // namespace zerostep::testing
