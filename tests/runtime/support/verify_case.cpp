#include "tests/runtime/support/verify_case.h"

namespace zerostep::testing {

TrainingPlan plan_of(const PlanCase& c, ZerothOrderCase& test) {
  test = ZerothOrderCase::tiny(c.mode);
  Config& config = test.config;
  config.zero.stage = c.stage;
  config.zero.overlap_comm = c.overlap;
  config.zero.stage3_max_live_parameters = c.live;
  config.zero.stage3_prefetch_bucket_size = c.prefetch;
  config.zero.reduce_bucket_size = config.zero.allgather_bucket_size = c.bucket;
  config.step.bp_interval = c.mode == StepConfig::Mode::Calibrate || c.mode == StepConfig::Mode::Instruct ? 2 : config.step.bp_interval;
  config.step.monitor_interval = c.mode == StepConfig::Mode::Calibrate ? 2 : 0;
  const int64_t micro = ZerothOrderCase::kMicroBatch, all = micro * c.world * c.accumulation;
  config.batch = config.step.query_batch = {all, micro, c.accumulation};
  if (c.kind == PlanKind::SixteenBit || c.kind == PlanKind::SixteenBitMessages) config.precision.compute = DType::BF16;
  if (c.kind == PlanKind::SixteenBitMessages) config.communication_data_type = DType::BF16;
  if (c.kind == PlanKind::Muon) config.optimizer.type = OptimizerConfig::Type::Muon;
  if (c.kind == PlanKind::Recompute) config.number_checkpoints = 2;
  if (c.kind == PlanKind::HostCheckpoints) {
    test.model.n_layer = 5;
    config.number_checkpoints = -1;
    config.cpu_checkpointing = true;
  }
  if (c.kind == PlanKind::LowRank) config.step.perturbation = StepConfig::Perturbation::LowRank;
  if (c.kind == PlanKind::NoReduceScatter) config.zero.reduce_scatter = false;
  if (c.kind == PlanKind::OwnGradients) config.zero.contiguous_gradients = false;
  if (c.kind == PlanKind::Host || c.kind == PlanKind::Files || c.kind == PlanKind::InBackward || c.kind == PlanKind::OneBuffer) {
    const Tier tier = c.kind == PlanKind::Host ? Tier::Host : Tier::File;
    if (c.stage == 3) config.zero.offload_param.tier = tier;
    if (c.stage > 0) config.zero.offload_optimizer.tier = tier;
  }
  if (c.kind == PlanKind::GpuHost || c.kind == PlanKind::GpuFiles) {  // parameters that the GPU updates
    config.run.device = "cuda";
    config.optimizer.type = OptimizerConfig::Type::SGD;
    config.optimizer.momentum = 0;
    if (c.stage == 3) config.zero.offload_param.tier = c.kind == PlanKind::GpuHost ? Tier::Host : Tier::File;
  }
  if (c.kind == PlanKind::OneBuffer) {
    config.zero.offload_param.buffer_count = config.zero.offload_optimizer.buffer_count = 1;
    config.zero.offload_optimizer.pipeline_read = config.zero.offload_optimizer.pipeline_write = false;
    config.zero.offload_param.max_in_cpu = 1000;
    config.zero.offload_optimizer.ratio = 0.5;
  }
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  const bool defers = c.kind == PlanKind::Deferred || c.kind == PlanKind::Host || c.kind == PlanKind::Files ||
                      c.kind == PlanKind::GpuHost || c.kind == PlanKind::GpuFiles;
  if (c.kind == PlanKind::InBackward) {
    config.gradient_clipping = 0;
    config.zero.sub_group_size = 200;  // several updates a group
  }
  return plan_training(config, *model, *objective, c.world,
                       c.kind == PlanKind::InBackward ? Updates::InBackward
                       : defers                       ? Updates::Deferred
                                                      : Updates::Immediate);
}

}  // namespace zerostep::testing
