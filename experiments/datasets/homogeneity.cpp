#include "experiments/datasets/homogeneity.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace zerostep {
namespace {

// Regularised upper incomplete gamma function Q(a, x): by the series of its complement for small x, by its continued fraction (in Lentz's
// way of evaluating it) for large ones.
double upper_gamma(double a, double x) {
  constexpr int kMostTerms = 100000;
  constexpr double kSmall = 1e-16, kTiny = 1e-300;
  if (x <= 0) return 1;
  const double scale = std::exp(a * std::log(x) - x - std::lgamma(a));
  if (x < a + 1) {
    double term = 1 / a, sum = term;
    for (int n = 1; n < kMostTerms && term > kSmall * sum; ++n) sum += term *= x / (a + n);
    return 1 - sum * scale;
  }
  double b = x + 1 - a, c = 1 / kTiny, d = 1 / b, fraction = d;
  for (int n = 1; n < kMostTerms; ++n) {
    const double numerator = -n * (n - a);
    b += 2;
    d = numerator * d + b;
    if (std::abs(d) < kTiny) d = kTiny;
    c = b + numerator / c;
    if (std::abs(c) < kTiny) c = kTiny;
    d = 1 / d;
    fraction *= d * c;
    if (std::abs(d * c - 1) < kSmall) break;
  }
  return scale * fraction;
}

}  // namespace

double chi_square_tail(double statistic, int64_t degrees) { return upper_gamma(static_cast<double>(degrees) / 2, statistic / 2); }

std::optional<ChiSquare> chi_square(const std::vector<std::vector<int64_t>>& counts) {
  if (counts.empty()) return std::nullopt;
  std::vector<int64_t> of_part, of_kind(counts.front().size());
  for (const std::vector<int64_t>& part : counts) {
    of_part.push_back(std::accumulate(part.begin(), part.end(), int64_t{0}));
    for (size_t kind = 0; kind < of_kind.size(); ++kind) of_kind[kind] += part.at(kind);
  }
  const auto count_of_positive = [](const std::vector<int64_t>& values) {
    int64_t positive = 0;
    for (const int64_t value : values) positive += value > 0;
    return positive;
  };
  const int64_t parts = count_of_positive(of_part), kinds = count_of_positive(of_kind);
  if (parts < 2 || kinds < 2) return std::nullopt;
  const auto all = static_cast<double>(std::accumulate(of_part.begin(), of_part.end(), int64_t{0}));
  ChiSquare out;
  out.degrees = (parts - 1) * (kinds - 1);
  for (size_t part = 0; part < counts.size(); ++part)
    for (size_t kind = 0; kind < of_kind.size(); ++kind) {
      const double expected = static_cast<double>(of_part[part]) * static_cast<double>(of_kind[kind]) / all;
      if (expected == 0) continue;
      const double distance = static_cast<double>(counts[part][kind]) - expected;
      out.statistic += distance * distance / expected;
    }
  out.p = chi_square_tail(out.statistic, out.degrees);
  return out;
}

double divergence_in_bits(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
  if (a.size() != b.size()) fail_protocol("the divergence of counts of {} and of {} things", a.size(), b.size());
  const double sum_a = std::accumulate(a.begin(), a.end(), 0.0), sum_b = std::accumulate(b.begin(), b.end(), 0.0);
  if (sum_a == 0 || sum_b == 0) return 0;
  double bits = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double p = a[i] / sum_a, q = b[i] / sum_b, middle = (p + q) / 2;
    if (p > 0) bits += p * std::log2(p / middle) / 2;
    if (q > 0) bits += q * std::log2(q / middle) / 2;
  }
  return bits;
}

}  // namespace zerostep
