#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/noise.h"
#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

using nlohmann::json;
using Values = std::vector<float>;

class InspectNoise : public ::testing::Test {
 protected:
  Outcome run(const std::string& step, const std::vector<std::string>& more) const {
    std::vector<std::string> arguments{"inspect", "noise", place_.config(step.empty() ? "" : "\"step\": " + step)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return place_.run(arguments);
  }
  Values values(const std::string& step, const std::vector<std::string>& more) const {
    const Outcome done = run(step, more);
    EXPECT_EQ(done.status, 0) << done.err;
    return json::parse(done.out).get<Values>();
  }
  Workplace place_;  // seed 3, 34,720 parameters
};

TEST_F(InspectNoise, PrintsAnySliceOfTheDirections) {
  const Values found = values(R"({"mode": "zo", "queries": 3})", {"--step", "5", "--direction", "2", "--begin", "8000", "--count", "1000"});
  Values expected(1000);
  fill_normal({.seed = 3, .tag = NoiseTag::Direction, .step = 5, .stream = 2}, 8000, 1000, expected.data());
  EXPECT_EQ(found, expected);
  EXPECT_EQ(values(R"({"mode": "zo", "queries": 3})", {"--step", "5", "--direction", "2", "--begin", "8300", "--count", "7"}),
            Values(expected.begin() + 300, expected.begin() + 307));
  const Values signs = values(R"({"mode": "zo", "perturbation": "rademacher"})", {"--step", "1", "--count", "70"});
  expected.resize(70);
  fill_rademacher({.seed = 3, .tag = NoiseTag::Direction, .step = 1, .stream = 0}, 0, 70, expected.data());
  EXPECT_EQ(signs, expected);
  EXPECT_EQ(values(R"({"mode": "alternating"})", {"--begin", "34710", "--count", "10"}).size(), 10u);  // to the very end
}

TEST_F(InspectNoise, PrintsLowRankDirectionsAcrossParameters) {
  const std::string step = R"({"mode": "zo", "queries": 2, "perturbation": "low_rank", "rank": 3, "refresh": 4})";
  // wte is 257 x 32; wpe, 32 x 32, follows it.
  const Values found = values(step, {"--step", "6", "--direction", "1", "--begin", "8200", "--count", "48"});
  const auto entry = [](uint64_t first, int64_t row, int64_t column) {
    float u[3], v[3];
    fill_normal({3, NoiseTag::LowRankU, 6, 1}, first + static_cast<uint64_t>(row * 3), 3, u);
    fill_normal({3, NoiseTag::LowRankV, 6 / 4, 1}, first + static_cast<uint64_t>(column * 3), 3, v);
    double sum = 0;
    for (int k = 0; k < 3; ++k) sum += static_cast<double>(u[k]) * static_cast<double>(v[k]);
    return sum / std::sqrt(3.0);
  };
  ASSERT_EQ(found.size(), 48u);
  for (size_t i = 0; i < 48; ++i) {
    const int64_t at = 8200 + static_cast<int64_t>(i) - (i < 24 ? 0 : 8224);
    EXPECT_NEAR(static_cast<double>(found[i]), entry(i < 24 ? 0 : 8224, at / 32, at % 32), 1e-6) << i;
  }
}

TEST_F(InspectNoise, RefusesWhatIsNotThere) {
  const Outcome beyond = run(R"({"mode": "zo"})", {"--begin", "34715", "--count", "10"});
  EXPECT_EQ(beyond.status, 2);
  EXPECT_SAYS(beyond.err, "34,720");
  const Outcome negative = run(R"({"mode": "zo"})", {"--begin", "-1"});
  EXPECT_EQ(negative.status, 2);
  EXPECT_SAYS(negative.err, "--begin");
  const Outcome backprop = run("", {"--count", "1"});
  EXPECT_EQ(backprop.status, 2);
  EXPECT_SAYS(backprop.err, "step.mode is \"fo\"");
  for (const Outcome& done : {beyond, negative, backprop}) EXPECT_EQ(done.out, "");
}

}  // namespace
}  // namespace zerostep::testing
