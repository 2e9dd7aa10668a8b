#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

// `zerostep plot` of runs that `train` has left.
class PlotCommand : public ::testing::Test {
 protected:
  Outcome train(const std::string& name, const std::vector<std::string>& settings = {}) const {
    std::vector<std::string> arguments{"train", config_, "--set", "run.steps=4", "--set", "run.name=" + name};
    for (const std::string& setting : settings) {
      arguments.emplace_back("--set");
      arguments.push_back(setting);
    }
    return place_.run(arguments);
  }
  Outcome plot(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "plot");
    return place_.run(arguments);
  }
  Workplace place_;
  std::string config_ = place_.config();
};

TEST_F(PlotCommand, DrawsRunsAndReportsOnThem) {
  ASSERT_EQ(train("one").status, 0);
  ASSERT_EQ(train("two", {R"(step={"mode": "zo", "queries": 2})"}).status, 0);
  const std::string runs = place_.path("runs");
  const Outcome done = plot({runs, "--format", "svg,png,pdf", "--size", "480x320"});
  ASSERT_EQ(done.status, 0) << done.err;
  for (const char* file :
       {"loss.svg", "loss.png", "loss.pdf", "loss.tsv", "zo.svg", "compare.pdf", "report.html", "summary.csv", "summary.txt"}) {
    EXPECT_SAYS(done.out, runs + "/plots/" + file);
    EXPECT_TRUE(place_.exists("runs/plots/" + std::string(file))) << file;
  }
  EXPECT_SAYS(place_.read("runs/plots/report.html"), "plot " + runs + " --format svg,png,pdf --size 480x320</code>");
  const std::string png = place_.read("runs/plots/loss.png"), pdf = place_.read("runs/plots/loss.pdf");
  EXPECT_TRUE(png.starts_with("\x89PNG\r\n\x1a\n") && png.ends_with(std::string("IEND\xae\x42\x60\x82")));
  EXPECT_EQ(png.substr(16, 8), std::string("\0\0\x01\xe0\0\0\x01\x40", 8));  // 480 x 320
  EXPECT_TRUE(pdf.starts_with("%PDF-"));
  EXPECT_NE(pdf.rfind("%%EOF"), std::string::npos);
  EXPECT_GT(pdf.rfind("%%EOF"), pdf.size() - 10);
  // Values in the data are those of the runs.
  const std::string data = place_.read("runs/plots/loss.tsv");
  for (const std::string run : {"one", "two"})
    for (const auto& row : place_.metrics(run)) EXPECT_SAYS(data, "\t" + run + "\tloss\t" + row.at("step") + "\t" + row.at("loss") + "\t");
  // A second call finds the runs alone, not what the first has written.
  const Outcome json = plot({runs, "--summary", "--json", "--out", place_.path("out")});
  ASSERT_EQ(json.status, 0) << json.err;
  const nlohmann::json table = nlohmann::json::parse(json.out);
  ASSERT_EQ(table["runs"].size(), 2U);
  EXPECT_EQ(table["runs"][0]["name"], "one");
  EXPECT_EQ(table["runs"][0]["state"], "done");
  EXPECT_EQ(table["runs"][1]["keys"]["step.queries"], "2");
}

TEST_F(PlotCommand, RefusesWhatItCannotDrawAndSaysWhy) {
  ASSERT_EQ(train("one").status, 0);
  const std::string run = place_.path("runs/one");
  std::filesystem::create_directories(place_.path("empty"));
  place_.write("other.csv", "a,b\n1,2\n");
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{place_.path("empty")}, "empty holds no run: a folder with a metrics.csv"},
      {{place_.path("nowhere")}, "nowhere cannot be found"},
      {{place_.path("other.csv")}, "has no column `loss`"},
      {{run, "--view", "los"}, "did you mean loss?"},
      {{run, "--y", "gradnorm"}, "did you mean grad_norm?"},
      {{run, "--by", "sead"}, "--by sead: no run has such a key in its configuration; did you mean seed?"},
      {{run, "--view", "zo"}, "nothing to show there; it needs steps that make queries"},
      {{run, "--size", "12"}, "expected WIDTHxHEIGHT"},
      {{run, "--size", "390x600"}, "from 400x300, below which texts have no room"},
      {{run, "--size", "600x200"}, "from 400x300, below which texts have no room"},
      {{run, "--x", "bytes"}, "these runs have moved none between ranks"},
      {{run, "--smooth", "1"}, "--smooth"},
      {{}, "RUN"}};
  for (const auto& [arguments, text] : cases) {
    const Outcome refused = plot(arguments);
    EXPECT_EQ(refused.status, 2) << text;
    EXPECT_SAYS(refused.err, text);
  }
  EXPECT_FALSE(place_.exists("runs/one/plots"));
}

// A column without numbers, names without room and a run that failed are warnings, a line each; the pictures are drawn.
TEST_F(PlotCommand, WarnsOfWhatItLeavesOut) {
  ASSERT_EQ(train("one").status, 0);
  ASSERT_EQ(train("two", {"seed=2"}).status, 0);
  std::ofstream(place_.path("runs/two/log.txt")) << "ranks          1 on cpu\nzerostep: step 4: the disk is full\n";
  const Outcome done = plot({place_.path("runs"), "--y", "cosine,loss", "--summary"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.err, "warning: --y cosine: the column has no number in any row of these runs, and is left out\n");
  EXPECT_SAYS(done.err, "and so does the list of the best: two (failed)\n");
  EXPECT_SAYS(done.out, " (failed)");
  EXPECT_SAYS(done.out, "left out of means and of the best: two (failed)\nfailed: two: step 4: the disk is full\n");
  EXPECT_SAYS(place_.read("runs/plots/loss.svg"), ">two (failed)</text>");
}

TEST_F(PlotCommand, ARunDrawsItsLossWhereItIsAskedTo) {
  ASSERT_EQ(train("without").status, 0);
  EXPECT_FALSE(place_.exists("runs/without/loss.svg"));
  const Outcome done = train("with", {"run.plot=true"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "log.txt, loss.svg");
  EXPECT_SAYS(place_.read("runs/with/loss.svg"), "<polyline");
  // Of a run that is begun anew without it the former picture goes.
  const Outcome again = train("with", {"run.overwrite=true"});
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_FALSE(place_.exists("runs/with/loss.svg"));
}

TEST_F(PlotCommand, AStoppedRunDrawsItsLossToo) {
  const pid_t pid =
      place_.start(place_.command({"train", config_, "--set", "run.steps=100000", "--set", "run.name=long", "--set", "run.plot=true"}, 1));
  ASSERT_TRUE(place_.wait_for_rows("long", 3, pid)) << place_.finish(pid, 0).err;
  kill(pid, SIGINT);
  EXPECT_EQ(place_.finish(pid).status, 130);
  EXPECT_SAYS(place_.read("runs/long/loss.svg"), "<polyline");
}

}  // namespace
}  // namespace zerostep::testing
