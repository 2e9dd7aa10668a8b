#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <regex>

#include "base/error.h"
#include "experiments/report/plot.h"
#include "tests/experiments/support/as_nobody.h"
#include "tests/experiments/support/made_runs.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using testing::cells;
using testing::counted_cells;
using testing::MadeRuns;
using testing::message_of;
using Texts = std::vector<std::string>;
using Values = std::vector<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr const char* kFailed = "ranks          1 on cpu\nzerostep: step 2: the loss is nan\n";

// Runs that failed or diverged, and columns that tell nothing: what of them is drawn, and what is said.
class PlotFlaws : public ::testing::Test {
 protected:
  void make(const std::string& name, const nlohmann::json& config, const Values& losses, const std::string& log = "3 steps done in 1 s\n",
            const MadeRuns::Columns& more = {}) const {
    MadeRuns::Columns columns{{"step", counted_cells(losses.size())}, {"loss", cells(losses)}};
    columns.insert(columns.end(), more.begin(), more.end());
    made_.make(name, columns, config, nullptr, log);
  }
  PlotResult draw(
      const std::string& view, const std::function<void(PlotRequest&)>& change = [](PlotRequest&) {}) const {
    PlotRequest request;
    request.places = {made_.path("runs")};
    request.views = {view};
    request.out = made_.path("out");
    change(request);
    return plot(request);
  }
  std::string svg(const std::string& view) const { return made_.read("out/" + view + ".svg"); }
  // The texts of a picture.
  Texts texts(const std::string& view) const {
    static const std::regex kText(">([^<]*)</text>");
    const std::string all = svg(view);
    Texts out;
    for (std::sregex_iterator it(all.begin(), all.end(), kText), end; it != end; ++it) out.push_back((*it)[1]);
    return out;
  }
  bool has_text(const std::string& view, const std::string& text) const {
    const Texts all = texts(view);
    return std::find(all.begin(), all.end(), text) != all.end();
  }
  // x of the data of a panel that have this name and column.
  Values values_in_row(const std::string& view, const std::string& panel, const std::string& run, const std::string& what) const {
    Values out;
    for (const Texts& row : testing::rows_of(made_.read("out/" + view + ".tsv")))
      if (row.size() > 3 && row[0] == panel && row[1] == run && row[2] == what) out.push_back(std::stod(row[3]));
    return out;
  }
  MadeRuns made_;
};

nlohmann::json config_of(double lr, int seed) {
  return {{"seed", seed}, {"step", {{"mode", "fo"}}}, {"optimizer", {{"params", {{"lr", lr}}}}}};
}

