#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace zerostep {

// Pearson's test of whether parts have the same shares of kinds.
struct ChiSquare {
  double statistic = 0;
  int64_t degrees = 0;  // of freedom
  double p = 1;         // chance of a statistic at least as large where the shares are the same
};
// `counts`: of each part those of each kind; parts and kinds without any do not count. Nothing: less than two parts or kinds are left.
std::optional<ChiSquare> chi_square(const std::vector<std::vector<int64_t>>& counts);
// Chance that chi-square of so many degrees of freedom is at least so large.
double chi_square_tail(double statistic, int64_t degrees);

// Jensen-Shannon divergence of two counts of the same things, in bits: 0 where their shares are the same, 1 where they have nothing in
// common.
double divergence_in_bits(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b);

}  // namespace zerostep
