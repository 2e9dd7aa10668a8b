#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <regex>
#include <sstream>

#include "experiments/report/plot.h"
#include "tests/experiments/support/made_runs.h"

namespace zerostep {
namespace {

using testing::cells;
using testing::counted_cells;
using testing::MadeRuns;
using Values = std::vector<double>;

class PlotLogAxes : public ::testing::Test {
 protected:
  void make(const std::string& name, const std::string& mode, int seed, const Values& losses, const Values& cosines) const {
    made_.make(name, {{"step", counted_cells(losses.size())}, {"loss", cells(losses)}, {"cosine", cells(cosines)}},
               {{"seed", seed}, {"step", {{"mode", mode}, {"queries", 4}}}});
  }
  // Which scale the values of each panel have, from the first on.
  std::vector<std::string> scales_of_y(const std::string& view, bool is_log, const std::vector<std::string>& columns = {}) const {
    PlotRequest request;
    request.places = {made_.path("runs")};
    request.views = {view};
    request.y = columns;
    request.is_log = is_log;
    request.out = made_.path("out");
    plot(request);
    return all_of(made_.read("out/" + view + ".svg"), R"re( data-y="[^,"]*,[^,"]*,(\w+),)re");
  }
  static std::vector<std::string> all_of(const std::string& text, const std::string& pattern) {
    const std::regex found(pattern);
    std::vector<std::string> out;
    for (std::sregex_iterator it(text.begin(), text.end(), found), end; it != end; ++it) out.push_back((*it)[1]);
    return out;
  }
  MadeRuns made_;
};

using Texts = std::vector<std::string>;

TEST_F(PlotLogAxes, AreThoseOfFinalLossesToo) {
  make("fo", "fo", 1, {5, 4, 3}, {0.5, 0.5, 0.5});
  make("zo", "zo", 1, {5, 5, 4}, {0.5, 0.5, 0.5});
  const auto final_axes = [&](bool is_log) {
    scales_of_y("overview", is_log);
    return all_of(made_.read("out/overview.svg"), R"re( data-x="[^,"]*,[^,"]*,(\w+),)re");
  };
  EXPECT_EQ(scales_of_y("overview", false)[0], "linear");
  EXPECT_EQ(scales_of_y("overview", true)[0], "log");
  EXPECT_EQ(final_axes(false), (Texts{"linear", "linear"}));  // of steps; of final losses by mode
  EXPECT_EQ(final_axes(true), (Texts{"linear", "log"}));
}

// Cosines that are all positive and far apart as others would be that get a logarithmic axis by themselves.
TEST_F(PlotLogAxes, AreNeverThoseOfCosines) {
  make("zo", "zo", 1, {5, 4, 3}, {0.001, 0.01, 0.9});
  for (const bool is_log : {false, true}) {
    const char* const of_loss = is_log ? "log" : "linear";
    EXPECT_EQ(scales_of_y("zo", is_log), (Texts{of_loss, of_loss, "linear"}));  // loss, final loss, cosine
    EXPECT_EQ(scales_of_y("loss", is_log, {"loss", "cosine"}), (Texts{of_loss, "linear"}));
    EXPECT_EQ(scales_of_y("zo", is_log, {"cosine"}), (Texts{"linear", "linear"}));  // and final ones
  }
  make("zo-2", "zo", 2, {5, 4, 3}, {0.001, 0.01, 0.9});
  for (const bool is_log : {false, true}) EXPECT_EQ(scales_of_y("compare", is_log, {"cosine"})[0], "linear");
  EXPECT_EQ(scales_of_y("compare", true)[0], "log");
}

// The mean of two runs is positive and falls by more than 200, while one of the runs falls below 0: without being asked for, the axis is
// not logarithmic; where it is asked for, the band goes down to the axis' end.
TEST_F(PlotLogAxes, BandsThatReachZeroHaveNoneByThemselvesAndEndWhereItEnds) {
  const Values one{1000, 10, 3}, other{1000, 20, -1};
  make("a-1", "fo", 1, one, one);
  make("a-2", "fo", 2, other, other);
  EXPECT_EQ(scales_of_y("compare", false)[0], "linear");
  EXPECT_EQ(scales_of_y("compare", true)[0], "log");
  const std::string svg = made_.read("out/compare.svg");
  const auto numbers = [&](const std::string& pattern) {
    std::string text = all_of(svg, pattern).at(0);
    std::replace(text.begin(), text.end(), ',', ' ');
    std::istringstream in(text);
    Values out;
    for (double value = 0; in >> value;) out.push_back(value);
    return out;
  };
  const Values box = numbers(R"re(data-box="([^"]*)")re"), y = numbers(R"re(data-y="([^,]*,[^,]*),log)re");
  const Values band = numbers(R"re(<polygon[^>]* points="([^"]*)")re");
  ASSERT_EQ(band.size(), 12U);  // three points of high, then three of low from behind
  const auto height = [&](double value) { return box[1] + box[3] * (1 - std::log(value / y[0]) / std::log(y[1] / y[0])); };
  const Values wanted{1000, 20, 3, y[0], 10, 1000};
  // Coordinates have two decimals, those of the box too.
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(band[2 * i + 1], height(wanted[i]), 0.0051 + 0.0051) << i;
}

}  // namespace
}  // namespace zerostep
