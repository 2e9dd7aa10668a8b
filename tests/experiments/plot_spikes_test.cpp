#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "experiments/report/plot.h"
#include "tests/experiments/support/made_runs.h"

namespace zerostep {
namespace {

using testing::cells;
using testing::counted_cells;
using testing::MadeRuns;
using Row = std::vector<std::string>;  // panel, run, what, x, y, low, high

class PlotSpikes : public ::testing::Test {
 protected:
  // The rows of a view's data that are of a column.
  std::vector<Row> data(const std::string& view, const std::string& what) const {
    PlotRequest request;
    request.places = {made_.path("runs")};
    request.views = {view};
    request.out = made_.path("out");
    plot(request);
    std::vector<Row> out = testing::rows_of(made_.read("out/" + view + ".tsv"));
    std::erase_if(out, [&](const Row& row) { return row.size() < 7 || row[2] != what; });
    return out;
  }
  MadeRuns made_;
};

TEST_F(PlotSpikes, ALongRunKeepsItsSpikesInFewLines) {
  std::vector<double> losses(100000, 2.5);
  for (size_t i = 0; i < losses.size(); ++i) losses[i] += 0.01 * std::sin(static_cast<double>(i));
  losses[31337] = 9;
  losses[31338] = 0.25;
  losses[99999] = 8;
  made_.make("long", {{"step", counted_cells(losses.size())}, {"loss", cells(losses)}});
  std::vector<std::pair<double, double>> points;
  for (const Row& row : data("loss", "loss")) points.emplace_back(std::stod(row[3]), std::stod(row[4]));
  EXPECT_GT(points.size(), 1000U);
  EXPECT_LT(points.size(), 4000U);
  for (const auto& point : {std::pair{0.0, losses[0]}, std::pair{31337.0, 9.0}, std::pair{31338.0, 0.25}, std::pair{99999.0, 8.0}})
    EXPECT_NE(std::find(points.begin(), points.end(), point), points.end()) << point.first;
}

// Two runs that part at one step, as far above their mean as below it: the mean tells nothing of it, the band does.
TEST_F(PlotSpikes, AMeanKeepsTheSpikesOfItsBand) {
  std::vector<double> one(30000);
  for (size_t i = 0; i < one.size(); ++i) one[i] = 2.5 + 0.125 * std::sin(static_cast<double>(i));
  std::vector<double> other = one;
  one[12345] = 9;
  other[12345] = -4;
  made_.make("a", {{"step", counted_cells(one.size())}, {"loss", cells(one)}}, {{"seed", 1}});
  made_.make("b", {{"step", counted_cells(one.size())}, {"loss", cells(other)}}, {{"seed", 2}});
  size_t rows = 0, spikes = 0;
  for (const Row& row : data("compare", "loss (mean)")) {
    ++rows;
    if (row[3] != "12345") continue;
    ++spikes;
    EXPECT_EQ(row[4], "2.5");
    EXPECT_EQ(row[5], "-4");
    EXPECT_EQ(row[6], "9");
  }
  EXPECT_EQ(spikes, 1U);
  EXPECT_LT(rows, 6000U);
}

}  // namespace
}  // namespace zerostep
