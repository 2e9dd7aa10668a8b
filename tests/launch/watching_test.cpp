#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "runtime/report/folder_lock.h"
#include "tests/launch/support/runs_place.h"
#include "tests/support/terminal.h"

namespace zerostep::testing {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class Watching : public RunsPlace {
 protected:
  // A run that goes on until it is stopped, once it has some rows.
  pid_t start(const std::string& name, int ranks = 1) const {
    const pid_t pid =
        place_.start(place_.command({"train", place_.config(), "--set", "run.name=" + name, "--set", "run.steps=1000000"}, ranks));
    EXPECT_TRUE(place_.wait_for_rows(name, 5, pid));
    return pid;
  }
  void stop(pid_t pid, int signal = SIGKILL) const {
    ::kill(pid, signal);
    place_.finish(pid);
  }
  // What a command prints, beside a program of this place that writes to its own stdout.
  static Outcome beside(const std::vector<std::string>& arguments) {
    static const Workplace other;
    return other.run(arguments);
  }
  std::set<std::string> checkpoints(const std::string& run) const {
    std::set<std::string> out;
    for (const fs::directory_entry& entry : fs::directory_iterator(place_.path("runs/" + run + "/checkpoints")))
      out.insert(entry.path().filename().string());
    return out;
  }
};

TEST_F(Watching, OnceTellsTheLastRowOfAFinishedRun) {
  ASSERT_EQ(train("first").status, 0);
  const Outcome said = place_.run({"watch", place_.path("runs/first"), "--once", "--json"});
  ASSERT_EQ(said.status, 0) << said.err;
  const Json run = Json::parse(said.out);
  const auto last = place_.metrics("first").back();
  EXPECT_EQ(run.at("run"), "first");
  EXPECT_EQ(run.at("state"), "done");
  EXPECT_EQ(run.at("step"), 3);
  EXPECT_EQ(run.at("steps"), 4);
  EXPECT_EQ(run.at("loss").get<double>(), std::stod(last.at("loss")));
  EXPECT_EQ(run.at("device_peak_bytes"), std::stoll(last.at("device_peak_bytes")));
  EXPECT_EQ(run.at("planned_bytes"), Json::parse(place_.read("runs/first/plan.json")).at("device_peak_bytes"));
  EXPECT_TRUE(run.at("load").is_null());
  // Without --once it ends by itself: nothing runs.
  const Outcome lines = place_.run({"watch", place_.path("runs")});
  EXPECT_EQ(lines.status, 0);
  EXPECT_SAYS(lines.out, "first | done        | step 4/4 | last loss ");
  EXPECT_EQ(count(lines.out, "\n"), 1U);
}

TEST_F(Watching, ARunningRunHasALoadAndNobodyTouchesIt) {
  const pid_t pid = start("going");
  const Outcome said = beside({"watch", place_.path("runs/going"), "--once", "--json"});
  const Outcome listed = beside({"runs", "list", place_.path("runs")});
  const Outcome pruned = beside({"runs", "prune", place_.path("runs")});
  const Outcome packed = beside({"runs", "archive", place_.path("runs"), "--out", place_.path("out")});
  stop(pid);
  ASSERT_EQ(said.status, 0) << said.err;
  const Json run = Json::parse(said.out);
  EXPECT_EQ(run.at("state"), "running");
  EXPECT_EQ(run.at("load").at("processes"), 1);
  // It computes all the time, on as many cores as there are; each of the two looks, 0.3 s apart, rounds user and system time down to
  // hundredths of a second.
  EXPECT_GT(run.at("load").at("cores").get<double>(), 0);
  EXPECT_LE(run.at("load").at("cores").get<double>(), std::thread::hardware_concurrency() + 0.02 / 0.3);
  EXPECT_DOUBLE_EQ(run.at("seconds_left").get<double>(), run.at("step_seconds").get<double>() * (1000000 - run.at("step").get<int>() - 1));
  EXPECT_SAYS(listed.out, "running");
  EXPECT_SAYS(pruned.out, "going is running: left alone");
  EXPECT_SAYS(packed.out, "going is running: left alone");
  EXPECT_FALSE(place_.exists("out/going.tar"));
}

// This process owns the folder of a run that has had no row for months.
TEST_F(Watching, OnANarrowTerminalASilentRunIsMarked) {
  fs::create_directories(place_.path("runs/silent"));
  place_.write("runs/silent/metrics.csv",
               "timestamp,step,loss,eval_loss,tokens_per_second,step_seconds,device_peak_bytes\n"
               "2026-01-01T00:00:00.000Z,0,5.5,4.5,1000,1,123456789\n2026-01-01T00:00:01.000Z,1,5.25,4.25,1000,1,123456789\n");
  const FolderLock owner(place_.path("runs/silent"), "run.name");
  Terminal terminal(90);
  const pid_t pid =
      place_.start({"sh", "-c", "exec \"$0\" watch \"$1\" > " + terminal.name(), std::getenv("ZEROSTEP_BINARY"), place_.path("runs")});
  terminal.read_until("NO ROW for");
  ::kill(pid, SIGINT);
  EXPECT_EQ(place_.finish(pid).status, 128 + SIGINT);
  terminal.read_all();
  const std::vector<std::string> shown = terminal.shown();
  ASSERT_FALSE(shown.empty());
  EXPECT_TRUE(shown[0].starts_with("silent | running     | NO ROW for ")) << shown[0];
  EXPECT_TRUE(shown[0].ends_with(" | step 2 | last loss 5.2500")) << shown[0];
}

TEST_F(Watching, TheLoadOfARunUnderMpirunIsThatOfItsRanks) {
  const pid_t pid = start("pair", 2);
  const Outcome said = beside({"watch", place_.path("runs/pair"), "--once", "--json"});
  const Outcome line = beside({"watch", place_.path("runs/pair"), "--once"});
  stop(pid, SIGUSR1);  // mpirun kills its ranks only a second after any other signal
  ASSERT_EQ(said.status, 0) << said.err;
  const Json run = Json::parse(said.out);
  EXPECT_EQ(run.at("load").at("processes"), 2);
  // Of both, where a row has the memory of the larger alone.
  EXPECT_GT(run.at("load").at("resident_bytes").get<int64_t>(), run.at("resident_bytes").get<int64_t>());
  EXPECT_SAYS(line.out, "in 2 ranks");
}

TEST_F(Watching, RowsHaveTheResidentMemoryOfTheirMoment) {
  ASSERT_EQ(train("first").status, 0);
  const std::vector<double> resident = place_.column("first", "resident_bytes");
  ASSERT_EQ(resident.size(), 4U);
  // What its tensors take is resident, and no process that has ended here has had more (in KiB) at any time.
  const std::vector<double> planned = place_.column("first", "device_peak_bytes");
  rusage highest{};
  ASSERT_EQ(::getrusage(RUSAGE_CHILDREN, &highest), 0);
  for (size_t i = 0; i < resident.size(); ++i) {
    EXPECT_GT(resident[i], planned.at(i));
    EXPECT_LE(resident[i], static_cast<double>(highest.ru_maxrss) * 1024);
  }
  if (std::system("test -e /dev/nvidiactl") != 0) {
    EXPECT_TRUE(place_.column("first", "gpu_bytes").empty());
  }
}

TEST_F(Watching, ListHasStatesStepsAndSizes) {
  ASSERT_EQ(train("first").status, 0);
  const pid_t pid = start("second");
  stop(pid, SIGINT);
  const Outcome said = place_.run({"runs", "list", place_.path("runs"), "--json"});
  ASSERT_EQ(said.status, 0) << said.err;
  const Json runs = Json::parse(said.out);
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[0].at("state"), "done");
  EXPECT_EQ(runs[1].at("state"), "interrupted");
  int64_t bytes = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(place_.path("runs/first")))
    if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
  EXPECT_EQ(runs[0].at("bytes"), bytes);
  EXPECT_EQ(runs[0].at("checkpoint_bytes"), 0);
  EXPECT_EQ(runs[0].at("loss").get<double>(), place_.column("first", "loss").back());
  const std::string text = place_.run({"runs", "list", place_.path("runs")}).out;
  EXPECT_SAYS(text, "last loss  final loss  best evaluation  size");
  EXPECT_EQ(text.find("accuracy"), text.npos);
  EXPECT_EQ(place_.run({"runs", "list", place_.path("nowhere")}).status, 2);
  // Of several places each run once.
  EXPECT_EQ(Json::parse(place_.run({"runs", "list", place_.path("runs"), place_.path("runs/first"), "--json"}).out).size(), runs.size());
}

