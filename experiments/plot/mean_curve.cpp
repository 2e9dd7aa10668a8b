#include "experiments/plot/mean_curve.h"

#include <algorithm>
#include <limits>
#include <span>

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

struct Points {
  std::vector<double> x, y;  // x rises
};

// Points with one x as one.
Points without_repeats(const std::vector<double>& x, const std::vector<double>& y) {
  Points out;
  for (size_t i = 0; i < x.size();) {
    double sum = 0;
    size_t end = i;
    for (; end < x.size() && x[end] == x[i]; ++end) sum += y[end];
    out.x.push_back(x[i]);
    out.y.push_back(sum / static_cast<double>(end - i));
    i = end;
  }
  return out;
}

// The value at `x`, which lies between the curve's ends; `right` is a point's index that has not passed `x`, and is moved on to it.
double value_at(const Points& curve, double x, size_t& right) {
  while (curve.x[right] < x) ++right;
  if (curve.x[right] == x) return curve.y[right];
  const double share = (x - curve.x[right - 1]) / (curve.x[right] - curve.x[right - 1]);
  return curve.y[right - 1] + share * (curve.y[right] - curve.y[right - 1]);
}

}  // namespace

MeanCurve mean_curve(const std::vector<std::vector<double>>& x, const std::vector<std::vector<double>>& y) {
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
  std::vector<double> places;
  for (size_t c = 0; c < x.size(); ++c) {
    if (!std::is_sorted(x[c].begin(), x[c].end())) return out;
    curves.push_back(without_repeats(x[c], y[c]));
    first = std::max(first, x[c].front());
    last = std::min(last, x[c].back());
    places.insert(places.end(), curves.back().x.begin(), curves.back().x.end());
  }
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  std::vector<size_t> rights(curves.size());
  for (double place : places) {
    if (place < first || place > last) continue;
    for (size_t c = 0; c < curves.size(); ++c) values[c] = value_at(curves[c], place, rights[c]);
    add_mean(out, place, values);
  }
  return out;
}

}  // namespace zerostep
