#include "runtime/checkpoint/run_state.h"

#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "runtime/checkpoint/shard_image.h"

namespace zerostep {

nlohmann::ordered_json progress_json(const TrainingProgress& p) {
  const LossScaler::State& scaler = p.loss_scaler;
  const InstructSchedule::State& schedule = p.instruct_schedule;
  nlohmann::ordered_json lowest;  // null: no mean yet
  if (std::isfinite(schedule.lowest_mean)) lowest = schedule.lowest_mean;
  return {{"applied_steps", p.applied.all()},
          {"applied_by_estimate", p.applied.estimate_steps},
          {"applied_by_gradient", p.applied.gradient_steps},
          {"precision", name_of(p.precision)},
          {"loss_scaler",
           {{"scale", scaler.scale},
            {"iteration", scaler.iteration},
            {"last_overflow", scaler.last_overflow},
            {"hysteresis", scaler.hysteresis}}},
          {"skipped_in_a_row", p.skipped_in_a_row},
          {"instruct_schedule", {{"losses", schedule.losses}, {"next", schedule.next}, {"lowest_mean", lowest}}}};
}

TrainingProgress progress_of(const CheckpointReader& checkpoint) {
  const nlohmann::ordered_json& j = checkpoint.manifest().engine;
  try {
    TrainingProgress p;
    p.applied.estimate_steps = j.at("applied_by_estimate").get<int64_t>();
    p.applied.gradient_steps = j.at("applied_by_gradient").get<int64_t>();
    const auto precision = j.at("precision").get<std::string>();
    for (const DType type : {DType::F32, DType::BF16, DType::F16})
      if (precision == name_of(type)) p.precision = type;
    const auto& scaler = j.at("loss_scaler");
    p.loss_scaler = {scaler.at("scale").get<double>(), scaler.at("iteration").get<int64_t>(), scaler.at("last_overflow").get<int64_t>(),
                     scaler.at("hysteresis").get<int>()};
    p.skipped_in_a_row = j.value("skipped_in_a_row", int64_t{0});
    const auto& schedule = j.at("instruct_schedule");
    const auto& lowest = schedule.at("lowest_mean");
    p.instruct_schedule = {schedule.at("losses").get<std::vector<double>>(), schedule.at("next").get<int64_t>(),
                           lowest.is_null() ? std::numeric_limits<double>::infinity() : lowest.get<double>()};
    return p;
  } catch (const nlohmann::json::exception& error) {
    fail_input("{}/{}: the checkpoint is damaged: engine: {}", checkpoint.directory(), Manifest::kFile, error.what());
  }
}

ParameterReader parameters_of(const CheckpointReader& checkpoint) {
  return [&checkpoint](const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) {
    checkpoint.read(parameter.name, StatePiece::kValues, begin, count, out);
  };
}

void check_holds(const CheckpointReader& checkpoint, const ModelDefinition& model, const TrainingPlan* plan) {
  std::map<const ParameterInfo*, int> arrays;
  if (plan != nullptr)
    for (int rank = 0; rank < plan->any_step().options.world; ++rank)
      for (const StatePiece& s : owned_state(*plan, rank)) arrays[s.parameter] = std::max(arrays[s.parameter], s.array + 1);
  std::map<std::string, int> named_counts;
  for (const auto& [parameter, count] : arrays) named_counts[parameter->name] = count;
  for (const UnitInfo& unit : model.units())
    for (const ParameterInfo& p : unit.parameters) {
      if (!checkpoint.contains(p.name, StatePiece::kValues, p.num_elements()))
        fail_input("{}: the checkpoint does not hold the {} elements of {}: it is of another model", checkpoint.directory(),
                   p.num_elements(), p.name);
      if (plan == nullptr) continue;
      const int found = checkpoint.arrays_of(p.name), expected = named_counts[p.name];
      if (found != expected)
        fail_input(
            "{}: the optimizer kept {} values for each element of {}, this run's keeps {}: resume with the optimizer, model.trainable and "
            "step.state that the checkpoint has",
            checkpoint.directory(), found, p.name, expected);
      for (int k = 0; k < found; ++k)
        if (!checkpoint.contains(p.name, k, p.num_elements()))
          fail_input("{}: the checkpoint does not hold all of the optimizer's state of {}", checkpoint.directory(), p.name);
    }
}

void restore(Engine& engine, const CheckpointReader& checkpoint) {
  engine.restore(progress_of(checkpoint), [&](const ParameterInfo& parameter, int array, int64_t begin, int64_t count, float* out) {
    checkpoint.read(parameter.name, array, begin, count, out);
  });
}

int64_t staging_bytes(const Config& config, const TrainingPlan& plan, bool is_exact) {
  if (config.run.checkpoint_interval == 0 && !config.run.keep_best) return 0;
  const Plan& step = plan.any_step();
  int64_t most = 0;
  // Rank 0's share has no padding, but another rank may own larger matrices, or more pieces, which the header names.
  for (int rank = 0; rank < (is_exact || !step.matrices.empty() ? step.options.world : 1); ++rank)
    most = std::max(most, ShardImage::file_bytes(owned_state(plan, rank)));
  return most;
}

}  // namespace zerostep