TEST_F(Watching, AClassifiersAccuracyIsShown) {
  std::string examples;
  for (int i = 0; i < 24; ++i) examples += (i % 3 == 0 ? "very good\t1\n" : "so bad\t0\n");
  place_.write("examples.tsv", examples);
  ASSERT_EQ(train("first", {"model={\"family\": \"bert\", \"num_hidden_layers\": 1, \"hidden_size\": 16, \"intermediate_size\": 16, "
                            "\"num_attention_heads\": 1, \"max_position_embeddings\": 16}",
                            "data.train=" + place_.path("examples.tsv"), "data.eval=" + place_.path("examples.tsv"), "run.eval_interval=1"})
                .status,
            0);
  const std::vector<double> accuracies = place_.column("first", "eval_accuracy");
  ASSERT_EQ(accuracies.size(), 4U);
  const Json run = Json::parse(place_.run({"watch", place_.path("runs/first"), "--once", "--json"}).out);
  EXPECT_EQ(run.at("eval_accuracy").get<double>(), accuracies.back());
  EXPECT_EQ(run.at("best_eval_accuracy").get<double>(), *std::max_element(accuracies.begin(), accuracies.end()));
  EXPECT_SAYS(place_.run({"watch", place_.path("runs/first"), "--once"}).out, fmt::format(", accuracy {:.4f} | ", accuracies.back()));
  EXPECT_SAYS(place_.run({"runs", "list", place_.path("runs")}).out, "best evaluation  last accuracy  best accuracy  size");
}