TEST_F(PlotFlaws, RunsThatFailedOrDivergedAreMarkedAndInNoMean) {
  make("a-1", config_of(0.1, 1), {4, 3, 2});
  make("a-2", config_of(0.1, 2), {4, 1}, kFailed);
  make("b-1", config_of(0.5, 1), {8, 7, 6});
  make("b-2", config_of(0.5, 2), {8, 1, kInfinity});
  make("c-1", config_of(0.75, 1), {9, 5}, kFailed);
  const PlotResult result = draw("compare");
  ASSERT_EQ(result.notes.size(), 1U);
  EXPECT_SAYS(result.notes[0], "so does the list of the best: a-2 (failed), b-2 (diverged), c-1 (failed)");
  const std::string final = "Final loss (mean of the last 5 %)", flawed = "final loss (failed, killed or diverged)";
  EXPECT_EQ(values_in_row("compare", final, "lr 0.1", "final loss"), (Values{2}));
  EXPECT_EQ(values_in_row("compare", final, "lr 0.1", flawed), (Values{1}));
  EXPECT_EQ(values_in_row("compare", final, "lr 0.5", "final loss"), (Values{6}));
  EXPECT_TRUE(values_in_row("compare", final, "lr 0.5", flawed).empty());
  EXPECT_EQ(values_in_row("compare", final, "lr 0.75", flawed), (Values{5}));
  EXPECT_TRUE(has_text("compare", "lr 0.1 (1 failed)"));
  EXPECT_TRUE(has_text("compare", "lr 0.5 (1 diverged)"));
  EXPECT_TRUE(has_text("compare", "lr 0.75 (failed)"));  // its row and its curve, of which there is no other
  EXPECT_TRUE(has_text("compare", "failed, killed or diverged"));
  EXPECT_SAYS(svg("compare"), "left out of the mean curves: a-2 (failed), b-2 (diverged)<");
  draw("loss");
  EXPECT_TRUE(has_text("loss", "a-1"));
  EXPECT_TRUE(has_text("loss", "a-2 (failed)"));
  EXPECT_TRUE(has_text("loss", "b-2 (diverged)"));
  // The tables.
  EXPECT_EQ(result.summary.rankings(5).at(0).best, (std::vector<size_t>{0, 2}));
  EXPECT_EQ(result.summary.common_loss, 6);
  const std::string text = made_.read("out/summary.txt"), page = made_.read("out/report.html");
  for (const char* shown : {"1 (failed)", "inf (diverged)", "5 (failed)"}) {
    EXPECT_SAYS(text, shown);
    EXPECT_SAYS(page, std::string(">") + shown + "</td>");
  }
  EXPECT_SAYS(text, "left out of means and of the best: a-2 (failed), b-2 (diverged), c-1 (failed)");
  EXPECT_SAYS(page, "<td data-v=\"\">inf (diverged)</td>");  // which sorts last
}

// Its last finite values hardly differ, as those of no other run.
TEST_F(PlotFlaws, WhatHasDivergedIsNeverTheMostStableNorTheBest) {
  Values steady(50, 3), wild(50);
  for (size_t i = 0; i < wild.size(); ++i) wild[i] = 4 + (i % 2 == 0 ? 0.5 : -0.5);
  make("wild", config_of(0.1, 1), wild);
  int number = 0;
  for (double last : {kInfinity, -kInfinity, 1.7e308, -1.7e308}) {
    steady.back() = last;
    MadeRuns::Columns evaluation{{"eval_loss", cells(Values(50, 1))}};
    ++number;
    make("steady-" + std::to_string(number), config_of(0.2 * number, 1), steady, "50 steps done in 1 s\n", evaluation);
  }
  const PlotResult result = draw("compare");
  EXPECT_EQ(result.summary.rankings(5).at(0).best, (std::vector<size_t>{4}));
  EXPECT_EQ(result.summary.common_loss, 4);  // the mean of any two rows of `wild`
  EXPECT_FALSE(result.summary.rankings(5).at(0).is_by_evaluation);
  for (const Texts& row : testing::rows_of(made_.read("out/compare.tsv"))) {
    EXPECT_TRUE(row[0] != "Stability" || row[1] == "lr 0.1") << row[1];
    EXPECT_TRUE(!row[0].starts_with("Final") || row[1] == "lr 0.1") << row[1];
  }
  EXPECT_TRUE(has_text("compare", "lr 0.2 (diverged)"));
  // A cell "nan" at the end says as much, an empty one nothing.
  made_.write("nan.csv", "step,loss\n0,1\n1,nan\n");
  made_.write("none.csv", "step,loss\n0,1\n1,\n");
  const PlotResult of_csv = draw("loss", [&](PlotRequest& r) { r.places = {made_.path("nan.csv"), made_.path("none.csv")}; });
  EXPECT_EQ(of_csv.summary.runs[0].flaw(), "diverged");
  EXPECT_EQ(of_csv.summary.runs[1].flaw(), "");
}

