#include "launch/fit_planner.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/engine/prediction.h"
#include "runtime/engine/training_cost.h"
#include "runtime/plan/plan_hash.h"

namespace zerostep {
namespace {

constexpr int64_t kPlannedMicroBatches = 8;

// A step with fewer micro-batches: those beyond a few are like the ones before, take no more memory and each as long.
Config with_micro_batches(Config config, int64_t most) {
  BatchConfig& batch = config.batch;
  if (config.step.uses_queries() || batch.accumulation_steps <= most) return config;
  batch.train_batch_size = batch.train_batch_size / batch.accumulation_steps * most;
  batch.accumulation_steps = most;
  return config;
}

// What `needed` goes beyond `capacity`.
TierBytes beyond(const TierBytes& needed, const TierBytes& capacity) {
  return {std::max<int64_t>(0, needed.device - capacity.device), std::max<int64_t>(0, needed.host - capacity.host),
          std::max<int64_t>(0, needed.file - capacity.file)};
}

}  // namespace

Config FitPlanner::config_of(const FitCandidate& candidate) const {
  ConfigRequest asked{request_.arguments.file, request_.arguments.set, request_.world, request_.arguments.text};
  for (const FitSetting& setting : result_.settings(candidate)) asked.set.push_back({setting.text(), request_.asked_by()});
  Config out = load_config(asked).config;
  out.run.device = subject_.config().run.device;
  return out;
}

TrainingPlan FitPlanner::plan_of(const Config& config) const {
  return plan_training(config, *subject_.model, *subject_.objective, request_.world);
}

std::optional<FitPlanner::Planned> FitPlanner::plan(const FitCandidate& candidate) {
  ++num_planned_;
  try {
    Config config = config_of(candidate);
    Config few = with_micro_batches(config, kPlannedMicroBatches);
    TrainingPlan training = plan_of(few);
    return Planned{std::move(config), std::move(few), std::move(training)};
  } catch (const InputError& error) {
    why_not_ = error.what();
    return {};
  }
}

void FitPlanner::identify(const Planned& planned, FitCandidate& candidate) {
  const BatchConfig& batch = planned.config.batch;
  candidate.plan_hash.clear();
  for (const NamedPlan& named : planned.training.plans()) candidate.plan_hash += plan_hash(*named.plan);
  candidate.plan_hash += fmt::format(" of {} micro-batches of {}", batch.accumulation_steps, batch.micro_batch_size);
}

void FitPlanner::judge(const Planned& planned, const TierBytes& capacity, WorkspaceMeter* meter, FitCandidate& candidate) const {
  const int64_t multiprocessors = request_.machine == nullptr ? 0 : request_.machine->multiprocessors;
  const PlanCost cost = training_cost(planned.few, planned.training, *subject_.model, *subject_.objective, meter, multiprocessors);
  const int64_t host = cost.host_peak_bytes + staging_bytes(planned.few, planned.training, meter != nullptr);
  const bool shared = request_.includes_host;
  candidate.needed = {cost.device_needed_bytes() + (shared ? host : 0), shared ? 0 : host, cost.file_peak_bytes};
  candidate.lacks = beyond(candidate.needed, capacity);
}

void FitPlanner::predict(const Planned& planned, FitCandidate& candidate) const {
  if (request_.machine == nullptr) return;
  const auto predicted = [&](int64_t most, const TrainingPlan& plan) {
    return predict_training(with_micro_batches(planned.config, most), plan, *subject_.model, *subject_.objective, *request_.machine);
  };
  const Prediction prediction = predicted(kPlannedMicroBatches, planned.training);
  candidate.step_seconds = prediction.step_seconds;
  candidate.tokens_per_second = prediction.tokens_per_second;
  candidate.bound_by = name_of(prediction.bound_by);
  const int64_t all = planned.config.batch.accumulation_steps;
  if (planned.config.step.uses_queries() || all <= kPlannedMicroBatches) return;
  constexpr int64_t kHalf = kPlannedMicroBatches / 2;
  const Prediction half = predicted(kHalf, plan_of(with_micro_batches(planned.config, kHalf)));
  candidate.step_seconds +=
      static_cast<double>(all - kPlannedMicroBatches) * (prediction.step_seconds - half.step_seconds) / static_cast<double>(kHalf);
  candidate.tokens_per_second *= prediction.step_seconds / candidate.step_seconds * static_cast<double>(all) / kPlannedMicroBatches;
}

}  // namespace zerostep
