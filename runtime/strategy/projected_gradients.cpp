#include "runtime/strategy/projected_gradients.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/not_a_number.h"

namespace zerostep {
namespace {

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values, double mean) {
  double squares = 0;
  for (double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

}  // namespace

ProjectedGradients projected_gradients(const StepConfig& config, std::span<const ZerothOrder::Sums> sums) {
  const bool forward = config.estimator == StepConfig::Estimator::Forward;
  ProjectedGradients out;
  for (const ZerothOrder::Sums& s : sums) {
    const double tokens = std::max(1.0, s.tokens);
    out.scalars.push_back((s.plus - s.minus) / ((forward ? 1 : 2) * config.epsilon * tokens));
    out.loss += (forward ? s.minus : (s.plus + s.minus) / 2) / tokens / static_cast<double>(sums.size());
    out.finite = out.finite && std::isfinite(s.plus) && std::isfinite(s.minus);
  }
  return out;
}

std::string describe_non_finite(const StepConfig& config, std::span<const ZerothOrder::Sums> sums) {
  const auto finite = [](const ZerothOrder::Sums& s) { return std::isfinite(s.plus) && std::isfinite(s.minus); };
  const auto first = std::find_if_not(sums.begin(), sums.end(), finite);
  const auto mean = [&](double sum) { return without_sign_of_nan(sum / std::max(1.0, first->tokens)); };
  return fmt::format("the losses of {} of its {} direction{} are not finite (direction {}: {} at theta + epsilon z, {} at theta{})",
                     sums.size() - static_cast<size_t>(std::count_if(sums.begin(), sums.end(), finite)), sums.size(),
                     sums.size() == 1 ? "" : "s", first - sums.begin(), mean(first->plus), mean(first->minus),
                     config.estimator == StepConfig::Estimator::Forward ? "" : " - epsilon z");
}

std::vector<double> transform_scalars(const StepConfig::Transform& transform, std::vector<double> p) {
  using Kind = StepConfig::Transform::Kind;
  if (transform.kind == Kind::None) return p;
  const double mean = mean_of(p);
  if (transform.kind == Kind::LeaveOneOut) {
    // p_i minus the mean of the others; the unperturbed loss cancels.
    const double q = static_cast<double>(p.size());
    for (double& v : p) v -= (mean * q - v) / (q - 1);
    return p;
  }
  const double deviation = deviation_of(p, mean);
  if (deviation == 0) return p;
  for (double& v : p)
    v = transform.kind == Kind::Normalise ? v / deviation
                                          : std::clamp(v, mean - transform.deviations * deviation, mean + transform.deviations * deviation);
  return p;
}

double expected_norm(std::span<const double> scalars, int64_t dimensions) {
  double squares = 0;
  for (double p : scalars) squares += p * p;
  return std::sqrt(static_cast<double>(dimensions) * squares) / static_cast<double>(scalars.size());
}

}  // namespace zerostep
