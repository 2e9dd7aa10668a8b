#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/launch/support/runs_place.h"

// What `probe` recommends.
namespace zerostep::testing {
namespace {

using Json = nlohmann::json;

class Probe : public RunsPlace {};

TEST_F(Probe, EpsilonsAreAUAndRatesHaveABest) {
  const Outcome said =
      place_.run({"probe", place_.config("\"step\": {\"mode\": \"zo\", \"queries\": 2}"), "--json", "--directions", "3", "--steps", "4"},
                 {.timeout_seconds = 120});
  ASSERT_EQ(said.status, 0) << said.err;
  const Json probe = Json::parse(said.out);
  const Json &epsilons = probe.at("epsilon").at("table"), &rates = probe.at("lr").at("table");
  ASSERT_EQ(epsilons.size(), 11U);
  double best = INFINITY, of_recommended = INFINITY;
  for (const Json& row : epsilons) {
    best = std::min(best, row.at("error").get<double>());
    if (row.at("epsilon") == probe.at("epsilon").at("recommended")) of_recommended = row.at("error");
  }
  // Recommended is what lies within twice the best, and the ends do not: rounding makes the one, curvature the other.
  EXPECT_LE(of_recommended, 2 * best);
  EXPECT_GT(epsilons.front().at("error").get<double>(), 2 * best);
  EXPECT_GT(epsilons.back().at("error").get<double>(), 2 * best);
  // The law of a right estimator in fp32: within 2e-3 of ||g|| at the best epsilon; ||z|| aside <g, z> has about that size.
  EXPECT_LT(best, 2e-3);
  // Where curvature alone is left the error of a central difference grows with the square of epsilon. Rounding, which falls as 1 / epsilon
  // from what it is at 1e-6, adds its share at the smaller one: at most three times the root of its mean square.
  const auto error_at = [&](double epsilon) {
    for (const Json& row : epsilons)
      if (row.at("epsilon") == epsilon) return row.at("error").get<double>();
    return std::nan("");
  };
  const double small = 3e-4, large = 1e-3, squares = std::pow(large / small, 2), rounding = error_at(1e-6) * 1e-6 / small;
  EXPECT_LT(3 * rounding, error_at(small)) << "curvature alone is not left";
  EXPECT_NEAR(error_at(large) / error_at(small), squares, squares * 3 * rounding / error_at(small));
  // The loss of the start is that over the two batches after four steps, as a run has them that learns nothing: sums of 64 tokens, whose
  // fp32 roundings of 2^-24 add up in another order.
  ASSERT_EQ(train("still", {"run.steps=6", "optimizer.params.lr=0"}).status, 0);
  const std::vector<double> still = place_.column("still", "loss"), norms = place_.column("still", "grad_norm");
  const double start = probe.at("lr").at("start_loss");
  EXPECT_NEAR(start, (still.at(4) + still.at(5)) / 2, start * 64 * std::pow(2, -24));
  // Adam moves no weight by more than 1.02 of the rate in one of its first four steps, by Cauchy and Schwarz for means with its weights; so
  // at the lowest rate the loss moves by at most that far along the gradient of those batches, whose curvature does not count yet.
  const Json model = Json::parse(place_.run({"inspect", "model", place_.path("config.json")}).out);
  const double moved = 4 * 1.02 * rates.front().at("lr").get<double>() * std::sqrt(model.at("elements").get<double>());
  EXPECT_NEAR(rates.front().at("loss").get<double>(), start, moved * std::max(norms.at(4), norms.at(5)));
  EXPECT_FALSE(place_.exists("runs/test"));
}

TEST_F(Probe, SaysItsRulesAndTwiceTheStepsMoveTheRateLittle) {
  std::vector<double> rates;
  for (const char* steps : {"8", "16"}) {
    const Outcome said = place_.run({"probe", place_.config(), "--directions", "1", "--steps", steps}, {.timeout_seconds = 120});
    ASSERT_EQ(said.status, 0) << said.err;
    EXPECT_SAYS(said.out, "the middle of those around the lowest error whose error is at most twice that.");
    EXPECT_SAYS(said.out, "half a decade below ");
    EXPECT_SAYS(said.out, std::string("what descends fastest within ") + steps + " steps is close to what diverges in many.");
    const std::string before = "recommended learning rate: ";
    rates.push_back(std::stod(said.out.substr(said.out.find(before) + before.size())));
  }
  // Half a decade is a factor of 3 or 3.33 here.
  EXPECT_LE(std::abs(std::log10(rates[0] / rates[1])), std::log10(3.34)) << rates[0] << ", " << rates[1];
}

// Backprop steps and the others have a rate each: alone, a step of backprop is that of first order.
TEST_F(Probe, TriesTheRateOfBackpropStepsToo) {
  const std::string config = place_.config(R"("gradient_clipping": 1, "step": {"mode": "alternating", "bp_lr": 1e-3})");
  const auto probed = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"probe", config, "--directions", "1", "--steps", "1", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome said = place_.run(arguments);
    EXPECT_EQ(said.status, 0) << said.err;
    return Json::parse(said.out);
  };
  const Json mixed = probed({}), first = probed({"--set", "step.mode=fo"});
  EXPECT_EQ(mixed.at("mode"), "alternating");
  EXPECT_EQ(mixed.at("steps"), 1);
  EXPECT_EQ(mixed.at("bp_lr"), first.at("lr"));
  EXPECT_FALSE(first.contains("bp_lr"));
  // The only step is one of backprop.
  for (const Json& row : mixed.at("lr").at("table")) EXPECT_EQ(row.at("loss"), mixed.at("lr").at("start_loss"));
  EXPECT_TRUE(mixed.at("lr").at("recommended").is_null());
  // One rate for both where the file gives one.
  EXPECT_FALSE(probed({"--set", "step.bp_lr=null"}).contains("bp_lr"));
  const std::string text = place_.run({"probe", config, "--directions", "1", "--steps", "1"}).out;
  EXPECT_SAYS(text, "Learning rate of backprop steps (that of forward-only steps is 0): loss after 1 step of alternating");
  EXPECT_SAYS(text, "(step.bp_lr; now 0.001)");
}

TEST_F(Probe, GoesOnWhereStepsDiverge) {
  const std::string groups = R"({"type": "SGD", "params": {"lr": 1e-3}, "groups": [{"patterns": ["*"], "lr_factor": 1e10}]})";
  const Outcome said = place_.run({"probe", place_.config(), "--set", "optimizer=" + groups, "--set", "gradient_clipping=0", "--directions",
                                   "1", "--steps", "3", "--json"});
  ASSERT_EQ(said.status, 0) << said.err;
  const Json lr = Json::parse(said.out).at("lr");
  EXPECT_TRUE(lr.at("recommended").is_null());
  ASSERT_EQ(lr.at("table").size(), 2U);  // two in a row are enough
  for (const Json& row : lr.at("table")) EXPECT_TRUE(row.at("loss").is_null());
}

TEST_F(Probe, IsForOneRankAndADifferentiableObjective) {
  const Outcome two = place_.run({"probe", place_.config()}, {.ranks = 2});
  EXPECT_EQ(two.status, 2);
  EXPECT_SAYS(two.err, "is for one rank");
  const Outcome accuracy = place_.run({"probe", place_.config("\"step\": {\"mode\": \"zo\", \"objective\": \"accuracy\"}")});
  EXPECT_EQ(accuracy.status, 2);
  EXPECT_SAYS(accuracy.err, "accuracy");
}

}  // namespace
}  // namespace zerostep::testing
