#include "runtime/timing/measured_parts.h"

#include <gtest/gtest.h>

#include <map>

#include "base/nth.h"

// Parts that take what the test says on a clock of its own.
namespace zerostep {
namespace {

using Names = std::vector<std::string>;

// What a look at the disturbance takes, before the first part and after each: the tolerance of times is as many as there were.
constexpr double kLookSeconds = 0.01;

class ScriptedParts {
 public:
  // Of a part: seconds that it takes of those it is given, and how far its times lie apart each time; the last of them from then on.
  void add(const std::string& what, double share, double slowness, std::vector<double> spreads) {
    all_.parts.push_back({what, share, [=, this](double seconds) {
                            const int call = calls_[what]++;
                            given_[what].push_back(seconds);
                            now_ += slowness * seconds;
                            figures_[what] = call;
                            return nth(spreads, std::min<int64_t>(call, std::ssize(spreads) - 1));
                          }});
  }
  Names measure(double seconds) {
    all_.seconds = seconds;
    all_.elapsed = [this] { return now_; };
    all_.disturbance = [this] {
      now_ += kLookSeconds;
      return disturbance_ ? disturbance_(now_) : 0.0;
    };
    all_.keep = [this] { kept_ = figures_; };
    all_.restore = [this] { figures_ = kept_; };
    all_.begins = [this](const std::string& what, double left) { begun_.emplace_back(what, now_, left); };
    return measure_parts(all_);
  }

  std::function<double(double)> disturbance_;  // of the time
  std::map<std::string, int> calls_, figures_, kept_;
  std::map<std::string, std::vector<double>> given_;
  std::vector<std::tuple<std::string, double, double>> begun_;  // what, when, and the seconds that are left
  double now_ = 0;

 private:
  MeasuredParts all_;
};

TEST(MeasuredParts, OnASteadyMachineEachIsMeasuredOnceInItsShare) {
  ScriptedParts run;
  run.add("a", 0.5, 0.8, {0.1});
  run.add("b", 0.25, 0.8, {0.24});
  EXPECT_EQ(run.measure(20), Names{});
  EXPECT_EQ(run.calls_, (std::map<std::string, int>{{"a", 1}, {"b", 1}}));
  EXPECT_DOUBLE_EQ(run.given_["a"][0], 10);
  EXPECT_DOUBLE_EQ(run.given_["b"][0], 5);
  // What is left: first all of the shares, then at the speed of what is done.
  ASSERT_EQ(run.begun_.size(), 2u);
  EXPECT_DOUBLE_EQ(std::get<2>(run.begun_[0]), 15);
  EXPECT_NEAR(std::get<2>(run.begun_[1]), 4, 2 * kLookSeconds);
}

TEST(MeasuredParts, MoreSharesThanTheTimeHasAreMadeToFit) {
  ScriptedParts run;
  for (const char* what : {"a", "b", "c"}) run.add(what, 0.5, 1, {0});
  EXPECT_EQ(run.measure(30), Names{});
  EXPECT_NEAR(run.given_["a"][0], 10, kLookSeconds);
  EXPECT_NEAR(run.now_, 30, 4 * kLookSeconds);
}

TEST(MeasuredParts, WhatScattersIsMeasuredAgainAndTheSteadiestIsKept) {
  ScriptedParts run;
  run.add("a", 0.2, 1, {0.1});
  run.add("b", 0.2, 1, {0.5, 0.9, 0.2});
  EXPECT_EQ(run.measure(20), Names{});
  EXPECT_EQ(run.calls_["a"], 1);
  EXPECT_EQ(run.calls_["b"], 3);
  EXPECT_EQ(run.figures_["b"], 2) << "the third is steady";

  ScriptedParts never;
  never.add("a", 0.2, 1, {0.5, 0.4, 0.9});
  EXPECT_EQ(never.measure(20), Names{"a"});
  EXPECT_EQ(never.calls_["a"], 4) << "as often as there is time for it";
  EXPECT_EQ(never.figures_["a"], 1) << "the second is steadier than those after it";
  EXPECT_LE(never.now_, 20);
}

// Something else runs during the second part, which shows in no spread.
TEST(MeasuredParts, WorkBetweenThePartsTellsWhatWasDisturbed) {
  ScriptedParts run;
  for (const char* what : {"a", "b", "c", "d"}) run.add(what, 0.1, 1, {0});
  run.disturbance_ = [](double now) { return now > 15 && now < 25 ? 1.0 : 0.0; };
  EXPECT_EQ(run.measure(100), Names{});
  EXPECT_EQ(run.calls_, (std::map<std::string, int>{{"a", 1}, {"b", 2}, {"c", 2}, {"d", 1}}));
}

TEST(MeasuredParts, AQuietMomentIsWaitedForWhileThereIsTime) {
  ScriptedParts run;
  run.add("a", 0.2, 1, {0});
  run.disturbance_ = [](double now) { return now < 60 ? 1.0 : 0.0; };
  EXPECT_EQ(run.measure(100), Names{});
  EXPECT_EQ(run.calls_["a"], 2) << "none while the machine is busy";
  EXPECT_GT(run.now_, 60);
  EXPECT_LT(run.now_, 81);
  EXPECT_EQ(std::get<0>(run.begun_.back()), "a again, once nothing else runs");

  ScriptedParts busy;
  busy.add("a", 0.2, 1, {0});
  busy.add("b", 0.2, 1, {0});
  busy.disturbance_ = [](double) { return 1.0; };
  EXPECT_EQ(busy.measure(100), (Names{"a", "b"}));
  EXPECT_EQ(busy.calls_, (std::map<std::string, int>{{"a", 1}, {"b", 1}}));
  EXPECT_LE(busy.now_, 101);
}

// Where each part takes twice what it is given, those that follow have less, and the time that is left is said as it is.
TEST(MeasuredParts, ASlowMachineLeavesLaterPartsLess) {
  ScriptedParts run;
  for (const char* what : {"a", "b", "c", "d"}) run.add(what, 0.25, 2, {0.3});
  EXPECT_EQ(run.measure(10), (Names{"a", "b", "c", "d"}));
  EXPECT_NEAR(run.given_["a"][0], 2.5, kLookSeconds);
  EXPECT_NEAR(run.given_["b"][0], 5.0 / 3, 2 * kLookSeconds);  // a third of the 5 s that are left
  EXPECT_LT(run.given_["c"][0], run.given_["b"][0]);
  EXPECT_GE(run.given_["d"][0], 0.2 * 2.5);
  EXPECT_LT(run.now_, 13);
  // By how much later parts are cut short shows when they begin: an eighth of the time may be said too much or too little before.
  for (const auto& [what, when, left] : run.begun_)
    if (when > 0.1) {
      EXPECT_NEAR(when + left, run.now_, 10.0 / 8) << what;
    }
}

}  // namespace
}  // namespace zerostep