TEST_F(PlotFlaws, ATableWithoutALossIsLeftOutAndSaid) {
  make("a", config_of(0.1, 1), {4, 3, 2});
  made_.make("b", {{"step", counted_cells(2)}, {"x", cells({1, 2})}}, config_of(0.2, 1));
  make("c", config_of(0.3, 1), {4, 3, 1});
  const PlotResult result = draw("loss");
  ASSERT_EQ(result.notes.size(), 1U);
  EXPECT_SAYS(result.notes[0], "b is left out: " + made_.path("runs/b/metrics.csv") + ": has no column `loss` in its first line");
  ASSERT_EQ(result.summary.runs.size(), 2U);
  EXPECT_EQ(result.summary.runs[1].name, "c");
  EXPECT_EQ(result.summary.rankings(5).at(0).best, (std::vector<size_t>{1, 0}));
  EXPECT_SAYS(made_.read("out/report.html"), "<p>b is left out: ");
  // Where there is no other one it is an error.
  EXPECT_SAYS(message_of<InputError>([&] { draw("loss", [&](PlotRequest& r) { r.places = {made_.path("runs/b")}; }); }),
              "has no column `loss` in its first line");
}

// Its evaluations are not known, so that the others are ranked by theirs.
TEST_F(PlotFlaws, ARunWhoseMetricsMayNotBeReadHasARow) {
  namespace fs = std::filesystem;
  const MadeRuns::Columns evaluation{{"eval_loss", {"2", "", "1"}}};
  make("a", config_of(0.1, 1), {4, 3, 2}, "3 steps done in 1 s\n", evaluation);
  make("b", config_of(0.2, 1), {4, 3, 2}, kFailed, evaluation);
  make("c", config_of(0.3, 1), {4, 3, 2}, "3 steps done in 1 s\n", evaluation);
  for (const char* run : {"b", "c"}) fs::permissions(made_.path("runs/" + std::string(run) + "/metrics.csv"), fs::perms::none);
  made_.write("runs/a/plan.json", "[1]");
  fs::create_directories(made_.path("out"));
  fs::permissions(made_.path("out"), fs::perms::all);
  fs::permissions(made_.path(""), fs::perms(0755));
  const testing::AsNobody nobody;
  for (const char* x : {"step", "forwards", "loss"}) {
    const PlotResult result = draw("loss", [&](PlotRequest& r) { r.x = x; });
    ASSERT_EQ(result.notes.size(), 3U);
    EXPECT_SAYS(result.notes[0], "b has a row without curves: cannot read " + made_.path("runs/b/metrics.csv") + ": Permission denied");
    EXPECT_SAYS(result.notes[1], "c has a row without curves: cannot read ");
    ASSERT_EQ(result.summary.runs.size(), 3U);
    EXPECT_EQ(result.summary.runs[1].state_text(), "failed");
    EXPECT_EQ(result.summary.runs[2].unread, "cannot read metrics.csv: Permission denied");
    EXPECT_EQ(result.summary.rankings(5).at(0).best, (std::vector<size_t>{0}));
    EXPECT_TRUE(result.summary.rankings(5).at(0).is_by_evaluation);
  }
  const Texts lines{"not read: a: plan.json is damaged: a JSON object is expected\n",
                    "not read: c: cannot read metrics.csv: Permission denied\n"};
  for (const std::string& line : lines) EXPECT_SAYS(made_.read("out/summary.txt"), line);
  EXPECT_SAYS(made_.read("out/summary.csv"), ",error,unread\n");
  EXPECT_SAYS(made_.read("out/summary.csv"), ",step 2: the loss is nan,cannot read metrics.csv: Permission denied\n");
  EXPECT_SAYS(made_.read("out/report.html"), "<h2>Files that could not be read</h2>");
  EXPECT_SAYS(made_.read("out/report.html"), ">cannot read metrics.csv: Permission denied</td>");
}

