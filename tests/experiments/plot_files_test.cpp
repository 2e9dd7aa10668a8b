#include <gtest/gtest.h>

#include <cmath>
#include <regex>
#include <set>
#include <tuple>

#include "base/error.h"
#include "experiments/report/plot.h"
#include "tests/experiments/support/plotted_runs.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using testing::cells;
using testing::counted_cells;
using testing::MadeRuns;
using testing::message_of;
using testing::rows_of;
using testing::wrong_with_xml;

class PlotFiles : public testing::PlottedRuns {};

TEST_F(PlotFiles, DataAreTheValuesOfTheRuns) {
  make_four();
  draw_all({"loss", "zo", "alternating"});
  for (const auto& [name, losses] : losses_) {
    EXPECT_EQ(data("loss", name, "loss"), expected(losses));
    EXPECT_EQ(data("loss", name, "eval_loss"), expected(evaluations_[name]));
    EXPECT_EQ(data("zo", name, "grad_norm"), name == "amber" ? expected({}) : expected(norms_[name]));
  }
  // Step 0 of each pair is backprop.
  std::vector<double> backprop = losses_["dogwood"], queries = backprop;
  for (size_t i = 0; i < backprop.size(); ++i) (i % 2 == 0 ? queries : backprop)[i] = std::nan("");
  EXPECT_EQ(data("alternating", "dogwood", "loss (backprop)"), expected(backprop));
  EXPECT_EQ(data("alternating", "dogwood", "loss (queries)"), expected(queries));
  EXPECT_TRUE(data("alternating", "amber", "loss (backprop)").empty());
}

TEST_F(PlotFiles, EveryViewIsAWholePictureWithItsData) {
  make_four();
  const PlotResult result = draw_all({});
  const std::set<std::string> files(result.files.begin(), result.files.end());
  for (const char* view : {"loss", "overview", "zo", "compare", "alternating", "memory"}) {
    EXPECT_TRUE(files.contains(std::string(view) + ".svg") && files.contains(std::string(view) + ".tsv")) << view;
    const std::string svg = made_.read("out/" + std::string(view) + ".svg");
    EXPECT_EQ(wrong_with_xml(svg), "") << view;
    EXPECT_EQ(svg.find("nan"), std::string::npos) << view;
    EXPECT_EQ(svg.find("inf"), std::string::npos) << view;
  }
  // Curves have their names at their ends, in their colors.
  for (const auto& [view, name] : {std::pair("compare", "zo, queries 8"), {"overview", "alternating"}, {"zo", "queries 8"}})
    EXPECT_TRUE(std::regex_search(made_.read("out/" + std::string(view) + ".svg"),
                                  std::regex("fill=\"#(?!222222)[0-9a-f]{6}\">" + std::string(name) + "</text>")))
        << view;
  EXPECT_FALSE(files.contains("lanes.svg"));
  for (const std::string& file : files) EXPECT_TRUE(made_.exists("out/" + file)) << file;
  // The share of the plan that was measured.
  EXPECT_SAYS(made_.read("out/report.html"), "95.4 %");
}

TEST_F(PlotFiles, ComparesMeansOverSeeds) {
  for (int seed : {1, 2, 3}) {
    make("fo-" + std::to_string(seed), {{"mode", "fo"}}, 1.5, seed);
    make("zo-" + std::to_string(seed), {{"mode", "zo"}, {"queries", 2}}, 3.5, seed * seed);
  }
  draw_all({"compare"});
  for (const std::string mode : {"fo", "zo"}) {
    size_t rows = 0;
    for (const std::vector<std::string>& row : rows_of(made_.read("out/compare.tsv"))) {
      if (row[2] != "loss (mean)" || row[1].find(mode) == std::string::npos || row[5].empty()) continue;
      const size_t k = rows++;
      const double a = losses_[mode + "-1"][k], b = losses_[mode + "-2"][k], c = losses_[mode + "-3"][k];
      EXPECT_EQ(std::stod(row[3]), static_cast<double>(k));
      EXPECT_EQ(std::stod(row[4]), (a + b + c) / 3);
      EXPECT_EQ(std::stod(row[5]), a);
      EXPECT_EQ(std::stod(row[6]), c);
    }
    EXPECT_EQ(rows, 200U) << mode;
  }
}

