#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <thread>

#include "runtime/timing/machine.h"
#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

constexpr int kNotPermitted = 77;  // exit status of two_hosts.sh
// kNoGrace as an option: what starts mpirun on the two hosts takes no environment along.
constexpr const char* kNoGraceOption = "--mca odls_base_sigkill_timeout 0";

bool is_running(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(stat), {}};
  const size_t after_name = text.rfind(')');
  return after_name != std::string::npos && text.size() > after_name + 2 && text[after_name + 2] != 'Z' && text[after_name + 2] != 'X';
}

// MPI's ranks among the processes that come from `pid`.
std::map<int, pid_t> ranks_below(pid_t pid) {
  std::map<int, pid_t> out;
  for (const pid_t child : children_of(pid)) {
    std::ifstream file("/proc/" + std::to_string(child) + "/environ");
    for (std::string entry; std::getline(file, entry, '\0');)
      if (entry.starts_with("OMPI_COMM_WORLD_RANK=")) out[std::stoi(entry.substr(entry.find('=') + 1))] = child;
    out.merge(ranks_below(child));
  }
  return out;
}

bool all_end(const std::map<int, pid_t>& ranks, double seconds) {
  const auto runs = [](const auto& rank) { return is_running(rank.second); };
  const auto begin = std::chrono::steady_clock::now();
  while (std::any_of(ranks.begin(), ranks.end(), runs)) {
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() > seconds) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

// Ranks on two hosts of one machine: two_hosts.sh gives each a network, a name and a /dev/shm of its own.
class Hosts : public ::testing::Test {
 protected:
  void SetUp() override {
    const Outcome possible = place_.run_command({script(), "10mbit", "--", "true"});
    if (possible.status == kNotPermitted) GTEST_SKIP() << possible.err;
    ASSERT_EQ(possible.status, 0) << possible.err;
  }

  static std::string script() {
    const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
    if (source == nullptr) throw std::runtime_error("the environment variable ZEROSTEP_SOURCE_DIR must name the repository");
    return std::string(source) + "/tests/launch/support/two_hosts.sh";
  }

  // Rank 0 on h1, rank 1 on h2. The cable of h2 is cut when there is a file "cut".
  std::vector<std::string> on_two_hosts(const std::string& train, const std::string& mpirun = "", const std::string& rate = "",
                                        const std::string& before = "") const {
    std::vector<std::string> out{script()};
    if (!rate.empty()) out.push_back(rate);
    out.insert(out.end(),
               {"--", before + "(until [ -e " + place_.path("cut") + " ]; do sleep 0.05; done; $LINK h2 down) & $MPI " + mpirun +
                          " -np 2 -x OMP_NUM_THREADS=1 -x XDG_CACHE_HOME " + std::getenv("ZEROSTEP_BINARY") + " train " + train});
    return out;
  }

  // A run without an end that has done its first steps; then the cable of h2 is cut.
  pid_t run_until_cut(const std::string& set, const std::string& mpirun, std::map<int, pid_t>& ranks) const {
    const pid_t pid = place_.start(on_two_hosts(config_ + " --set run.steps=1000000 " + set, mpirun));
    EXPECT_TRUE(place_.wait_for_rows("test", 3, pid));
    ranks = ranks_below(pid);
    EXPECT_EQ(ranks.size(), 2u);
    place_.write("cut", "");
    return pid;
  }

  Workplace place_;
  std::string config_ = place_.config("\"zero_optimization\": {\"stage\": 3}");
};

TEST_F(Hosts, RanksTrainAndGoOnAsOnOneHostAtTenMegabits) {
  const std::vector<std::string> modes{"step.mode=fo", "step.mode=zo"};
  for (const std::string& mode : modes) {
    const std::string set = config_ + " --set " + mode + " --set run.checkpoint_interval=2";
    const Outcome one = place_.run({"train", config_, "--set", mode, "--set", "run.name=one"}, {.ranks = 2});
    ASSERT_EQ(one.status, 0) << one.err;
    for (const std::string part : {" --set run.steps=2", " --resume"}) {
      const Outcome two = place_.run_command(on_two_hosts(set + part, "", "10mbit"));
      ASSERT_EQ(two.status, 0) << two.err;
      EXPECT_SAYS(two.out, "2 (1 on this host)");
    }
    ASSERT_EQ(place_.metrics("test").size(), 4u);
    // Sums are made in rank order whatever carries them, and a resumed run is the run without a stop: the same bits.
    for (const char* column : {"loss", "elements_gathered", "elements_reduced"})
      EXPECT_EQ(place_.column("test", column), place_.column("one", column)) << mode;
    std::filesystem::remove_all(place_.path("runs"));
  }
}

TEST_F(Hosts, TheScriptForHostsStartsRanksOnAllOfThem) {
  const Outcome one = place_.run({"train", config_, "--set", "run.name=one"}, {.ranks = 2});
  ASSERT_EQ(one.status, 0) << one.err;
  place_.write("hosts", "h1 slots=4  # this one\n\nh2 slots=4\n");
  const std::string mpirun = "MPIRUN=\"mpirun --allow-run-as-root --oversubscribe --mca plm_rsh_agent $ON\"";
  const std::string program = "OMP_NUM_THREADS=1 ZEROSTEP=" + std::string(std::getenv("ZEROSTEP_BINARY"));
  const std::string started = std::getenv("ZEROSTEP_SOURCE_DIR") + std::string("/launch/hosts.sh ") + place_.path("hosts") +
                              " --ranks 1 --network 10.88.0.0/24 -- train " + config_;
  const Outcome two = place_.run_command({script(), "--", mpirun + " " + program + " " + started});
  ASSERT_EQ(two.status, 0) << two.err;
  EXPECT_SAYS(two.out, "2 (1 on this host) on cpu, 1 thread each");
  EXPECT_SAYS(two.out, "NCCL_SOCKET_IFNAME=eth0");
  EXPECT_EQ(place_.column("test", "loss"), place_.column("one", "loss"));
}

TEST_F(Hosts, BenchMeasuresTheLinkBetweenThem) {
  const Outcome done =
      place_.run_command({script(), "100mbit", "--",
                          "$MPI -np 2 -x OMP_NUM_THREADS=1 -x XDG_CACHE_HOME " + std::string(std::getenv("ZEROSTEP_BINARY")) +
                              " bench machine --seconds 1 --out " + place_.path("this.json")});
  ASSERT_EQ(done.status, 0) << done.err;
  const Machine machine = read_machine(place_.path("this.json"));
  EXPECT_EQ(machine.ranks_per_host, 1);
  EXPECT_FALSE(machine.gather_in_host.is_known());
  for (const Link& link : {machine.gather_across_hosts, machine.reduce_across_hosts}) {
    EXPECT_GT(link.bytes_per_second, 4e6);
    EXPECT_LT(link.bytes_per_second, 13e6) << "the cable carries 12.5e6";
    EXPECT_LT(link.latency_seconds, 0.1);
  }
}

TEST_F(Hosts, FilesThatDifferBetweenHostsAreRefused) {
  // A file system of its own lies over `folder` on h2.
  const auto refusal = [&](const std::string& set, const std::string& folder, const std::string& on_h2) {
    const std::string before = "$ON h2 mount -t tmpfs tmpfs " + place_.path(folder) + "; $ON h2 \"" + on_h2 + "\"; ";
    const Outcome done = place_.run_command(on_two_hosts(config_ + " --set " + set, kNoGraceOption, "", before));
    EXPECT_EQ(done.status, 2) << done.out << done.err;
    EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
    EXPECT_FALSE(place_.exists("runs/test"));
    return done.err;
  };
  for (const char* folder : {"texts", "runs"}) std::filesystem::create_directory(place_.path(folder));
  std::filesystem::copy(place_.path("corpus.txt"), place_.path("texts/corpus.txt"));
  // One line of several hundred is another.
  EXPECT_SAYS(refusal("data.train=" + place_.path("texts/corpus.txt"), "texts",
                      "sed '300s/text/test/' " + place_.path("corpus.txt") + " > " + place_.path("texts/corpus.txt")),
              "data.train has another content on rank 1 (host h2) than on rank 0 (host h1)");

  const Outcome saved =
      place_.run({"train", config_, "--set", "run.steps=1", "--set", "run.name=first", "--save-model", place_.path("model")});
  ASSERT_EQ(saved.status, 0) << saved.err;
  std::filesystem::copy(place_.path("model"), place_.path("copy"));
  // The last value of the last parameter is another.
  EXPECT_SAYS(refusal("model=null --set model.path=" + place_.path("model"), "model",
                      "cd " + place_.path("copy") + "; cp * " + place_.path("model") + "; head -c -4 model.safetensors > " +
                          place_.path("model/model.safetensors") + "; printf abcd >> " + place_.path("model/model.safetensors")),
              "model.path has another content on rank 1 (host h2)");

  const std::string error = refusal("run.checkpoint_interval=2", "runs", "true");
  EXPECT_SAYS(error, "run.output_dir: host h2 does not find " + place_.path("runs"));
  EXPECT_SAYS(error, "written on host h1");
}

TEST_F(Hosts, ARankKilledOnTheOtherHostEndsTheJob) {
  const pid_t pid = place_.start(on_two_hosts(config_ + " --set run.steps=1000000", kNoGraceOption));
  ASSERT_TRUE(place_.wait_for_rows("test", 3, pid)) << place_.finish(pid, 0).err;
  const std::map<int, pid_t> ranks = ranks_below(pid);
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(ranks.at(1), SIGKILL);
  const Outcome done = place_.finish(pid, 60);
  EXPECT_EQ(done.status, 137) << done.err;  // mpirun's, of the signal
  EXPECT_SAYS(done.err, "process rank 1");
  EXPECT_TRUE(all_end(ranks, 0));
}

TEST_F(Hosts, ACutCableEndsTheRanksOfBothHostsAfterTheTimeOut) {
  std::map<int, pid_t> ranks;
  const pid_t pid = run_until_cut("--set run.collective_timeout_seconds=2", "", ranks);
  // The time-out, the last words that nobody answers, and room for a slow machine.
  EXPECT_TRUE(all_end(ranks, 25));
  // mpirun waits for its daemon on h2 now.
  const Outcome done = place_.finish(pid, 0);
  EXPECT_SAYS(done.err, "rank 1 on h2 has not arrived at ");
  EXPECT_SAYS(done.err, "seen from rank 0 on h1");
}

TEST_F(Hosts, MpirunSeesACutCableByItsKeepAlive) {
  std::map<int, pid_t> ranks;
  const pid_t pid =
      run_until_cut("", "--mca oob_tcp_keepalive_time 2 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 2", ranks);
  const Outcome done = place_.finish(pid, 60);
  EXPECT_FALSE(done.timed_out);
  EXPECT_NE(done.status, 0);
  EXPECT_SAYS(done.err, "Remote daemon");
  EXPECT_SAYS(done.err, "node h2");
  EXPECT_TRUE(all_end(ranks, 0));
}

}  // namespace
}  // namespace zerostep::testing
