#include "experiments/probe/epsilon_curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/nth.h"
#include "base/program_name.h"

namespace zerostep {
namespace {

// One query a step on the first batch, by which nothing changes.
Config still_config(const ProbeInput& input, StepConfig::Mode mode, const char* mode_name) {
  Config c = input.config;
  const BatchConfig batch = input.batch();
  StepConfig& step = c.step;
  step.mode = mode;
  step.mode_name = mode_name;
  step.queries = step.queries_per_pass = step.direction_parallel = 1;
  step.independent_data = false;
  step.bp_data = StepConfig::BackpropData::Same;
  step.bp_interval = step.monitor_interval = step.zo_steps = 0;
  step.bp_lr.reset();
  step.separate_state = false;
  step.transform = {};
  step.query_batch = batch;
  if (step.query_sequence_length == 0) step.query_sequence_length = c.data.sequence_length;
  c.data.sequence_length = step.query_sequence_length;
  c.optimizer = {};
  c.optimizer.type = OptimizerConfig::Type::SGD;
  c.optimizer.type_name = "SGD";
  c.optimizer.lr = 0;
  c.scheduler = {};
  c.gradient_clipping = 0;
  return c;
}

StepBatches first_batch(const ProbeInput& input, const Config& c) {
  const int64_t samples = input.batch().train_batch_size, backprop = c.batch.micro_batch_size,
                queries = c.step.query_batch.micro_batch_size;
  return {[=, &input](int64_t micro_batch) {
            return input.data.batch(0, micro_batch, {samples, backprop, 0, 1});
          },
          [=, &input](int64_t, int64_t micro_batch) {
            return input.data.batch(0, micro_batch, {samples, queries, 0, 1});
          }};
}

}  // namespace

std::vector<double> true_slopes(const ProbeInput& input, int64_t directions) {
  Config c = still_config(input, StepConfig::Mode::Calibrate, "calibrate");
  c.step.bp_interval = c.step.monitor_interval = 1;
  c.step.estimator = StepConfig::Estimator::Central;
  c.step.epsilon = 1e-3;  // of a query that makes the direction known; its difference is divided out again
  c.step.masters = true;
  c.precision = {};
  // Backprop needs more memory a sample: micro-batches are at most those of the file's backprop.
  const int64_t samples = input.batch().train_batch_size,
                micro = std::gcd(std::max<int64_t>(1, input.config.batch.micro_batch_size), samples);
  c.batch = {samples, micro, samples / micro};
  const std::unique_ptr<Engine> engine = make_probe_engine(input, c, input.without_dropout);
  std::vector<double> out;
  bool are_zero = true;
  for (int64_t direction = 0; direction < directions; ++direction) {
    input.progress(fmt::format("derivative along direction {} of {} ...", direction + 1, directions));
    const StepResult result = engine->train_step(direction, first_batch(input, c));
    const double difference = static_cast<float>(nth(result.scalars, 0));  // by which the estimate scales its direction
    if (!result.slope || !std::isfinite(*result.slope) || difference == 0)
      fail_run(
          "probe: the loss along direction {} has no derivative that can be compared with: its difference is {}, its slope {}. Look at the "
          "weights and the data (`{} inspect batches`)",
          direction, difference, result.slope.value_or(std::numeric_limits<double>::quiet_NaN()), program_name());
    out.push_back(*result.slope / difference);
    are_zero = are_zero && out.back() == 0;
  }
  if (are_zero) fail_run("probe: the gradient on the first batch is 0: no epsilon is better than another");
  return out;
}

std::vector<EpsilonError> epsilon_curve(const ProbeInput& input, std::span<const double> epsilons, std::span<const double> slopes) {
  double squares = 0;
  for (double slope : slopes) squares += slope * slope;
  std::vector<EpsilonError> out;
  for (double epsilon : epsilons) {
    input.progress(fmt::format("epsilon {:g} ({} of {}) ...", epsilon, out.size() + 1, epsilons.size()));
    Config c = still_config(input, StepConfig::Mode::ZerothOrder, "zo");
    c.step.epsilon = epsilon;
    const std::unique_ptr<Engine> engine = make_probe_engine(input, c, input.model);
    double errors = 0;
    for (size_t direction = 0; direction < slopes.size() && std::isfinite(errors); ++direction) {
      const StepResult result = engine->train_step(static_cast<int64_t>(direction), first_batch(input, c));
      errors += std::pow(nth(result.scalars, 0) - slopes[direction], 2);
    }
    out.push_back({epsilon, std::sqrt(errors / squares)});
  }
  return out;
}

std::vector<double> usual_epsilons() { return {1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1}; }

std::optional<double> recommended_epsilon(std::span<const EpsilonError> curve) {
  constexpr double kFlat = 2;
  const auto is_less = [](const EpsilonError& a, const EpsilonError& b) {
    return std::isfinite(a.error) && (!std::isfinite(b.error) || a.error < b.error);
  };
  const auto best = std::min_element(curve.begin(), curve.end(), is_less);
  if (best == curve.end() || !std::isfinite(best->error)) return std::nullopt;
  const auto is_flat = [&](const EpsilonError& e) { return e.error <= kFlat * best->error; };
  auto first = best, last = best;
  while (first != curve.begin() && is_flat(*std::prev(first))) --first;
  while (std::next(last) != curve.end() && is_flat(*std::next(last))) ++last;
  return std::next(first, (last - first) / 2)->epsilon;
}

}  // namespace zerostep