// A run that ends early ends the mean, one that failed does not; the picture says how many runs each mean is of.
TEST_F(PlotFiles, MeansSayOfHowManyRunsTheyAre) {
  // Steps of an eighth of a second and its multiples: all of these numbers, and lines between them, have no rounding.
  const auto make_seconds = [&](const std::string& name, int seed, size_t steps, const std::string& log) {
    std::vector<double> losses, seconds;
    for (size_t k = 0; k < steps; ++k) {
      seconds.push_back(0.125 * seed);
      losses.push_back(seed + 2.0 * static_cast<double>(k + 1) * 0.125 * seed);  // seed + 2 x the time
    }
    made_.make(name, {{"step", counted_cells(steps)}, {"loss", cells(losses)}, {"step_seconds", cells(seconds)}},
               {{"seed", seed}, {"step", {{"mode", name[0] == 'f' ? "fo" : "zo"}}}}, nullptr, log);
  };
  for (int seed : {1, 2, 4}) make_seconds("fo-" + std::to_string(seed), seed, 40, "40 steps done in 1 s\n");
  make_seconds("fo-3", 3, 2, "ranks          1 on cpu\nzerostep: step 2: the loss is nan\n");
  for (int seed : {1, 2}) make_seconds("zo-" + std::to_string(seed), seed, 30, "30 steps done in 1 s\n");
  PlotRequest request;
  request.places = {made_.path("runs")};
  request.views = {"compare"};
  request.x = "seconds";
  request.out = made_.path("out");
  plot(request);
  // Of fo from 0.5 s, where the last of three begins, to 5 s, where the first ends: the sum of their seeds is 7. Of zo 3, of two.
  for (const auto& [group, seeds, runs, first, last] :
       {std::tuple{std::string("fo"), 7.0, 3, 0.5, 5.0}, std::tuple{std::string("zo"), 3.0, 2, 0.25, 3.75}}) {
    const auto points = data("compare", group, "loss (mean)");
    ASSERT_GT(points.size(), 20U);
    EXPECT_EQ(points.front().first, first);
    EXPECT_EQ(points.back().first, last);
    for (const auto& [x, y] : points) EXPECT_EQ(y, (seeds + 2 * x * runs) / runs);
  }
  const std::string svg = made_.read("out/compare.svg");
  EXPECT_SAYS(svg, "fo (3 runs)");
  EXPECT_SAYS(svg, "zo (2 runs)");
  EXPECT_SAYS(svg, "means as far as all of them go");
  EXPECT_SAYS(svg, "left out of the mean curves: fo-3 (failed)");
}

TEST_F(PlotFiles, RunsThatMoveNoBytesAreLeftOutAndSaid) {
  const auto make_bytes = [&](const std::string& name, const char* gathered) {
    made_.make(name, {{"step", counted_cells(3)},
                      {"loss", cells({3, 2, 1})},
                      {"elements_gathered", std::vector<std::string>(3, gathered)},
                      {"elements_reduced", std::vector<std::string>(3, "0")}});
  };
  make_bytes("alone", "0");
  PlotRequest request;
  request.places = {made_.path("runs")};
  request.views = {"loss"};
  request.x = "bytes";
  request.out = made_.path("out");
  EXPECT_SAYS(message_of<InputError>([&] { plot(request); }), "--x bytes: these runs have moved none between ranks");
  EXPECT_FALSE(made_.exists("out"));
  make_bytes("pair", "10");
  const PlotResult result = plot(request);
  ASSERT_EQ(result.notes.size(), 1U);
  EXPECT_SAYS(result.notes[0], "the curves of alone are left out: nothing moved between ranks");
  EXPECT_TRUE(data("loss", "alone", "loss").empty());
  EXPECT_EQ(data("loss", "pair", "loss"), (std::vector<std::pair<double, double>>{{40, 3}, {80, 2}, {120, 1}}));
}

