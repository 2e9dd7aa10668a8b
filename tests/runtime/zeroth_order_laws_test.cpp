#include <gtest/gtest.h>

#include <cmath>

#include "runtime/state/parameter_piece.h"
#include "runtime/strategy/estimate.h"
#include "runtime/strategy/projected_gradients.h"

namespace zerostep {
namespace {

using Estimator = StepConfig::Estimator;
using Perturbation = StepConfig::Perturbation;
using Values = std::vector<float>;

constexpr uint64_t kSeed = 20;
constexpr double kRoundOff = 0x1p-24;

StepConfig config_of(Perturbation perturbation, int64_t queries = 1) {
  StepConfig config;
  config.mode = StepConfig::Mode::ZerothOrder;
  config.perturbation = perturbation;
  config.queries = queries;
  config.refresh = 1;
  return config;
}

ParameterInfo parameter_of(std::vector<int64_t> shape, int64_t first = 1000) {
  ParameterInfo out;
  out.name = "p";
  out.shape = std::move(shape);
  out.first = first;
  return out;
}

Values direction(const Directions& directions, int64_t step, int64_t number, const ParameterInfo& parameter) {
  Values z(static_cast<size_t>(parameter.num_elements()));
  directions.values(step, number, parameter, 0, parameter.num_elements(), z.data());
  return z;
}

void read(const Estimate& estimate, const Directions& directions, const ParameterInfo& parameter, int64_t begin, int64_t count,
          Values& out) {
  directions.kernels().estimate(piece_of(parameter, begin, count), estimate.gradient(), out.data(), directions.stream());
}

// Fixed values in [0.5, 1).
Values some_values(int64_t count, uint64_t seed) {
  Values out(static_cast<size_t>(count));
  std::vector<uint32_t> bits(out.size());
  fill_bits({seed, NoiseTag::Permutation, 0, 0}, 0, count, bits.data());
  for (size_t i = 0; i < out.size(); ++i) out[i] = 0.5f + static_cast<float>(bits[i] >> 9) * 0x1p-24f;
  return out;
}

template <typename A, typename B>
double dot(const A& a, const B& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// sum of c x^k / k! over fp32 weights, rounded once to fp32 as a loss is.
struct Power {
  Values c;
  int k;
  double at(const Values& x) const {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(c[i]) * std::pow(static_cast<double>(x[i]), k) / (k == 2 ? 2 : 6);
    return static_cast<double>(static_cast<float>(sum));
  }
  // Sum of the n-th derivative times z^n.
  double derivative(const Values& x, const Values& z, int n) const {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i)
      sum += static_cast<double>(c[i]) * std::pow(static_cast<double>(x[i]), k - n) / (k - n == 2 ? 2 : 1) *
             std::pow(static_cast<double>(z[i]), n);
    return sum;
  }
};

struct Probe {
  double p, largest_loss;
};

// One direction's projected gradient, from perturbed copies of the weights.
Probe probe(const Directions& directions, int64_t number, const ParameterInfo& parameter, const Values& theta, const Power& loss) {
  Values plus(theta.size()), minus(theta.size());
  PerturbedPiece piece;
  piece.base = theta.data();
  piece.plus = plus.data();
  piece.minus = minus.data();
  const Directions::Perturbed perturbed{&parameter, piece};
  directions.perturb(3, number, {&perturbed, 1});
  const bool forward = directions.config().estimator == Estimator::Forward;
  const ZerothOrder::Sums sums{loss.at(plus), loss.at(forward ? theta : minus), 1};
  return {projected_gradients(directions.config(), {&sums, 1}).scalars[0], std::max(std::abs(sums.plus), std::abs(sums.minus))};
}

constexpr double kEpsilons[] = {0.1, 0.03, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5};

// For every epsilon and direction, p = <g, z> + bias to within 8 u max|L| / e. `bias`: of (e, theta, z).
template <typename Bias>
void expect_bias(Estimator estimator, int power, const Bias& bias) {
  const ParameterInfo parameter = parameter_of({8, 8});
  const Values theta = some_values(64, 1);
  const Power loss{some_values(64, 2), power};
  for (const Perturbation perturbation : {Perturbation::Gaussian, Perturbation::Rademacher, Perturbation::LowRank})
    for (const double epsilon : kEpsilons) {
      StepConfig config = config_of(perturbation);
      config.epsilon = epsilon;
      config.estimator = estimator;
      const Directions directions(config, kSeed);
      for (int64_t number = 0; number < 20; ++number) {
        const Values z = direction(directions, 3, number, parameter);
        const Probe found = probe(directions, number, parameter, theta, loss);
        const double bound = 8 * kRoundOff * found.largest_loss / epsilon;
        EXPECT_NEAR(found.p, loss.derivative(theta, z, 1) + bias(loss, epsilon, theta, z), bound) << "epsilon " << epsilon;
      }
    }
}

TEST(ZerothOrderLaws, CentralDifferencesOfAQuadraticHaveNoBias) {
  expect_bias(Estimator::Central, 2, [](const Power&, double, const Values&, const Values&) { return 0.0; });
}

TEST(ZerothOrderLaws, CentralDifferencesOfACubicAreOffByItsThirdDerivative) {
  expect_bias(Estimator::Central, 3,
              [](const Power& loss, double e, const Values& theta, const Values& z) { return e * e / 6 * loss.derivative(theta, z, 3); });
}

TEST(ZerothOrderLaws, OneSidedDifferencesOfAQuadraticAreOffByHalfItsCurvature) {
  expect_bias(Estimator::Forward, 2,
              [](const Power& loss, double e, const Values& theta, const Values& z) { return e / 2 * loss.derivative(theta, z, 2); });
}

// The bias of a cubic quarters where epsilon halves, as long as it is far above round-off.
TEST(ZerothOrderLaws, TheBiasOfACubicGoesWithTheSquareOfEpsilon) {
  const ParameterInfo parameter = parameter_of({8, 8});
  const Values theta = some_values(64, 1);
  const Power loss{some_values(64, 2), 3};
  double former = 0;
  for (const double epsilon : {0.4, 0.2, 0.1}) {
    StepConfig config = config_of(Perturbation::Gaussian);
    config.epsilon = epsilon;
    const Directions directions(config, kSeed);
    const Values z = direction(directions, 3, 5, parameter);
    const double bias = probe(directions, 5, parameter, theta, loss).p - loss.derivative(theta, z, 1);
    if (former != 0) {
      EXPECT_NEAR(former / bias, 4, 0.02);
    }
    former = bias;
  }
}

struct Mean {
  double sum = 0, squares = 0, count = 0;
  void add(double x) {
    sum += x;
    squares += x * x;
    ++count;
  }
  double value() const { return sum / count; }
  double sigma() const { return std::sqrt((squares / count - value() * value()) / (count - 1)); }
};

struct Statistics {
  Mean cosine_squared, norm_squared, along;
};

// Estimates of a fixed gradient of a linear loss, whose projected gradients are <g, z> exactly; one a step.
Statistics estimates(const StepConfig& config, const ParameterInfo& parameter, int64_t steps) {
  const Directions directions(config, kSeed);
  Values g = some_values(parameter.num_elements(), 3);
  for (size_t i = 0; i < g.size(); i += 3) g[i] *= -2;
  const double squares = dot(g, g);
  Statistics out;
  Values e(g.size());
  for (int64_t step = 0; step < steps; ++step) {
    std::vector<double> p;
    for (int64_t d = 0; d < config.queries; ++d) p.push_back(dot(g, direction(directions, step, d, parameter)));
    Estimate estimate(directions, step, p);
    read(estimate, directions, parameter, 0, parameter.num_elements(), e);
    const double along = dot(g, e), norm = dot(e, e);
    out.cosine_squared.add(along * along / (squares * norm));
    out.norm_squared.add(norm / squares);
    out.along.add(along / squares);
  }
  return out;
}

void expect_mean(const Mean& mean, double expected) {
  EXPECT_LT(std::abs(mean.value() - expected), 5 * mean.sigma()) << mean.value() << " +- " << mean.sigma() << ", expected " << expected;
  EXPECT_LT(mean.sigma(), 0.1 * expected);
}

TEST(ZerothOrderLaws, CosinesOfGaussianEstimates) {
  for (const int64_t q : {1, 2, 4, 16})
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{8, 12}, {40}}) {
      const ParameterInfo parameter = parameter_of(shape);
      const double d = static_cast<double>(parameter.num_elements());
      const Statistics found = estimates(config_of(Perturbation::Gaussian, q), parameter, 3000);
      expect_mean(found.cosine_squared, static_cast<double>(q) / (static_cast<double>(q) + d - 1));
    }
}

