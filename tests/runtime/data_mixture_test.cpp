#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "base/error.h"
#include "runtime/data/mixture.h"

namespace zerostep {
namespace {

// How far the shares of the first samples are from their weights at most, in samples. Checks on the way that the samples of each source are
// numbered one by one and that count() gives what was counted.
double farthest_from_shares(const std::vector<double>& weights, uint64_t seed, int64_t samples) {
  const Mixture mixture(weights, seed);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> counts(weights.size());
  double farthest = 0;
  for (int64_t n = 0; n < samples; ++n) {
    const Mixture::Place place = mixture.at(n);
    EXPECT_EQ(place.index, counts.at(static_cast<size_t>(place.source))++) << "sample " << n;
    for (size_t i = 0; i < weights.size(); ++i) {
      if (n % 97 == 0) {
        EXPECT_EQ(mixture.count(static_cast<int>(i), n + 1), counts[i]) << "after sample " << n;
      }
      farthest = std::max(farthest, std::abs(static_cast<double>(counts[i]) - weights[i] / sum * static_cast<double>(n + 1)));
    }
  }
  return farthest;
}

TEST(DataMixture, TwoSourcesHaveTheirSharesToWithinASample) {
  for (const double weight : {0.75, 0.5, 0.9, 1.0 / 3, 0.01, 0.999})
    for (const uint64_t seed : {1U, 77U}) EXPECT_LE(farthest_from_shares({weight, 1 - weight}, seed, 5000), 1) << weight;
}

TEST(DataMixture, ManySourcesHaveTheirSharesToWithinTwoSamples) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int trial = 0; trial < 120; ++trial) {
    std::vector<double> weights(static_cast<size_t>(3 + trial % 11));
    double power = 1;
    for (double& weight : weights)
      weight = trial % 4 == 0   ? 1
               : trial % 4 == 1 ? (power *= 0.5)
               : trial % 4 == 2 ? uniform(random)
                                : std::pow(uniform(random), 4) + 1e-4;
    EXPECT_LE(farthest_from_shares(weights, static_cast<uint64_t>(trial), 1500), 2) << trial;
  }
}

// The weights are kept as multiples of 2^-40, which a hundred billion samples cannot tell from the weights.
TEST(DataMixture, SharesHoldFarFromTheStart) {
  const std::vector<double> weights{1, 2, 4};
  const Mixture mixture(weights, 5);
  for (const int64_t samples : {int64_t{1000000007}, int64_t{100000000003}}) {
    int64_t all = 0;
    for (int source = 0; source < 3; ++source) {
      const int64_t count = mixture.count(source, samples);
      all += count;
      EXPECT_NEAR(static_cast<double>(count), weights.at(static_cast<size_t>(source)) / 7 * static_cast<double>(samples), 2.1);
    }
    EXPECT_EQ(all, samples);
    const Mixture::Place next = mixture.at(samples);
    EXPECT_EQ(next.index, mixture.count(next.source, samples));
  }
}

TEST(DataMixture, TheOrderFollowsFromTheSeedAndIsNotRegular) {
  const auto sources = [](uint64_t seed) {
    const Mixture mixture({0.75, 0.25}, seed);
    std::vector<int> out;
    for (int64_t n = 0; n < 400; ++n) out.push_back(mixture.at(n).source);
    return out;
  };
  EXPECT_EQ(sources(1), sources(1));
  EXPECT_NE(sources(1), sources(2));
  const std::vector<int> order = sources(1);
  EXPECT_FALSE(std::equal(order.begin() + 4, order.end(), order.begin())) << "one source comes at every fourth place";
}

TEST(DataMixture, OneSourceIsItself) {
  const Mixture mixture({0.2}, 9);
  EXPECT_EQ(mixture.at(1234).index, 1234);
  EXPECT_EQ(mixture.share(0), 1);
  EXPECT_THROW(Mixture({0.5, 0.0}, 1), ProtocolError);
}

}  // namespace
}  // namespace zerostep