TEST_F(PlotFiles, SummariesSayWhatRunsCameTo) {
  make_four();
  make("elm", {{"mode", "fo"}}, 9, 7, "ranks          1 on cpu\nzerostep: step 3: the loss is nan\n");
  const PlotResult result = draw_all({"loss"});
  const nlohmann::json json = nlohmann::json::parse(summary_json(result.summary).dump());
  ASSERT_EQ(json["runs"].size(), 5U);
  for (const nlohmann::json& run : json["runs"]) {
    const std::vector<double>& losses = losses_[run["name"]];
    double sum = 0;  // from behind, so that it is rounded alike
    for (size_t i = 200; i-- > 190;) sum += losses[i];
    EXPECT_EQ(run["final_loss"], sum / 10);
    EXPECT_EQ(run["steps"], 200);
    EXPECT_EQ(run["best_eval_loss"], evaluations_[run["name"]][199]);
    EXPECT_EQ(run["seconds"], 25);
    EXPECT_EQ(run["tokens_per_second"], 1280);
    EXPECT_EQ(run["device_peak_bytes"], 1000000);
    EXPECT_EQ(run["planned_device_peak_bytes"], 1048576);
    EXPECT_EQ(run["state"], run["name"] == "elm" ? "failed" : "done");
  }
  EXPECT_EQ(json["runs"][2]["keys"]["step.queries"], "8");
  EXPECT_EQ(json["runs"][4]["error"], "step 3: the loss is nan");
  EXPECT_EQ(json["runs"][0]["forwards"], 600);
  EXPECT_EQ(json["runs"][2]["forwards"], 3200);
  // The worst of those that did not fail is birch, whose mean of 10 steps falls to its end.
  // Of sums below 60 that are kept up to date 200 times each rounding is below 2^-48.
  EXPECT_NEAR(json["common_loss"].get<double>(), json["runs"][1]["final_loss"].get<double>(), 200 * 0x1p-48);
  EXPECT_EQ(json["runs"][1]["steps_to_common_loss"], 200);
  // amber comes there where the mean of the last ten is below it.
  size_t step = 0;
  for (double mean = 9; mean > json["common_loss"]; ++step) {
    mean = 0;
    for (size_t i = step; i < step + 10; ++i) mean += losses_["amber"][i] / 10;
  }
  EXPECT_EQ(json["runs"][0]["steps_to_common_loss"], step + 9);
  EXPECT_EQ(json["runs"][4]["steps_to_common_loss"], nullptr);
  EXPECT_EQ(result.summary.rankings(2).at(0).best, (std::vector<size_t>{0, 2}));
  const std::string csv = made_.read("out/summary.csv");
  EXPECT_TRUE(csv.starts_with("run,seed,step.mode,step.queries,state,steps,final_loss,")) << csv;
  EXPECT_SAYS(csv, "cedar,1,zo,8,done,200,2.21");
  EXPECT_SAYS(made_.read("out/summary.txt"), "failed: elm: step 3: the loss is nan");
}

TEST_F(PlotFiles, CutRowsAreSaidAndFilesOfEarlierWorkAreDrawn) {
  const std::string old =
      made_.write("old.csv",
                  "timestamp,epoch,step,mode,q,lr,bs,loss,grad_norm,acc\n2025-11-06 12:00:00,1,1,FO,N/A,0.001,2,5.5,1.5,0.5\n"
                  "2025-11-06 12:00:02,1,2,FO,N/A,0.001,2,5.25,1.5,0.5\n2025-11-06 12:00:04,1,3,FO,N/A,0.001,2,5.1");
  const PlotResult result = draw_all({"loss"}, {"old.csv"});
  ASSERT_EQ(result.notes.size(), 1U);
  EXPECT_SAYS(result.notes[0], old + ": line 4");
  EXPECT_EQ(data("loss", "old", "loss"), (std::vector<std::pair<double, double>>{{1, 5.5}, {2, 5.25}}));
  EXPECT_SAYS(made_.read("out/report.html"), "line 4, the last, is cut");
}

TEST_F(PlotFiles, LanesAreOfOneStepOfATrace) {
  make("traced", {{"mode", "fo"}}, 2, 1);
  made_.write("runs/traced/trace_rank0.json", R"({"traceEvents":[
    {"name":"forward h.0","ph":"X","pid":0,"tid":"computation","ts":0,"dur":50000},
    {"name":"agree on loss and gradient","ph":"X","pid":0,"tid":"computation","ts":60000,"dur":10000},
    {"name":"update h.0","ph":"X","pid":0,"tid":"computation","ts":70000,"dur":5000},
    {"name":"forward h.0","ph":"X","pid":0,"tid":"computation","ts":80000,"dur":10000},
    {"name":"reduce h.0","ph":"X","pid":0,"tid":"communication","ts":85000,"dur":12000},
    {"name":"agree on loss and gradient","ph":"X","pid":0,"tid":"computation","ts":98000,"dur":2000},
    {"name":"forward h.0","ph":"X","pid":0,"tid":"computation","ts":300000,"dur":10000}]})");
  draw_all({"lanes"});
  std::vector<std::vector<std::string>> rows = rows_of(made_.read("out/lanes.tsv"));
  ASSERT_EQ(rows.size(), 5U);
  // Milliseconds from the end of the first agreement to the end of the second.
  const std::vector<std::pair<std::string, std::pair<double, double>>> wanted{
      {"update h.0", {0, 5}}, {"forward h.0", {10, 20}}, {"reduce h.0", {15, 27}}, {"agree on loss and gradient", {28, 30}}};
  // Seconds below 1/8 are rounded ten times at most, the milliseconds below 32 once.
  constexpr double kRounding = 1e3 * 10 * 0x1p-57 + 0x1p-49;
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(rows[i + 1][2], wanted[i].first);
    EXPECT_NEAR(std::stod(rows[i + 1][3]), wanted[i].second.first, kRounding);
    EXPECT_NEAR(std::stod(rows[i + 1][4]), wanted[i].second.second, kRounding);
    EXPECT_EQ(rows[i + 1][5], i == 2 ? "communication" : "computation");
  }
}