TEST_F(Watching, PruneKeepsLatestAndTheRunGoesOn) {
  ASSERT_EQ(train("first", {"run.steps=8", "run.checkpoint_interval=2", "run.keep_checkpoints=9"}).status, 0);
  const std::set<std::string> before = checkpoints("first");
  EXPECT_EQ(before, (std::set<std::string>{"latest", "step_00000002", "step_00000004", "step_00000006", "step_00000008"}));
  const Outcome dry = place_.run({"runs", "prune", place_.path("runs"), "--dry-run"});
  EXPECT_EQ(dry.status, 0) << dry.err;
  EXPECT_EQ(checkpoints("first"), before);
  EXPECT_SAYS(dry.out, "first step_00000006 would go");
  EXPECT_SAYS(dry.out, "first keeps step_00000008 (latest)");
  EXPECT_SAYS(dry.out, "3 checkpoints, ");
  const Outcome unnamed = place_.run({"runs", "prune"});
  EXPECT_EQ(unnamed.status, 2);
  EXPECT_SAYS(unnamed.err, "FOLDER is required");
  EXPECT_EQ(place_.run({"runs", "prune", place_.path("runs"), "--keep", "2"}).status, 0);
  EXPECT_EQ(checkpoints("first"), (std::set<std::string>{"latest", "step_00000006", "step_00000008"}));
  EXPECT_EQ(place_.run({"runs", "prune", place_.path("runs")}).status, 0);
  EXPECT_EQ(checkpoints("first"), (std::set<std::string>{"latest", "step_00000008"}));
  EXPECT_FALSE(place_.exists("runs/first/owner.lock"));
  EXPECT_EQ(place_.metrics("first").size(), 8U);
  EXPECT_EQ(place_.run({"train", place_.config(), "--set", "run.name=first", "--set", "run.steps=9", "--resume"}).status, 0);
  EXPECT_EQ(place_.metrics("first").size(), 9U);
}

