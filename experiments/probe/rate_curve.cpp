#include "experiments/probe/rate_curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/engine/non_finite_error.h"

namespace zerostep {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();

StepBatches batches_of(const ProbeInput& input, int64_t step) {
  const StepConfig& kind = input.config.step;
  const BatchConfig &backprop = input.config.batch, &queries = kind.query_batch;
  const DataStream& own = input.backprop != nullptr ? *input.backprop : input.data;
  return {[=, &own](int64_t micro_batch) {
            return own.batch(step, micro_batch, {backprop.train_batch_size, backprop.micro_batch_size, 0, 1});
          },
          [=, &input](int64_t direction, int64_t micro_batch) {
            return input.data.batch(kind.independent_data ? step * kind.queries + direction : step, micro_batch,
                                    {queries.train_batch_size, queries.micro_batch_size, 0, 1});
          }};
}

// Over the two global batches that follow `steps` steps.
double loss_after(const ProbeInput& input, Engine& engine, int64_t steps) {
  constexpr int64_t kBatches = 2;
  const StepConfig& kind = input.config.step;
  const BatchConfig& batch = input.batch();
  const int64_t parts = batch.train_batch_size / batch.micro_batch_size,
                first = kind.uses_queries() && kind.independent_data ? steps * kind.queries : steps;
  return engine
      .evaluate(kBatches * parts,
                [&](int64_t index) {
                  return Engine::EvaluationBatch{
                      input.data.batch(first + index / parts, index % parts, {batch.train_batch_size, batch.micro_batch_size, 0, 1}), true};
                })
      .loss;
}

// NaN where a step has found a loss or a gradient that is not finite.
double loss_at(const ProbeInput& input, const Config& config, int64_t steps, double& start) {
  const std::unique_ptr<Engine> engine = make_probe_engine(input, config, input.model);
  if (std::isnan(start)) start = loss_after(input, *engine, steps);
  try {
    for (int64_t step = 0; step < steps; ++step) {
      const StepResult result = engine->train_step(step, batches_of(input, step));
      for (const std::optional<double>& loss : {result.loss, result.bp_loss})
        if (loss && !std::isfinite(*loss)) return kNaN;
    }
  } catch (const NonFiniteError&) {
    return kNaN;
  }
  return loss_after(input, *engine, steps);
}

}  // namespace

RateCurve rate_curve(const ProbeInput& input, ProbedSteps tried, double epsilon, int64_t steps) {
  constexpr double kRates[] = {1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1, 3, 10, 30, 100};
  constexpr double kWorse = 1.02;  // times the loss at the start: more than a batch or a type's rounding does
  Config c = input.config;
  c.scheduler = {};
  if (c.step.uses_queries()) c.step.epsilon = epsilon;
  RateCurve out{kNaN, {}};
  int worse = 0;
  for (double rate : kRates) {
    input.progress(fmt::format("{} {:g}: {} steps ...", tried == ProbedSteps::Backprop ? "step.bp_lr" : "learning rate", rate, steps));
    c.optimizer.lr = tried == ProbedSteps::Backprop ? 0 : rate;
    if (tried != ProbedSteps::All) c.step.bp_lr = tried == ProbedSteps::Backprop ? rate : 0;
    const double loss = loss_at(input, c, steps, out.start);
    out.rates.push_back({rate, loss});
    worse = loss <= kWorse * out.start ? 0 : worse + 1;
    if (worse == 2) break;
  }
  return out;
}

std::optional<RecommendedRate> recommended_rate(const RateCurve& curve) {
  const auto gain = [&](const RateLoss& row) { return std::isfinite(row.loss) ? curve.start - row.loss : -kInfinity; };
  const auto best =
      std::max_element(curve.rates.begin(), curve.rates.end(), [&](const auto& a, const auto& b) { return gain(a) < gain(b); });
  if (best == curve.rates.end() || !(gain(*best) > 0)) return std::nullopt;
  const auto good = std::find_if(curve.rates.begin(), best, [&](const RateLoss& row) { return gain(row) >= kNearlyAsMuch * gain(*best); });
  const bool has_lower = good != curve.rates.begin() && gain(*std::prev(good)) > 0;
  return RecommendedRate{has_lower ? std::prev(good)->lr : good->lr, good->lr, best->lr};
}

}  // namespace zerostep
