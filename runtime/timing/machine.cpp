#include "runtime/timing/machine.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"

namespace zerostep {
namespace {

// Values by where they were measured.
using Points = std::map<double, double>;

// At x: a power law between the points beside it, beyond them the value of the nearest.
double value_at(const Points& points, double x) {
  const auto above = points.lower_bound(x);
  if (above == points.begin()) return above->second;
  const auto below = std::prev(above);
  if (above == points.end()) return below->second;
  const double share = std::log(x / below->first) / std::log(above->first / below->first);
  return below->second * std::pow(above->second / below->second, share);
}

// Of the entries' types the one that `type` counts as.
template <typename Rate>
DType known_type(const std::vector<Rate>& rates, DType type) {
  for (const DType known : {type, type == DType::BF16 ? DType::F16 : DType::BF16, DType::F32}) {
    if (type == DType::F32 && known != type) continue;
    if (std::any_of(rates.begin(), rates.end(), [&](const Rate& rate) { return rate.type == known; })) return known;
  }
  fail_protocol("a machine without figures of {}", name_of(type));
}

const ElementwiseRate& elementwise_rate(const Machine& machine, DType type) {
  const DType known = known_type(machine.elementwise, type);
  return *std::find_if(machine.elementwise.begin(), machine.elementwise.end(),
                       [&](const ElementwiseRate& rate) { return rate.type == known; });
}

}  // namespace

double gemm_flops_per_second(const Machine& machine, DType type, double rows, double width) {
  const DType known = known_type(machine.gemm, type);
  std::map<double, Points> by_width;
  for (const GemmRate& rate : machine.gemm)
    if (rate.type == known) by_width[static_cast<double>(rate.width)][static_cast<double>(rate.rows)] = rate.flops_per_second;
  Points at_rows;
  for (const auto& [measured_width, points] : by_width) at_rows[measured_width] = value_at(points, rows);
  return value_at(at_rows, width);
}

double elementwise_bytes_per_second(const Machine& machine, DType type) { return elementwise_rate(machine, type).bytes_per_second; }

AttentionRate attention_rate(const Machine& machine, DType type, bool backward) {
  const ElementwiseRate& rate = elementwise_rate(machine, type);
  return backward && rate.attention_backward.flops_per_second > 0 ? rate.attention_backward : rate.attention;
}

}  // namespace zerostep