TEST_F(Watching, AnArchiveHoldsTheRunAndRemovesItOnlyWhereAsked) {
  ASSERT_EQ(train("first").status, 0);
  const std::string metrics = place_.read("runs/first/metrics.csv");
  EXPECT_SAYS(place_.run({"runs", "archive", place_.path("runs"), "--dry-run"}).out, "1 run, ");
  EXPECT_FALSE(place_.exists("runs/first.tar"));
  const Outcome packed = place_.run({"runs", "archive", place_.path("runs/first")});
  ASSERT_EQ(packed.status, 0) << packed.err;
  EXPECT_SAYS(packed.out, "read back and compared");
  EXPECT_TRUE(place_.exists("runs/first/metrics.csv"));
  const Outcome again = place_.run({"runs", "archive", place_.path("runs/first")});
  EXPECT_EQ(again.status, 2);
  EXPECT_SAYS(again.err, "is there already");
  EXPECT_EQ(place_.run({"runs", "archive", place_.path("runs/first"), "--out", place_.path("out"), "--remove"}).status, 0);
  EXPECT_FALSE(place_.exists("runs/first"));
  EXPECT_EQ(place_.run_command({"tar", "-xOf", place_.path("out/first.tar"), "first/metrics.csv"}).out, metrics);
  EXPECT_EQ(place_.run({"runs", "archive", place_.path("runs"), "--remove", "--without-checkpoints"}).status, 2);
}

TEST_F(Watching, HousekeepingFollowsNoLink) {
  const auto make = [&](const std::string& run) {
    for (const char* checkpoint : {"step_00000001", "step_00000002"})
      fs::create_directories(place_.path(run + "/checkpoints/" + checkpoint));
    place_.write(run + "/metrics.csv", "step,loss\n0,1\n");
    place_.write(run + "/checkpoints/step_00000001/manifest.json", "1");
    place_.write(run + "/checkpoints/step_00000002/manifest.json", "2");
  };
  make("others/a");
  make("runs/b");
  make("runs/c");
  fs::rename(place_.path("runs/b/checkpoints"), place_.path("others/of_b"));
  fs::create_directory_symlink(place_.path("others/of_b"), place_.path("runs/b/checkpoints"));
  fs::create_directory_symlink(place_.path("others/a"), place_.path("runs/a"));
  const std::string alone =
      "a is left alone: " + place_.path("runs/a") + " is a link to " + place_.path("others/a") + ", which is not followed\n";
  const Outcome pruned = place_.run({"runs", "prune", place_.path("runs")});
  EXPECT_EQ(pruned.status, 0) << pruned.err;
  EXPECT_SAYS(pruned.out, alone);
  EXPECT_SAYS(pruned.out, "b is left alone: " + place_.path("runs/b/checkpoints") + " is a link to " + place_.path("others/of_b"));
  EXPECT_SAYS(pruned.out, "c step_00000001 is gone");
  const Outcome packed = place_.run({"runs", "archive", place_.path("runs"), "--remove"});
  EXPECT_EQ(packed.status, 0) << packed.err;
  EXPECT_SAYS(packed.out, alone);
  EXPECT_SAYS(packed.out, "; 1 link is packed as a link, and what it names is not: checkpoints (to " + place_.path("others/of_b") +
                              "); read back and compared; its folder is gone");
  EXPECT_SAYS(packed.out, "2 runs, ");
  EXPECT_SAYS(packed.out, "; 1 run left alone");
  for (const char* gone : {"runs/b", "runs/c"}) EXPECT_FALSE(place_.exists(gone));
  for (const char* kept : {"others/a/metrics.csv", "others/a/checkpoints/step_00000001/manifest.json",
                           "others/of_b/step_00000001/manifest.json", "runs/a/metrics.csv"})
    EXPECT_TRUE(place_.exists(kept)) << kept;
  EXPECT_EQ(place_.run({"runs", "archive", place_.path("runs/a"), "--remove"}).out.substr(0, alone.size()), alone);
  EXPECT_TRUE(place_.exists("others/a/metrics.csv"));
}

TEST_F(Watching, OneDamagedRunHidesNoOther) {
  for (const char* run : {"runs/a", "runs/b"}) {
    fs::create_directories(place_.path(run));
    place_.write(std::string(run) + "/metrics.csv", "step,loss\n0,1\n");
    place_.write(std::string(run) + "/log.txt", "1 step done in 1 s\n");
  }
  fs::remove(place_.path("runs/a/log.txt"));
  fs::create_directories(place_.path("runs/a/log.txt"));
  place_.write("runs/a/config.json", "{");
  const std::string said = "config.json is damaged: a JSON object is expected";
  for (const std::vector<std::string>& command : {std::vector<std::string>{"watch", "--once"}, {"runs", "list"}}) {
    std::vector<std::string> arguments = command;
    arguments.push_back(place_.path("runs"));
    const Outcome told = place_.run(arguments);
    EXPECT_EQ(told.status, 0) << told.err;
    EXPECT_SAYS(told.out, "unknown");
    EXPECT_SAYS(told.out, said);
    EXPECT_SAYS(told.out, "done");
    arguments.emplace_back("--json");
    EXPECT_SAYS(place_.run(arguments).out, said);
  }
}

