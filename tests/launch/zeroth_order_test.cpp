#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

using nlohmann::json;

class ZerothOrder : public ::testing::Test {
 protected:
  Outcome train(const std::vector<std::string>& set, int ranks = 1) const {
    std::vector<std::string> arguments{"train", place_.config(), "--overwrite"};
    for (const std::string& s : set) arguments.insert(arguments.end(), {"--set", s});
    return place_.run(arguments, {.ranks = ranks});
  }
  Workplace place_;
};

TEST_F(ZerothOrder, BadValuesAreTheUsersFault) {
  struct Case {
    std::vector<std::string> set;
    const char* says;
  };
  const Case cases[] = {{{"step.mode=zo", "step.epsilon=0"}, "step.epsilon"},
                        {{"step.mode=zo", "step.queries=0"}, "step.queries"},
                        {{"step.mode=zo", "step.direction_parallel=2"}, "step.direction_parallel"},
                        {{"step.mode=zo", "step.perturbation=low_rank", "step.rank=33"}, "step.rank"},
                        {{"step.mode=calibrate", "step.bp_data=own"}, "data.bp_train"},
                        {{"step.mode=zo", "step.scalar_transform=clip"}, "step.scalar_transform"},
                        {{"step.mode=zo", "step.master_weights=none"}, "step.master_weights"},
                        {{"step.mode=zo", "step.scope=transformer.g.*"}, "transformer.g.*"},
                        {{"step.mode=calibrate", "step.bp_data=split", "data.max_samples=1"}, "data.train"},
                        {{"step.mode=calibrate", "step.bp_data=own", "data.bp_train=/nowhere/at_all.txt"}, "/nowhere/at_all.txt"}};
  for (const Case& c : cases) {
    const Outcome done = train(c.set);
    EXPECT_EQ(done.status, 2) << c.set.back() << ": " << done.err;
    EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
    EXPECT_SAYS(done.err, c.says);
    EXPECT_FALSE(place_.exists("runs/test")) << c.set.back();
  }
}

TEST_F(ZerothOrder, RanksAndGroupsOfDirectionsTrainTheSameModel) {
  const std::vector<std::string> set = {"step.mode=zo", "step.queries=2"};
  const auto losses = [&](const std::vector<std::string>& more, int ranks) {
    std::vector<std::string> all = set;
    all.insert(all.end(), more.begin(), more.end());
    const Outcome done = train(all, ranks);
    EXPECT_EQ(done.status, 0) << done.err;
    std::vector<double> out;
    for (const auto& row : place_.metrics("test")) out.push_back(std::stod(row.at("loss")));
    return out;
  };
  const std::vector<double> one = losses({}, 1);
  ASSERT_EQ(one.size(), 4u);
  for (const auto& more : {std::vector<std::string>{"zero_optimization.stage=3"}, {"step.direction_parallel=2"}}) {
    const std::vector<double> two = losses(more, 2);
    ASSERT_EQ(two.size(), 4u);
    for (size_t s = 0; s < 4; ++s) EXPECT_NEAR(two[s] / one[s], 1, 1e-6);
  }
}

// Each kind of step has its share of the samples, half where no share is said, and none is both's; both streams are on show.
TEST_F(ZerothOrder, SplitDataIsDisjoint) {
  // No two samples of this text are equal.
  std::string text;
  for (uint64_t i = 0, state = 1; i < 2000; ++i)
    text += static_cast<char>('a' + (state = state * 6364136223846793005u + 1) / (1u << 30) % 26);
  place_.write("corpus.txt", text);
  const auto samples = [&](const char* data, const char* share = nullptr) {
    std::vector<std::string> command{
        "inspect", "batches", place_.config(), "--steps", "100", "--set", "step.mode=alternating", "--set", "data.max_samples=60"};
    command.insert(command.end(), {"--set", std::string("step.bp_data=") + data});
    if (share != nullptr) command.insert(command.end(), {"--set", std::string("step.bp_share=") + share});
    const Outcome done = place_.run(command);
    EXPECT_EQ(done.status, 0) << done.err;
    std::istringstream lines(done.out);
    std::set<std::string> queries, backprop;
    for (std::string text; std::getline(lines, text);) {
      const json line = json::parse(text);
      EXPECT_EQ(line.contains("backprop"), line["step"].get<int64_t>() % 2 == 0);
      for (const json& s : line["samples"]) queries.insert(s.dump());
      if (line.contains("backprop"))
        for (const json& s : line["backprop"]["samples"]) backprop.insert(s.dump());
    }
    std::vector<std::string> both;
    std::set_intersection(queries.begin(), queries.end(), backprop.begin(), backprop.end(), std::back_inserter(both));
    return std::array<size_t, 3>{queries.size(), backprop.size(), both.size()};
  };
  EXPECT_EQ(samples("split"), (std::array<size_t, 3>{30, 30, 0}));
  EXPECT_EQ(samples("split", "0.1"), (std::array<size_t, 3>{54, 6, 0}));
  EXPECT_EQ(samples("split", "0.75"), (std::array<size_t, 3>{15, 45, 0}));
  const auto [queries, backprop, both] = samples("same");
  EXPECT_EQ(queries, 60u);
  EXPECT_GT(backprop, 30u);
  EXPECT_EQ(both, backprop);
}

// What does not train takes the file of a run over many ranks on one.
TEST_F(ZerothOrder, FilesForManyRanksAreReadOnOne) {
  const std::string file =
      place_.config(R"("gradient_accumulation_steps": 2, "step": {"mode": "zo", "queries": 4, "direction_parallel": 4})");
  EXPECT_EQ(place_.run({"train", file}).status, 2);
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"init", file, place_.path("base")},
                                                    {"eval", file, "--set", "data.eval=" + place_.path("corpus.txt")},
                                                    {"inspect", "noise", file, "--count", "3"},
                                                    {"inspect", "model", file}}) {
    const Outcome done = place_.run(arguments);
    EXPECT_EQ(done.status, 0) << arguments[0] << ": " << done.err;
    EXPECT_EQ(done.err.find("direction_parallel"), std::string::npos) << done.err;
  }
}

TEST_F(ZerothOrder, WarnsWhereEpsilonIsLostInSixteenBits) {
  const Outcome coarse = train({"step.mode=zo", "bf16.enabled=true", "step.epsilon=1e-5"});
  EXPECT_EQ(coarse.status, 0) << coarse.err;
  EXPECT_SAYS(coarse.out + coarse.err, "of the bf16 weights unchanged");
  const Outcome fine = train({"step.mode=zo", "bf16.enabled=true", "step.epsilon=0.01"});
  EXPECT_EQ((fine.out + fine.err).find("weights unchanged"), std::string::npos);
}

}  // namespace
}  // namespace zerostep::testing
