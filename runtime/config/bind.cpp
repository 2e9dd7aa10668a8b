#include "runtime/config/values.h"

namespace zerostep::schema {
namespace {

using Optimizer = OptimizerConfig::Type;
using Scheduler = SchedulerConfig::Type;
using Mode = StepConfig::Mode;

// Each of the texts that the schema permits has its value; the last one's is what is left.
Optimizer optimizer_type(const std::string& name) {
  if (name == "Adam") return Optimizer::Adam;
  if (name == "SGD") return Optimizer::SGD;
  if (name == "Lion") return Optimizer::Lion;
  if (name == "Muon") return Optimizer::Muon;
  if (name == "MuDaMW") return Optimizer::MuDaMW;
  return Optimizer::AdamW;
}

Scheduler scheduler_type(const std::string& name) {
  if (name == "WarmupLR") return Scheduler::WarmupLR;
  if (name == "WarmupDecayLR") return Scheduler::WarmupDecayLR;
  if (name == "WarmupCosineLR") return Scheduler::WarmupCosineLR;
  if (name == "OneCycle") return Scheduler::OneCycle;
  if (name == "LRRangeTest") return Scheduler::LRRangeTest;
  return Scheduler::Cosine;
}

Mode mode_of(const std::string& name) {
  if (name == "zo") return Mode::ZerothOrder;
  if (name == "calibrate") return Mode::Calibrate;
  if (name == "instruct") return Mode::Instruct;
  if (name == "alternating") return Mode::Alternating;
  return Mode::FirstOrder;
}

DType dtype_of(const std::string& name) { return name == "bf16" ? DType::BF16 : name == "fp16" ? DType::F16 : DType::F32; }

// Values that another type of optimizer or scheduler has stay at the struct's own defaults.
template <typename T>
void take(const Values& v, std::string_view path, T& target) {
  if (const Value* value = v.find(path)) target = value->value.get<T>();
}

OptimizerConfig optimizer_of(const Values& v) {
  OptimizerConfig c;
  c.type_name = v.text("optimizer.type");
  c.type = optimizer_type(c.type_name);
  const std::string p = "optimizer.params.";
  take(v, p + "lr", c.lr);
  if (const Value* betas = v.find(p + "betas")) {
    c.beta1 = betas->value[0].get<double>();
    c.beta2 = betas->value[1].get<double>();
  }
  take(v, p + "eps", c.eps);
  take(v, p + "weight_decay", c.weight_decay);
  take(v, p + "momentum", c.momentum);
  take(v, p + "dampening", c.dampening);
  take(v, p + "nesterov", c.nesterov);
  take(v, p + "adam_w_mode", c.adam_w_mode);
  if (c.type == Optimizer::AdamW) c.adam_w_mode = true;
  take(v, p + "bias_correction", c.bias_correction);
  take(v, p + "no_decay", c.no_decay);
  if (const Value* names = v.find(p + "no_muon")) c.no_muon = names->value.get<std::vector<std::string>>();
  if (const Value* lr = v.find(p + "muon_lr")) c.muon_lr_factor = lr->value.get<double>() / c.lr;
  if (const Value* lr = v.find(p + "adam_lr")) c.adam_lr_factor = lr->value.get<double>() / c.lr;
  if (const Value* adjust = v.find(p + "adjust_lr_fn")) c.match_rms_adamw = adjust->value == "match_rms_adamw";
  take(v, p + "cautious", c.cautious);
  if (const Value* groups = v.find("optimizer.groups")) {
    for (const auto& group : groups->value) {
      OptimizerConfig::Group g;
      g.patterns = group.at("patterns").get<std::vector<std::string>>();
      g.lr_factor = group.value("lr_factor", 1.0);
      if (group.contains("weight_decay")) g.weight_decay = group["weight_decay"].get<double>();
      c.groups.push_back(std::move(g));
    }
  }
  return c;
}

SchedulerConfig scheduler_of(const Values& v) {
  SchedulerConfig c;
  if (!v.has("scheduler.type")) return c;
  c.type = scheduler_type(v.text("scheduler.type"));
  const std::string p = "scheduler.params.";
  take(v, p + "warmup_min_lr", c.warmup_min_lr);
  take(v, p + "warmup_max_lr", c.warmup_max_lr);
  take(v, p + "warmup_num_steps", c.warmup_num_steps);
  take(v, p + "total_num_steps", c.total_num_steps);
  if (v.has(p + "warmup_type")) c.warmup_log = v.text(p + "warmup_type") == "log";
  take(v, p + "warmup_min_ratio", c.warmup_min_ratio);
  take(v, p + "cos_min_ratio", c.cos_min_ratio);
  take(v, p + "min_lr_ratio", c.min_lr_ratio);
  take(v, p + "cycle_min_lr", c.cycle_min_lr);
  take(v, p + "cycle_max_lr", c.cycle_max_lr);
  take(v, p + "decay_lr_rate", c.decay_lr_rate);
  take(v, p + "cycle_min_mom", c.cycle_min_mom);
  take(v, p + "cycle_max_mom", c.cycle_max_mom);
  take(v, p + "decay_mom_rate", c.decay_mom_rate);
  take(v, p + "cycle_first_step_size", c.cycle_first_step_size);
  take(v, p + "cycle_second_step_size", c.cycle_second_step_size);
  take(v, p + "cycle_first_stair_count", c.cycle_first_stair_count);
  take(v, p + "cycle_second_stair_count", c.cycle_second_stair_count);
  take(v, p + "decay_step_size", c.decay_step_size);
  take(v, p + "cycle_momentum", c.cycle_momentum);
  take(v, p + "lr_range_test_min_lr", c.lr_range_test_min_lr);
  take(v, p + "lr_range_test_step_rate", c.lr_range_test_step_rate);
  take(v, p + "lr_range_test_step_size", c.lr_range_test_step_size);
  take(v, p + "lr_range_test_staircase", c.lr_range_test_staircase);
  return c;
}

PrecisionConfig precision_of(const Values& v) {
  PrecisionConfig c;
  c.compute = v.boolean("bf16.enabled") ? DType::BF16 : v.boolean("fp16.enabled") ? DType::F16 : DType::F32;
  take(v, "fp16.loss_scale", c.loss_scale);
  take(v, "fp16.initial_scale_power", c.initial_scale_power);
  take(v, "fp16.loss_scale_window", c.loss_scale_window);
  take(v, "fp16.hysteresis", c.hysteresis);
  take(v, "fp16.consecutive_hysteresis", c.consecutive_hysteresis);
  take(v, "fp16.min_loss_scale", c.min_loss_scale);
  take(v, "bf16.check_grad_overflow", c.check_overflow);
  return c;
}

OffloadConfig offload_of(const Values& v, const std::string& block) {
  OffloadConfig c;
  const std::string p = "zero_optimization.offload_" + block + ".";
  c.tier = offload_tier(v, block);
  take(v, p + "pin_memory", c.pin_memory);
  take(v, p + "nvme_path", c.nvme_paths);
  for (std::string& path : c.nvme_paths) path = expand_home(path).value_or(path);
  take(v, p + "buffer_count", c.buffer_count);
  take(v, p + "max_in_cpu", c.max_in_cpu);
  take(v, p + "pipeline_read", c.pipeline_read);
  take(v, p + "pipeline_write", c.pipeline_write);
  take(v, p + "ratio", c.ratio);
  return c;
}

AioConfig aio_of(const Values& v) {
  AioConfig c;
  take(v, "aio.block_size", c.options.block_size);
  take(v, "aio.queue_depth", c.options.queue_depth);
  take(v, "aio.single_submit", c.options.single_submit);
  take(v, "aio.overlap_events", c.options.overlap_events);
  take(v, "aio.intra_op_parallelism", c.options.intra_op_parallelism);
  take(v, "aio.verify", c.verify);
  return c;
}

ZeroConfig zero_of(const Values& v) {
  ZeroConfig c;
  const std::string p = "zero_optimization.";
  take(v, p + "stage", c.stage);
  take(v, p + "reduce_scatter", c.reduce_scatter);
  take(v, p + "allgather_partitions", c.allgather_partitions);
  take(v, p + "overlap_comm", c.overlap_comm);
  take(v, p + "round_robin_gradients", c.round_robin_gradients);
  take(v, p + "contiguous_gradients", c.contiguous_gradients);
  take(v, p + "reduce_bucket_size", c.reduce_bucket_size);
  take(v, p + "allgather_bucket_size", c.allgather_bucket_size);
  take(v, p + "sub_group_size", c.sub_group_size);
  take(v, p + "stage3_max_live_parameters", c.stage3_max_live_parameters);
  take(v, p + "stage3_max_reuse_distance", c.stage3_max_reuse_distance);
  take(v, p + "stage3_prefetch_bucket_size", c.stage3_prefetch_bucket_size);
  take(v, p + "stage3_param_persistence_threshold", c.stage3_param_persistence_threshold);
  take(v, p + "stage3_model_persistence_threshold", c.stage3_model_persistence_threshold);
  take(v, p + "ignore_unused_parameters", c.ignore_unused_parameters);
  c.offload_param = offload_of(v, "param");
  c.offload_optimizer = offload_of(v, "optimizer");
  return c;
}

BatchConfig batch_of(int64_t samples, int64_t micro_batch, int64_t ranks) {
  return {samples, micro_batch, samples / (micro_batch * ranks)};
}

std::optional<StepConfig::Instruct::Schedule> schedule_of(const Values& v, const std::string& p) {
  if (!v.has(p + "start")) return std::nullopt;
  return StepConfig::Instruct::Schedule{v.number(p + "start"), v.number(p + "end"), v.number(p + "threshold"), v.number(p + "fall"),
                                        v.number(p + "increment")};
}

StepConfig step_of(const Values& v, int64_t micro_batch, int world) {
  StepConfig c;
  const std::string p = "step.";
  c.mode_name = v.text(p + "mode");
  c.mode = mode_of(c.mode_name);
  take(v, p + "scope", c.scope);
  c.is_accuracy = v.text(p + "objective") == "accuracy";
  if (!c.uses_queries()) return c;
  c.estimator = v.text(p + "estimator") == "forward" ? StepConfig::Estimator::Forward : StepConfig::Estimator::Central;
  const std::string kind = v.text(p + "perturbation");
  c.perturbation = kind == "rademacher" ? StepConfig::Perturbation::Rademacher
                   : kind == "low_rank" ? StepConfig::Perturbation::LowRank
                                        : StepConfig::Perturbation::Gaussian;
  take(v, p + "queries", c.queries);
  take(v, p + "queries_per_pass", c.queries_per_pass);
  take(v, p + "epsilon", c.epsilon);
  take(v, p + "rank", c.rank);
  take(v, p + "refresh", c.refresh);
  take(v, p + "direction_parallel", c.direction_parallel);
  c.independent_data = v.text(p + "query_data") == "independent";
  c.query_batch = batch_of(v.integer(p + "query_batch_size"), micro_batch, world / c.direction_parallel);
  c.query_sequence_length = v.integer(p + "query_sequence_length");
  if (c.mode == Mode::Calibrate || c.mode == Mode::Instruct) take(v, p + "bp_interval", c.bp_interval);
  c.bp_data_name = v.text(p + "bp_data");
  c.bp_data = c.bp_data_name == "own"     ? StepConfig::BackpropData::Own
              : c.bp_data_name == "split" ? StepConfig::BackpropData::Split
                                          : StepConfig::BackpropData::Same;
  take(v, p + "bp_share", c.bp_share);
  if (c.mode == Mode::Alternating) {
    take(v, p + "zo_steps", c.zo_steps);
    if (v.has(p + "bp_lr")) c.bp_lr = v.number(p + "bp_lr");
    c.separate_state = v.text(p + "state") == "separate";
  }
  take(v, p + "blend", c.blend);
  take(v, p + "monitor_interval", c.monitor_interval);
  take(v, p + "exact_norm", c.exact_norm);
  c.masters = v.text(p + "master_weights") == "fp32";
  const std::string transform = v.text(p + "scalar_transform");
  c.transform.kind = transform == "clip"            ? StepConfig::Transform::Kind::Clip
                     : transform == "normalise"     ? StepConfig::Transform::Kind::Normalise
                     : transform == "leave_one_out" ? StepConfig::Transform::Kind::LeaveOneOut
                                                    : StepConfig::Transform::Kind::None;
  take(v, p + "clip_deviations", c.transform.deviations);
  c.instruct.energy = v.text(p + "instruct.kind") == "energy";
  take(v, p + "instruct.cosine", c.instruct.cosine);
  take(v, p + "instruct.noise_scale", c.instruct.noise_scale);
  c.instruct.cosine_schedule = schedule_of(v, p + "instruct.schedule.cosine.");
  c.instruct.noise_schedule = schedule_of(v, p + "instruct.schedule.noise_scale.");
  return c;
}

ModelConfig model_of(const Values& v) {
  ModelConfig c;
  const std::string p = "model.";
  take(v, p + "preset", c.preset);
  take(v, p + "path", c.path);
  c.classifies = v.text("model.task") == "classification";
  take(v, p + "fresh_classifier", c.fresh_classifier);
  c.options = model_options_of(v);
  take(v, p + "trainable", c.trainable);
  return c;
}

DataConfig data_of(const Values& v) {
  DataConfig c;
  const std::string p = "data.";
  c.train = v.sources(p + "train");
  c.eval = v.sources(p + "eval");
  c.test = v.sources(p + "test");
  c.bp_train = v.sources(p + "bp_train");
  take(v, p + "catalogue", c.catalogue);
  take(v, p + "tokenizer", c.tokenizer);
  c.sequence_length = v.integer(p + "sequence_length");
  take(v, p + "text_field", c.text_field);
  take(v, p + "join_fields", c.join_fields);
  c.skips_missing = v.text(p + "missing") == "skip";
  take(v, p + "label_field", c.label_field);
  take(v, p + "max_samples", c.max_samples);
  take(v, p + "shuffle", c.shuffle);
  take(v, p + "cache", c.cache);
  take(v, p + "template", c.prompt);
  if (v.has(p + "label_words")) {
    const nlohmann::json& words = v.at(p + "label_words");
    for (const auto& [label, word] : words.items()) {
      if (words.is_object()) c.labels.push_back(label);
      c.label_words.push_back(word.get<std::string>());
    }
  }
  return c;
}

RunConfig run_of(const Values& v) {
  RunConfig c;
  const std::string p = "run.";
  take(v, p + "name", c.name);
  c.is_named = v.given(p + "name");
  take(v, p + "overwrite", c.overwrite);
  take(v, p + "output_dir", c.output_dir);
  take(v, p + "steps", c.steps);
  take(v, p + "epochs", c.epochs);
  c.evaluates_epochs = v.at(p + "eval_interval").is_string();
  if (!c.evaluates_epochs) take(v, p + "eval_interval", c.eval_interval);
  take(v, p + "eval_samples", c.eval_samples);
  take(v, p + "device", c.device);
  take(v, p + "device_memory", c.device_memory);
  take(v, p + "deterministic", c.deterministic);
  take(v, p + "trace", c.trace);
  take(v, p + "plot", c.plot);
  take(v, p + "collective_timeout_seconds", c.collective_timeout_seconds);
  take(v, p + "checkpoint_interval", c.checkpoint_interval);
  take(v, p + "keep_checkpoints", c.keep_checkpoints);
  take(v, p + "keep_best", c.keep_best);
  take(v, p + "resume_anyway", c.resume_anyway);
  c.end_on_checkpoint_error = v.text("checkpoint.on_error") == "end";
  return c;
}

MonitorConfig monitor_of(const Values& v) {
  MonitorConfig c;
  for (const auto& [block, series] :
       {std::pair<std::string, MonitorConfig::Series&>("csv_monitor.", c.csv), {"tensorboard.", c.tensorboard}}) {
    take(v, block + "enabled", series.enabled);
    take(v, block + "output_path", series.output_path);
    take(v, block + "job_name", series.job_name);
  }
  take(v, "comms_logger.enabled", c.comms_enabled);
  take(v, "comms_logger.verbose", c.comms_verbose);
  take(v, "flops_profiler.enabled", c.flops_enabled);
  take(v, "flops_profiler.profile_step", c.flops_profile_step);
  take(v, "flops_profiler.module_depth", c.flops_module_depth);
  take(v, "flops_profiler.top_modules", c.flops_top_modules);
  take(v, "flops_profiler.detailed", c.flops_detailed);
  take(v, "flops_profiler.output_file", c.flops_output_file);
  return c;
}

}  // namespace

Config bind(const Values& v, int world) {
  Config c;
  take(v, "seed", c.seed);
  c.batch = {v.integer("train_batch_size"), v.integer("train_micro_batch_size_per_gpu"), v.integer("gradient_accumulation_steps")};
  c.optimizer = optimizer_of(v);
  c.scheduler = scheduler_of(v);
  c.precision = precision_of(v);
  c.zero = zero_of(v);
  c.model = model_of(v);
  c.data = data_of(v);
  c.step = step_of(v, c.batch.micro_batch_size, world);
  if (c.step.uses_backprop() && c.step.uses_queries()) c.batch = batch_of(v.integer("step.bp_batch_size"), c.batch.micro_batch_size, world);
  c.run = run_of(v);
  c.monitor = monitor_of(v);
  c.aio = aio_of(v);
  take(v, "gradient_clipping", c.gradient_clipping);
  take(v, "prescale_gradients", c.prescale_gradients);
  take(v, "gradient_predivide_factor", c.gradient_predivide_factor);
  if (v.has("communication_data_type")) c.communication_data_type = dtype_of(v.text("communication_data_type"));
  take(v, "steps_per_print", c.steps_per_print);
  take(v, "wall_clock_breakdown", c.wall_clock_breakdown);
  take(v, "memory_breakdown", c.memory_breakdown);
  take(v, "dump_state", c.dump_state);
  if (c.step.uses_backprop()) {
    take(v, "activation_checkpointing.number_checkpoints", c.number_checkpoints);
    take(v, "activation_checkpointing.profile", c.profile_checkpointing);
    take(v, "activation_checkpointing.cpu_checkpointing", c.cpu_checkpointing);
  }
  return c;
}

}  // namespace zerostep::schema
