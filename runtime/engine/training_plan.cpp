#include "runtime/engine/training_plan.h"

#include <algorithm>

#include "base/error.h"
#include "runtime/optim/optimizer.h"
#include "runtime/strategy/make_strategy.h"

namespace zerostep {
namespace {

// Evaluation runs in the rings that training has.
bool fits(const Plan& evaluate, const Plan& train) {
  for (size_t g = 0; g < train.parameter_ring_of.size(); ++g)
    if (evaluate.parameter_ring_of[g] != train.parameter_ring_of[g]) return false;
  for (size_t r = 0; r < train.parameter_rings.size(); ++r)
    if (evaluate.parameter_rings[r].num_slots > train.parameter_rings[r].num_slots) return false;
  return true;
}

}  // namespace

TrainingPlan plan_training(const Config& config, const ModelDefinition& model, const Objective& objective, int world) {
  const ZeroConfig& zero = config.zero;
  LayoutOptions layout_options;
  layout_options.stage = zero.stage;
  layout_options.shard_ranks = world;
  layout_options.compute_type = config.precision.compute;
  layout_options.persistence_threshold = zero.stage3_param_persistence_threshold;
  layout_options.model_persistence_threshold = zero.stage3_model_persistence_threshold;
  layout_options.max_slice_elements = std::min(zero.reduce_bucket_size, zero.allgather_bucket_size);
  layout_options.round_robin = zero.round_robin_gradients;
  layout_options.trainable = config.model.trainable;

  PlanOptions options;
  options.stage = zero.stage;
  options.world = world;
  options.overlap = zero.overlap_comm && world > 1;
  options.max_live_parameters = zero.stage3_max_live_parameters;
  options.max_reuse_distance = zero.stage3_max_reuse_distance;
  options.prefetch_bucket = zero.stage3_prefetch_bucket_size;
  options.reduce_bucket = zero.reduce_bucket_size;
  options.allgather_bucket = zero.allgather_bucket_size;
  options.sub_group = zero.sub_group_size;
  options.communication_type = world > 1 ? config.communication_data_type : DType::F32;
  options.reduce_scatter = zero.reduce_scatter;
  options.allgather_partitions = zero.allgather_partitions;
  options.contiguous_gradients = zero.contiguous_gradients;
  options.optimizer_state_values = Optimizer::state_values(config.optimizer);

  TrainingPlan out{ModelLayout::make(model.units(), layout_options), {}, {}};
  const auto strategy = make_strategy(config, out.layout, objective);
  out.train = make_plan(out.layout, strategy->visits(static_cast<int>(config.batch.accumulation_steps)), options);

  PlanOptions evaluation = options;
  evaluation.update = false;
  const std::vector<Visit> visits = evaluation_visits(static_cast<int>(out.layout.units.size()));
  out.evaluate = make_plan(out.layout, visits, evaluation);
  if (!fits(out.evaluate, out.train)) {
    evaluation.prefetch_bucket = 0;
    evaluation.max_live_parameters = 0;
    out.evaluate = make_plan(out.layout, visits, evaluation);
    if (!fits(out.evaluate, out.train)) fail_protocol("[plan] evaluation needs more slots than training");
  }
  return out;
}

}  // namespace zerostep
