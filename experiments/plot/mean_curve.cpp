#include "experiments/plot/mean_curve.h"

#include <algorithm>
#include <limits>

namespace zerostep {
namespace {

void add_mean(MeanCurve& out, double x, std::span<const double> values) {
  double sum = 0, low = values[0], high = values[0];
  for (double value : values) {
    sum += value;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  out.x.push_back(x);
  out.mean.push_back(sum / static_cast<double>(values.size()));
  out.low.push_back(low);
  out.high.push_back(high);
}

// Whether each run's x begin as the longest's do.
bool share_x(const std::vector<std::vector<double>>& x, const std::vector<double>& longest) {
  return std::all_of(x.begin(), x.end(), [&](const auto& own) { return std::equal(own.begin(), own.end(), longest.begin()); });
}

double between(const std::vector<double>& x, const std::vector<double>& y, double at) {
  const auto right = static_cast<size_t>(std::upper_bound(x.begin(), x.end(), at) - x.begin());
  if (right == 0) return y.front();
  if (right == x.size()) return y.back();
  const double share = (at - x[right - 1]) / (x[right] - x[right - 1]);
  return y[right - 1] + share * (y[right] - y[right - 1]);
}

}  // namespace

MeanCurve mean_curve(const std::vector<std::vector<double>>& x, const std::vector<std::vector<double>>& y) {
  constexpr size_t kPlaces = 400;
  MeanCurve out;
  if (x.empty()) return out;
  const std::vector<double>& longest =
      *std::max_element(x.begin(), x.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  std::vector<double> values;
  if (share_x(x, longest)) {
    for (size_t i = 0; i < longest.size(); ++i) {
      values.clear();
      for (const std::vector<double>& own : y)
        if (i < own.size()) values.push_back(own[i]);
      if (2 * values.size() < y.size()) break;
      add_mean(out, longest[i], values);
    }
    return out;
  }
  double first = -std::numeric_limits<double>::infinity(), last = std::numeric_limits<double>::infinity();
  for (const std::vector<double>& own : x) {
    if (own.empty()) return out;
    first = std::max(first, own.front());
    last = std::min(last, own.back());
  }
  for (size_t k = 0; first <= last && k < kPlaces; ++k) {
    const double at = first + (last - first) * static_cast<double>(k) / (kPlaces - 1);
    values.clear();
    for (size_t r = 0; r < x.size(); ++r) values.push_back(between(x[r], y[r], at));
    add_mean(out, at, values);
  }
  return out;
}

}  // namespace zerostep