TEST(ZerothOrderLaws, NormsOfEstimates) {
  for (const int64_t q : {1, 2, 4, 16}) {
    const ParameterInfo parameter = parameter_of({8, 12});
    const double d = 96, queries = static_cast<double>(q);
    const Statistics gaussian = estimates(config_of(Perturbation::Gaussian, q), parameter, 3000);
    expect_mean(gaussian.norm_squared, (d + queries + 1) / queries);
    const Statistics rademacher = estimates(config_of(Perturbation::Rademacher, q), parameter, 3000);
    expect_mean(rademacher.norm_squared, (d + queries - 1) / queries);
    for (const Statistics& s : {gaussian, rademacher}) expect_mean(s.along, 1);
  }
}

TEST(ZerothOrderLaws, NormsOfLowRankEstimates) {
  for (const int64_t q : {1, 4})
    for (const int64_t rank : {1, 2, 5}) {
      StepConfig config = config_of(Perturbation::LowRank, q);
      config.rank = rank;
      const double m = 8, n = 12, queries = static_cast<double>(q);
      const Statistics found = estimates(config, parameter_of({8, 12}), 6000);
      expect_mean(found.norm_squared, (m * n + queries + 1 + 2 * (m + n + 1) / static_cast<double>(rank)) / queries);
      expect_mean(found.along, 1);
      // Vectors keep Gaussian directions.
      expect_mean(estimates(config, parameter_of({40}), 2000).norm_squared, (40 + queries + 1) / queries);
    }
}

