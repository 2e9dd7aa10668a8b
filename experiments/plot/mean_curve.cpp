#include "experiments/plot/mean_curve.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "experiments/plot/downsample.h"

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
  const auto count = static_cast<double>(values.size());
  if (!std::isfinite(sum)) {  // of values that have no room for their sum
    sum = 0;
    for (double value : values) sum += value / count;
    out.mean.push_back(sum);
  } else {
    out.mean.push_back(sum / count);
  }
  out.low.push_back(low);
  out.high.push_back(high);
}

constexpr int64_t kParts = kMostMeanPoints / 4;  // of the shared x; four points of each curve stand in each at most

struct Points {
  std::vector<double> x, y;  // x rises
};

// Points with one x as one.
void join_repeats(Points& points) {
  size_t kept = 0;
  for (size_t i = 0; i < points.x.size(); ++kept) {
    double sum = 0;
    size_t end = i;
    for (; end < points.x.size() && points.x[end] == points.x[i]; ++end) sum += points.y[end];
    points.x[kept] = points.x[i];
    points.y[kept] = sum / static_cast<double>(end - i);
    i = end;
  }
  points.x.resize(kept);
  points.y.resize(kept);
}

// Where a mean of the curves is taken between two x, in their order.
std::vector<double> x_of_means(const std::vector<Points>& curves, double first, double last) {
  size_t count = 0;
  for (const Points& curve : curves) count += curve.x.size();
  std::vector<double> out;
  for (const Points& curve : curves) {
    if (count <= kMostMeanPoints * curves.size()) {
      out.insert(out.end(), curve.x.begin(), curve.x.end());
      continue;
    }
    for (size_t i : shown_points({curve.x, curve.y}, {first, last}, {}, kParts)) out.push_back(curve.x[i]);
  }
  std::erase_if(out, [&](double x) { return x < first || x > last; });
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

// The value at `x`, which lies between the curve's ends; `right` is a point's index that has not passed `x`, and is moved on to it.
double value_at(const Points& curve, double x, size_t& right) {
  while (curve.x[right] < x) ++right;
  if (curve.x[right] == x) return curve.y[right];
  const double share = (x - curve.x[right - 1]) / (curve.x[right] - curve.x[right - 1]);
  return std::lerp(curve.y[right - 1], curve.y[right], share);
}

}  // namespace

MeanCurve mean_curve(std::vector<std::vector<double>> x, std::vector<std::vector<double>> y) {
  MeanCurve out;
  if (x.empty()) return out;
  const std::vector<double>& shortest =
      *std::min_element(x.begin(), x.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  if (shortest.empty()) return out;
  std::vector<double> values(x.size());
  if (std::all_of(x.begin(), x.end(), [&](const auto& own) { return std::equal(shortest.begin(), shortest.end(), own.begin()); })) {
    for (size_t i = 0; i < shortest.size(); ++i) {
      for (size_t c = 0; c < y.size(); ++c) values[c] = y[c][i];
      add_mean(out, shortest[i], values);
    }
    return out;
  }
  double first = -std::numeric_limits<double>::infinity(), last = std::numeric_limits<double>::infinity();
  std::vector<Points> curves;
  for (size_t c = 0; c < x.size(); ++c) {
    if (!std::is_sorted(x[c].begin(), x[c].end())) {
      out.falls = true;
      return out;
    }
    first = std::max(first, x[c].front());
    last = std::min(last, x[c].back());
    curves.push_back({std::move(x[c]), std::move(y[c])});
    join_repeats(curves.back());
  }
  std::vector<size_t> rights(curves.size());
  for (double at : x_of_means(curves, first, last)) {
    for (size_t c = 0; c < curves.size(); ++c) values[c] = value_at(curves[c], at, rights[c]);
    add_mean(out, at, values);
  }
  return out;
}

}  // namespace zerostep