TEST_F(Watching, PresetsHaveTheParametersOfTheirModels) {
  const Outcome said = place_.run({"inspect", "presets", "--json"});
  ASSERT_EQ(said.status, 0) << said.err;
  const Json presets = Json::parse(said.out);
  ASSERT_EQ(presets.size(), 5U);
  for (const Json& p : presets) {
    // GPT-2: two embeddings; a block has four weight matrices of 12 w^2 in all, biases of 9 w and two norms of 2 w each; a last norm.
    const int64_t w = p.at("n_embd"), layers = p.at("n_layer"), positions = p.at("n_positions"), vocabulary = 50257;
    EXPECT_EQ(p.at("parameters"), (vocabulary + positions) * w + layers * (12 * w * w + 13 * w) + 2 * w) << p;
    const Outcome known = place_.run({"config", place_.config(), "--set", "model={\"preset\": " + p.at("preset").dump() + "}"});
    EXPECT_EQ(known.status, 0) << known.err;
  }
  EXPECT_SAYS(place_.run({"inspect", "presets"}).out, "gpt2-200M          12      768       12         1024       124,439,808");
}

std::string verdict(const Json& said, const std::string& subject) {
  for (const Json& check : said.at("checks"))
    if (check.at("subject") == subject) return check.at("verdict");
  return "not there";
}

TEST_F(Watching, TheDoctorChecksAFile) {
  const Outcome said = place_.run({"doctor", place_.config(), "--json"});
  const Json checks = Json::parse(said.out);
  for (const char* subject : {"MPI", "LibTorch", "file", "tokenizer", "data", "model", "plan", "forward", "disk of the run"})
    EXPECT_EQ(verdict(checks, subject), "ok") << subject << "\n" << said.out;
  EXPECT_EQ(said.status, 0) << said.out;
  EXPECT_TRUE(checks.at("ok").get<bool>());
  EXPECT_FALSE(place_.exists("runs/test")) << "it leaves no run";
}

TEST_F(Watching, TheDoctorNamesTheFirstErrorOfAFileAndWhatItDidNotReach) {
  const Outcome missing = place_.run({"doctor", place_.config(), "--json", "--set", "data.train=/nowhere/at_all.txt"});
  EXPECT_EQ(missing.status, 1);
  const Json checks = Json::parse(missing.out);
  EXPECT_EQ(verdict(checks, "tokenizer"), "ok");
  EXPECT_EQ(verdict(checks, "data"), "error");
  EXPECT_EQ(verdict(checks, "forward"), "not there");
  EXPECT_SAYS(missing.out, "/nowhere/at_all.txt");
  EXPECT_SAYS(missing.out, "model, plan, forward, run folder");
  const Outcome mistyped = place_.run({"doctor", place_.config(), "--set", "run.stpes=3"});
  EXPECT_EQ(mistyped.status, 1);
  EXPECT_SAYS(mistyped.out, "error    file");
  const Outcome large = place_.run({"doctor", place_.config(), "--set", "run.device_memory=100000"});
  EXPECT_EQ(large.status, 1);
  EXPECT_SAYS(large.out, "error    plan");
}

TEST_F(Watching, TheDoctorTakesTheRanksOfAJob) {
  const Outcome said = place_.run({"doctor", "--json"}, {.ranks = 2});
  ASSERT_EQ(said.status, 0) << said.out << said.err;
  EXPECT_SAYS(said.out, "the 2 ranks of this job add up to 3, by mpi");
  const Outcome one = place_.run_command({"mpirun", "--allow-run-as-root", "-np", "1", program(), "doctor"});
  EXPECT_EQ(one.status, 0) << one.out << one.err;
  EXPECT_SAYS(one.out, "warning  MPI             this is a job of one rank");
}

}  // namespace
}  // namespace zerostep::testing