// Every coordinate of every picture lies in it.
TEST_F(PlotFlaws, NumbersOfAnySizeStayInThePicture) {
  const std::vector<Values> losses{{1e-322, 3e-322, 2e-322},
                                   {-1.7e308, 1.7e308, 2},
                                   {1.7e308, 1.7e308, 1.7e308},
                                   {3, 2, kInfinity},
                                   {5e-324, 1.797e308, 1},
                                   {3, 2, 1},
                                   {0, 0, 0},
                                   {kInfinity, kInfinity, 1},
                                   {1e30, 1e36, 1e38}};
  static const std::regex kPoints(R"re( points="([^"]*)")re"), kDot(R"re(cx="([^"]*)" cy="([^"]*)")re"), kPair("([^ ,]+),([^ ,]+)"),
      kText(R"re(<text x="([^"]*)" y="([^"]*)")re");
  const auto expect_within = [&](const std::string& x, const std::string& y, const std::string& where) {
    EXPECT_TRUE(std::stod(x) >= 0 && std::stod(x) <= 960 && std::stod(y) >= 0 && std::stod(y) <= 600) << where << ": " << x << "," << y;
  };
  for (size_t only = 0; only <= losses.size(); ++only) {
    const std::string folder = "set" + std::to_string(only);
    for (size_t i = 0; i < losses.size(); ++i)
      if (only == i || only == losses.size())
        for (int seed : {1, 2}) {
          nlohmann::json config{{"seed", seed}, {"step", {{"mode", "zo"}, {"queries", static_cast<int>(i) + 1}}}};
          made_.make("../" + folder + "/" + std::to_string(i) + "-" + std::to_string(seed),
                     {{"step", counted_cells(3)}, {"loss", cells(losses[i])}, {"grad_norm", cells(losses[i])}}, config);
        }
    for (bool is_log : {false, true})
      for (const char* x : {"step", "grad_norm"}) {
        const PlotResult result = draw("", [&](PlotRequest& r) {
          r.places = {made_.path(folder)};
          r.views.clear();
          r.is_log = is_log;
          r.x = x;
        });
        for (const std::string& file : result.files) {
          if (!file.ends_with(".svg")) continue;
          const std::string where = folder + "/" + file + (is_log ? " --log" : "") + " --x " + x, all = made_.read("out/" + file);
          EXPECT_EQ(testing::wrong_with_xml(all), "") << where;
          for (std::sregex_iterator it(all.begin(), all.end(), kPoints), end; it != end; ++it) {
            const std::string points = (*it)[1];
            for (std::sregex_iterator p(points.begin(), points.end(), kPair); p != end; ++p) expect_within((*p)[1], (*p)[2], where);
          }
          for (const std::regex& pattern : {kDot, kText})
            for (std::sregex_iterator it(all.begin(), all.end(), pattern), end; it != end; ++it) expect_within((*it)[1], (*it)[2], where);
          for (const char* none : {"nan", "\"inf", ",inf", "-inf"}) EXPECT_EQ(all.find(none), std::string::npos) << where << ": " << none;
        }
      }
  }
}

TEST_F(PlotFlaws, ColumnsThatFallHaveNoMeanAndThatIsWhatIsSaid) {
  for (int seed : {1, 2})
    make("a-" + std::to_string(seed), config_of(0.1, seed), {4, 3, 2}, "3 steps done in 1 s\n",
         {{"lr", cells({0.1 * seed, 0.05, 0.01})}, {"time", cells({10.0 * seed, 10.0 * seed + 1, 10.0 * seed + 2})}});
  draw("compare", [](PlotRequest& r) { r.x = "lr"; });
  std::string all;
  for (const std::string& text : texts("compare")) all += text + " ";
  EXPECT_SAYS(all, "no mean where learning rate falls from one row to the next: all alike");
  EXPECT_EQ(all.find("share no part"), std::string::npos);
  // Those of another column rise, and lie apart.
  draw("compare", [](PlotRequest& r) { r.x = "time"; });
  EXPECT_SAYS(svg("compare"), "no mean where runs share no part of the axis: all alike");
}

TEST_F(PlotFlaws, ColumnsWithoutNumbersAreSaidAndTheOthersDrawn) {
  make("a", config_of(0.1, 1), {4, 3, 2}, "3 steps done in 1 s\n", {{"cosine", {"", "", ""}}, {"grad_norm", {"1", "2", "3"}}});
  const PlotResult result = draw("loss", [](PlotRequest& r) { r.y = {"cosine", "grad_norm"}; });
  EXPECT_EQ(result.notes, (Texts{"--y cosine: the column has no number in any row of these runs, and is left out"}));
  const std::string all = svg("loss");
  EXPECT_SAYS(all, "data-yname=\"norm of the gradient\"");
  EXPECT_EQ(all.find("class=\"panel\""), all.rfind("class=\"panel\""));  // one panel
  EXPECT_SAYS(message_of<InputError>([&] { draw("loss", [](PlotRequest& r) { r.y = {"cosine"}; }); }),
              "--y cosine: the column has no number in any row of these runs");
}

// What a small picture has no room to name is named in a line and, with its color, in the data.
TEST_F(PlotFlaws, CurvesWithoutANameAreNamedElsewhere) {
  Texts names;
  for (int i = 10; i < 34; ++i) {
    names.push_back("model.preset=gpt2-20M,optimizer.params.lr=0.0" + std::to_string(i) + ",train_batch_size=1024");
    make(names.back(), config_of(0.001 * i, 1), {4, 3, 2.0 + i});
  }
  const PlotResult result = draw("loss", [](PlotRequest& r) { r.size = {400, 300}; });
  ASSERT_EQ(result.notes.size(), 1U);
  static const std::regex kNote(R"(loss: the picture has no room for (\d+) of 24 names: (.*) and (\d+) more\. loss\.tsv has all names)");
  std::smatch found;
  ASSERT_TRUE(std::regex_search(result.notes[0], found, kNote)) << result.notes[0];
  const size_t unnamed = std::stoul(found[1]);
  EXPECT_EQ(std::stoul(found[3]), unnamed - 5);
  EXPECT_TRUE(found[2].str().starts_with(names[24 - unnamed])) << result.notes[0];
  EXPECT_TRUE(has_text("loss", "and " + std::to_string(unnamed) + " more"));
  const std::string picture = svg("loss");
  for (const Texts& row : testing::rows_of(made_.read("out/loss.tsv"))) {
    if (row[0] == "panel") continue;
    ASSERT_EQ(row.size(), 8U);
    EXPECT_SAYS(picture, "stroke=\"" + row[7] + "\" stroke-width=\"1.5\" stroke-linejoin=\"round\" data-name=\"" + row[1] + "\"");
  }
}

// Every group that has a color is named, one alone too, and colors stand for nothing else.
TEST_F(PlotFlaws, GroupsOfAKeyAreNamedInEveryPicture) {
  for (int queries : {2, 8})
    for (double lr : {0.1, 0.5})
      make("q" + std::to_string(queries) + "-" + cells({lr})[0],
           {{"step", {{"mode", "zo"}, {"queries", queries}}}, {"optimizer", {{"params", {{"lr", lr}}}}}}, {4, 3, queries + lr});
  for (const char* view : {"zo", "overview", "loss", "compare"}) {
    draw(view, [](PlotRequest& r) { r.by = "lr"; });
    for (const char* name : {"lr 0.1", "lr 0.5"}) EXPECT_TRUE(has_text(view, name)) << view << ", " << name;
    draw(view, [](PlotRequest& r) { r.by = "mode"; });
    EXPECT_TRUE(has_text(view, "zo")) << view;
  }
  // Final losses against queries have a line and the color of each group.
  draw("zo", [](PlotRequest& r) { r.by = "lr"; });
  Values ends;
  for (const Texts& row : testing::rows_of(made_.read("out/zo.tsv")))
    if (row[1] == "mean of lr 0.5") ends.push_back(std::stod(row[4]));
  EXPECT_EQ(ends, (Values{2.5, 8.5}));
  // Final losses by the key have a panel of their own.
  draw("overview", [](PlotRequest& r) { r.by = "lr"; });
  EXPECT_EQ(values_in_row("overview", "Final loss by lr", "0.5", "final loss"), (Values{2.5, 8.5}));
}

}  // namespace
}  // namespace zerostep