TEST_F(PlotFiles, WithoutCairoPicturesAreSvg) {
  // Beside the program of these tests there is no library that draws by cairo.
  make("one", {{"mode", "fo"}}, 2, 1);
  PlotRequest request;
  request.places = {made_.path("runs")};
  request.views = {"loss"};
  request.formats = {"png"};
  request.out = made_.path("out");
  const std::string text = message_of<RunError>([&] { plot(request); });
  EXPECT_SAYS(text, "--format png needs libzerostep_cairo.so");
  EXPECT_SAYS(text, "libcairo2");
  EXPECT_SAYS(text, "written as SVG to " + made_.path("out"));
  for (const char* file : {"loss.svg", "loss.tsv", "report.html", "summary.csv", "summary.txt"})
    EXPECT_TRUE(made_.exists("out/" + std::string(file)));
}

TEST_F(PlotFiles, AReportAloneNeedsNoSteps) {
  made_.make("begun", {{"step", {}}, {"loss", {}}});
  PlotRequest request;
  request.places = {made_.path("runs")};
  request.out = made_.path("out");
  request.formats.clear();
  EXPECT_EQ(plot(request).files, (std::vector<std::string>{"summary.csv", "summary.txt", "report.html"}));
  EXPECT_SAYS(made_.read("out/report.html"), "begun");
}

// Of a classifier; where no run is one there is no such column for people.
TEST_F(PlotFiles, SummariesHoldTheBestAccuracy) {
  made_.write("runs/classifier/metrics.csv", "step,loss,eval_accuracy\n0,2,0.25\n1,1,0.75\n2,1.5,0.5\n");
  PlotRequest request;
  request.places = {made_.path("runs")};
  request.out = made_.path("out");
  request.formats.clear();
  const PlotResult result = plot(request);
  EXPECT_EQ(result.summary.runs.at(0).best_eval_accuracy, 0.75);
  EXPECT_SAYS(made_.read("out/summary.txt"), "accuracy");
  EXPECT_SAYS(made_.read("out/summary.txt"), "0.7500");
  EXPECT_SAYS(made_.read("out/summary.csv"), "best_eval_accuracy");
  EXPECT_SAYS(made_.read("out/report.html"), "best accuracy");
  made_.write("runs/classifier/metrics.csv", "step,loss\n0,2\n1,1\n");
  plot(request);
  EXPECT_EQ(made_.read("out/summary.txt").find("accuracy"), std::string::npos);
  EXPECT_EQ(made_.read("out/report.html").find("best accuracy"), std::string::npos);
}

TEST_F(PlotFiles, ErrorsSayWhatIsThere) {
  make_four();
  const auto error = [&](const std::function<void(PlotRequest&)>& change) {
    PlotRequest request;
    request.places = {made_.path("runs")};
    request.out = made_.path("out");
    change(request);
    return message_of<InputError>([&] { plot(request); });
  };
  EXPECT_SAYS(error([](PlotRequest& r) { r.views = {"los"}; }),
              "--view los: there is no such view; did you mean loss? Views are loss, accuracy, overview, zo");
  EXPECT_SAYS(error([](PlotRequest& r) { r.views = {"foo"}; }),
              "--view foo: there is no such view. Views are loss, accuracy, overview, zo");
  EXPECT_SAYS(error([](PlotRequest& r) { r.y = {"xyz"}; }), "--y xyz: no such column. There are step, mode");
  EXPECT_SAYS(error([](PlotRequest& r) { r.y = {"grad_nrom"}; }),
              "--y grad_nrom: no such column; did you mean grad_norm? There are step, mode");
  EXPECT_SAYS(error([](PlotRequest& r) { r.x = "token"; }), "--x token: no such column; did you mean tokens?");
  EXPECT_SAYS(error([](PlotRequest& r) { r.by = "querys"; }),
              "--by querys: no run has such a key in its configuration; did you mean step.queries?");
  EXPECT_SAYS(error([](PlotRequest& r) { r.formats = {"gif"}; }), "--format gif: expected svg, png or pdf");
  EXPECT_SAYS(error([](PlotRequest& r) { r.views = {"lanes"}; }), "needs a trace_rank*.json, which run.trace true leaves");
  EXPECT_SAYS(error([](PlotRequest& r) { r.x = "bytes"; }), "has no values in a column elements_gathered, which --x bytes needs");
  EXPECT_FALSE(made_.exists("out"));
  made_.write("runs/empty/metrics.csv", "step,loss\n");
  EXPECT_SAYS(error([&](PlotRequest& r) { r.places = {made_.path("runs/empty")}; }), "have no step with a number to draw yet");
}

}  // namespace
}  // namespace zerostep