double correlation(const Values& a, const Values& b) { return dot(a, b) / std::sqrt(dot(a, a) * dot(b, b)); }

TEST(ZerothOrderLaws, DirectionsAreUncorrelated) {
  const ParameterInfo one = parameter_of({64, 64}, 0), next = parameter_of({64, 64}, 4096);
  const double bound = 5 / std::sqrt(4096.0);
  for (const Perturbation perturbation : {Perturbation::Gaussian, Perturbation::Rademacher, Perturbation::LowRank}) {
    StepConfig config = config_of(perturbation, 8);
    config.rank = 16;  // the correlation of two directions of rank r has heavier tails at small r
    const Directions directions(config, kSeed), other_seed(config, kSeed + 1);
    for (const int64_t step : {0, 1, 63, 12345})
      for (int64_t d = 0; d < 4; ++d) {
        const Values z = direction(directions, step, d, one);
        EXPECT_NEAR(dot(z, z) / 4096, 1, perturbation == Perturbation::LowRank ? 0.5 : 0.12);
        EXPECT_LT(std::abs(correlation(z, direction(directions, step, d + 1, one))), bound);
        EXPECT_LT(std::abs(correlation(z, direction(directions, step + 1, d, one))), bound);
        EXPECT_LT(std::abs(correlation(z, direction(directions, step + 1, d + 1, one))), bound);
        EXPECT_LT(std::abs(correlation(z, direction(directions, d, step, one))), step == d ? 1.01 : bound);
        EXPECT_LT(std::abs(correlation(z, direction(directions, step, d, next))), bound);
        EXPECT_LT(std::abs(correlation(z, direction(other_seed, step, d, one))), bound);
        EXPECT_EQ(direction(directions, step, d, one), z);
      }
  }
}

// A matrix' direction of rank r over a step's queries has rank r q: no column factor is shared.
TEST(ZerothOrderLaws, EachLowRankDirectionHasColumnsOfItsOwnUntilTheyAreDrawnAnew) {
  StepConfig config = config_of(Perturbation::LowRank, 4);
  config.refresh = 5;
  const Directions directions(config, kSeed);
  const ParameterInfo one = parameter_of({24, 40}, 0), next = parameter_of({24, 40}, 960);
  const auto factors = [&](int64_t step, int64_t d, const ParameterInfo& p) {
    std::pair<Values, Values> out(Values(48), Values(80));
    LowRankFactors factors = directions.factors(step, d, p, out.first.data(), out.second.data());
    factors.signs = {1};
    directions.kernels().low_rank_factors({&factors, 1}, directions.stream());
    return out;
  };
  const auto columns = [&](int64_t step, int64_t d, const ParameterInfo& p) { return factors(step, d, p).second; };
  const auto rows = [&](int64_t step, int64_t d) { return factors(step, d, one).first; };
  for (int64_t step = 1; step < 5; ++step) EXPECT_EQ(columns(step, 0, one), columns(0, 0, one));
  EXPECT_NE(columns(5, 0, one), columns(0, 0, one));
  EXPECT_NE(columns(0, 1, one), columns(0, 0, one));
  EXPECT_NE(columns(0, 0, next), columns(0, 0, one));
  EXPECT_NE(rows(1, 0), rows(0, 0));
  EXPECT_NE(rows(0, 1), rows(0, 0));
}

TEST(ZerothOrderLaws, AnEstimateIsTheSumOfItsDirectionsWhereverItIsRead) {
  const ParameterInfo parameter = parameter_of({70, 90});
  for (const Perturbation perturbation : {Perturbation::Gaussian, Perturbation::Rademacher, Perturbation::LowRank}) {
    const Directions directions(config_of(perturbation, 3), kSeed);
    const std::vector<double> p = {0.3, -1.7, 0.05};
    Estimate estimate(directions, 9, p);
    Values whole(6300);
    read(estimate, directions, parameter, 0, 6300, whole);
    std::vector<Values> z;
    for (int64_t d = 0; d < 3; ++d) z.push_back(direction(directions, 9, d, parameter));
    for (size_t i = 0; i < whole.size(); ++i) {
      double sum = 0, size = 0;
      for (size_t d = 0; d < 3; ++d) sum += p[d] * static_cast<double>(z[d][i]) / 3;
      for (size_t d = 0; d < 3; ++d) size += std::abs(p[d] * static_cast<double>(z[d][i])) / 3;
      ASSERT_NEAR(static_cast<double>(whole[i]), sum, 6 * kRoundOff * size);
    }
    Values part(999);
    for (const int64_t begin : {1, 100, 4095, 4097, 5301}) {
      read(estimate, directions, parameter, begin, 999, part);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + begin)) << begin;
    }
  }
}

}  // namespace
}  // namespace zerostep
