#include "runtime/config/schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/nth.h"

namespace zerostep::schema {
namespace {

constexpr Alias kAliases[] = {
    {"bfloat16", "bf16"},
    {"zero_optimization.prefetch_bucket_size", "zero_optimization.stage3_prefetch_bucket_size"},
    {"zero_optimization.param_persistence_threshold", "zero_optimization.stage3_param_persistence_threshold"},
    {"zero_optimization.model_persistence_threshold", "zero_optimization.stage3_model_persistence_threshold"},
    {"zero_optimization.max_live_parameters", "zero_optimization.stage3_max_live_parameters"},
    {"zero_optimization.max_reuse_distance", "zero_optimization.stage3_max_reuse_distance"},
    {"zero_optimization.gather_16bit_weights_on_model_save", "zero_optimization.stage3_gather_16bit_weights_on_model_save"},
    {"zero_optimization.module_granularity_threshold", "zero_optimization.stage3_module_granularity_threshold"},
    {"zero_optimization.use_all_reduce_for_fetch_params", "zero_optimization.stage3_use_all_reduce_for_fetch_params"},
    {"zero_optimization.allgather_sequential", "zero_optimization.stage3_allgather_sequential"},
    {"aio.thread_count", "aio.intra_op_parallelism"},
    {"zero_optimization.stage3_gather_fp16_weights_on_model_save", "zero_optimization.stage3_gather_16bit_weights_on_model_save", true},
    {"zero_optimization.cpu_offload", "zero_optimization.offload_optimizer", true, true},
    {"zero_optimization.cpu_offload_param", "zero_optimization.offload_param", true, true},
};

constexpr ContextRule kContextRules[] = {
    {"zero_optimization.reduce_scatter", Context::StageNot1Or2, "stage 0 always all-reduces, stage 3 never does"},
    {"zero_optimization.round_robin_gradients", Context::StageBelow1, "gradients are all-reduced whole"},
    {"zero_optimization.stage3_max_live_parameters|zero_optimization.stage3_max_reuse_distance|zero_optimization.stage3_prefetch_bucket_"
     "size|"
     "zero_optimization.stage3_param_persistence_threshold|zero_optimization.stage3_model_persistence_threshold",
     Context::StageBelow3, "parameters are whole on every rank"},
    {"zero_optimization.allgather_partitions|zero_optimization.allgather_bucket_size", Context::StageNot1Or2,
     "only stages 1 and 2 gather all updated parameters"},
    {"gradient_predivide_factor", Context::PrescaledGradients, "gradients are divided by the world size before the sum"},
    {"fp16.loss_scale|fp16.initial_scale_power|fp16.loss_scale_window|fp16.hysteresis|fp16.consecutive_hysteresis|fp16.min_loss_scale",
     Context::Fp16Off, "nothing is scaled"},
    {"bf16.check_grad_overflow", Context::Bf16Off, "a gradient that is not finite ends a run in fp32, and its step is skipped in fp16"},
    {"fp16.initial_scale_power|fp16.loss_scale_window|fp16.hysteresis|fp16.consecutive_hysteresis|fp16.min_loss_scale",
     Context::StaticLossScale, "the loss scale is static"},
    {"optimizer.params.adam_w_mode", Context::AdamWGiven, "AdamW always decouples its weight decay"},
    {"scheduler.params.cycle_momentum|scheduler.params.cycle_min_mom|scheduler.params.cycle_max_mom|scheduler.params.decay_mom_rate",
     Context::SgdScheduled, "OneCycle moves betas, and SGD has none"},
    {"step.queries|step.queries_per_pass|step.epsilon|step.estimator|step.perturbation|step.rank|step.refresh|step.direction_parallel|"
     "step.objective|step.query_data|step.query_batch_size|step.query_sequence_length|step.master_weights|step.scalar_transform|"
     "step.clip_deviations|step.exact_norm|"
     "step.bp_data|step.bp_share|step.bp_batch_size|data.bp_train",
     Context::FirstOrderOnly, "backprop alone makes no queries"},
    {"step.bp_interval|step.monitor_interval", Context::NoIntervals, "only calibrate and instruct have intervals"},
    {"step.bp_lr|step.zo_steps|step.state", Context::NotAlternating, "only alternating has two kinds of steps in turn"},
    {"step.blend|step.instruct.kind|step.instruct.cosine|step.instruct.noise_scale|step.instruct.schedule.cosine.start|"
     "step.instruct.schedule.cosine.end|step.instruct.schedule.cosine.threshold|step.instruct.schedule.cosine.fall|"
     "step.instruct.schedule.cosine.increment|step.instruct.schedule.noise_scale.start|step.instruct.schedule.noise_scale.end|"
     "step.instruct.schedule.noise_scale.threshold|step.instruct.schedule.noise_scale.fall|step.instruct.schedule.noise_scale.increment",
     Context::NotInstructed, "only mode instruct makes directions of a gradient"},
    {"step.rank|step.refresh", Context::NotLowRank, "the directions have full rank"},
    {"step.clip_deviations", Context::NotClipped, "the scalar transform does not clip"},
    {"step.monitor_interval", Context::Instructed, "every backprop step makes queries and measures their cosine"},
    {"activation_checkpointing.number_checkpoints|activation_checkpointing.profile|activation_checkpointing.cpu_checkpointing",
     Context::ForwardOnly, "forward passes keep no activations, so there are none to recompute"},
    {"prescale_gradients|gradient_predivide_factor|communication_data_type|zero_optimization.reduce_scatter|"
     "zero_optimization.contiguous_gradients",
     Context::ForwardOnly, "no gradient is made"},
    {"fp16.loss_scale|fp16.initial_scale_power|fp16.loss_scale_window|fp16.hysteresis|fp16.consecutive_hysteresis|fp16.min_loss_scale",
     Context::ForwardOnly, "only gradients need a loss scale"},
    {"bf16.check_grad_overflow", Context::ForwardOnly, "there are only losses to check, and a step whose losses are not finite is skipped"},
    {"model.dropout|model.resid_pdrop|model.embd_pdrop|model.attn_pdrop|model.hidden_dropout_prob|model.attention_probs_dropout_prob",
     Context::ForwardOnly, "both sides of a difference are taken without dropout"},
    {"csv_monitor.output_path|csv_monitor.job_name", Context::CsvMonitorOff, "the monitor is off"},
    {"tensorboard.output_path|tensorboard.job_name", Context::TensorBoardOff, "nothing is written for TensorBoard"},
    {"comms_logger.verbose", Context::CommsLoggerOff, "the log of communication is off"},
    {"flops_profiler.profile_step|flops_profiler.module_depth|flops_profiler.top_modules|flops_profiler.detailed|flops_profiler.output_"
     "file",
     Context::FlopsProfilerOff, "the profiler is off"},
    {"zero_optimization.offload_param.pin_memory", Context::ParametersNotOffloaded, "parameters rest on the device"},
    {"zero_optimization.offload_param.nvme_path|zero_optimization.offload_param.buffer_count|zero_optimization.offload_param.max_in_cpu",
     Context::ParametersNotInFiles, "parameters rest in memory"},
    {"zero_optimization.offload_optimizer.pin_memory|zero_optimization.offload_optimizer.ratio", Context::StateNotOffloaded,
     "the optimizer's state rests on the device"},
    {"zero_optimization.offload_optimizer.nvme_path|zero_optimization.offload_optimizer.buffer_count|zero_optimization.offload_optimizer."
     "pipeline_read|zero_optimization.offload_optimizer.pipeline_write",
     Context::StateNotInFiles, "the optimizer's state rests in memory"},
    {"aio.block_size|aio.queue_depth|aio.single_submit|aio.overlap_events|aio.intra_op_parallelism|aio.verify", Context::NothingInFiles,
     "nothing rests in files"},
    {"data.missing", Context::NoRowsWithFields, "only their rows can lack a field"},
    {"step.bp_share", Context::NotSplit, "backprop does not share data.train with the queries"},
};

std::vector<Key> make_keys() {
  std::vector<Key> all;
  add_training_keys(all);
  add_zero_keys(all);
  add_own_keys(all);
  add_source_keys(all);
  add_foreign_keys(all);
  return all;
}

struct Index {
  std::map<std::string_view, const Key*> paths;
  std::map<std::string_view, std::vector<std::string_view>> names;  // block -> names in it
  Index() {
    for (const Key& key : keys()) {
      paths.emplace(key.path, &key);
      add(key.path);
    }
    for (const Alias& alias : aliases()) add(alias.from);
  }
  void add(std::string_view path) {
    const size_t dot = path.rfind('.');
    const std::string_view block = dot == std::string_view::npos ? std::string_view{} : path.substr(0, dot);
    std::string_view name = dot == std::string_view::npos ? path : path.substr(dot + 1);
    if (name.ends_with("[]")) name.remove_suffix(2);
    auto& in_block = names[block];
    if (std::find(in_block.begin(), in_block.end(), name) != in_block.end()) return;
    in_block.push_back(name);
    if (!block.empty()) add(block);
  }
};

const Index& index() {
  static const Index one;
  return one;
}

}  // namespace

std::span<const Key> keys() {
  static const std::vector<Key> all = make_keys();
  return all;
}
std::span<const Alias> aliases() { return kAliases; }
std::span<const ContextRule> context_rules() { return kContextRules; }

const Key* find(std::string_view path) {
  const auto found = index().paths.find(path);
  return found == index().paths.end() ? nullptr : found->second;
}

bool is_of_watching(std::string_view path) {
  constexpr std::array kBeginnings = std::to_array<std::string_view>(
      {"csv_monitor.", "tensorboard.", "comms_logger.", "flops_profiler.", "checkpoint.", "steps_per_print", "wall_clock_breakdown",
       "memory_breakdown", "dump_state", "run.plot", "run.trace", "run.overwrite", "run.resume_anyway", "run.checkpoint_interval",
       "run.keep_checkpoints", "run.keep_best", "run.collective_timeout_seconds"});
  return std::any_of(kBeginnings.begin(), kBeginnings.end(), [&](std::string_view beginning) { return path.starts_with(beginning); });
}

bool is_block(std::string_view path) { return index().names.contains(path); }

bool is_known(std::string_view path) {
  if (find(path) != nullptr || is_block(path) || is_block(fmt::format("{}[]", path))) return true;
  return std::any_of(aliases().begin(), aliases().end(), [&](const Alias& alias) {
    if (!path.starts_with(alias.from)) return false;
    const std::string_view rest = path.substr(alias.from.size());
    return rest.empty() || (rest.front() == '.' && is_known(fmt::format("{}{}", alias.to, rest)));
  });
}

std::vector<std::string_view> names_in(std::string_view block) {
  const auto found = index().names.find(block);
  return found == index().names.end() ? std::vector<std::string_view>{} : found->second;
}

std::string_view path_of_name(std::string_view name) {
  const auto in = [name](std::string_view path) {
    return path == name || (path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
  };
  for (const Key& key : keys()) {
    if (in(key.path)) return key.path;
  }
  for (const Alias& alias : aliases()) {
    if (in(alias.from)) return alias.from;
  }
  for (const auto& [block, unused] : index().names) {
    if (!block.empty() && in(block)) return block;
  }
  return {};
}

std::vector<std::string_view> split_words(std::string_view words) {
  std::vector<std::string_view> parts;
  while (!words.empty()) {
    const size_t bar = words.find('|');
    parts.push_back(words.substr(0, bar));
    words = bar == std::string_view::npos ? std::string_view{} : words.substr(bar + 1);
  }
  return parts;
}

bool has_word(std::string_view words, std::string_view word) {
  const auto parts = split_words(words);
  return std::find(parts.begin(), parts.end(), word) != parts.end();
}

std::string_view name_of(List list) {
  constexpr std::array<std::string_view, 3> kNames{"honoured", "accepted", "refused"};
  return nth(kNames, static_cast<int>(list));
}

std::string_view name_of(Context context) {
  // In the order of Context.
  constexpr std::array<std::string_view, static_cast<size_t>(Context::NotSplit) + 1> kNames{
      "at zero_optimization.stage 0",
      "at zero_optimization.stage below 3",
      "at zero_optimization.stage 0 or 3",
      "while fp16.enabled is false",
      "while bf16.enabled is false",
      "while fp16.loss_scale is not 0",
      "while csv_monitor.enabled is false",
      "while tensorboard.enabled is false",
      "while comms_logger.enabled is false",
      "while flops_profiler.enabled is false",
      "while prescale_gradients is true",
      "with optimizer.type AdamW",
      "with optimizer.type SGD",
      "in step.mode fo",
      "in step.mode fo, zo and alternating",
      "unless step.mode is alternating",
      "unless step.mode is instruct",
      "unless step.perturbation is low_rank",
      "unless step.scalar_transform is clip",
      "in step.mode zo",
      "in step.mode instruct",
      "while zero_optimization.offload_param.device is none",
      "unless zero_optimization.offload_param.device is nvme",
      "while zero_optimization.offload_optimizer.device is none",
      "unless zero_optimization.offload_optimizer.device is nvme",
      "unless an offload block's device is nvme",
      "while data names no .jsonl, .parquet or .arrow file and no folder of save_to_disk",
      "unless step.bp_data is split",
  };
  return nth(kNames, static_cast<int>(context));
}

namespace {

std::string bounds(const std::string& low, const std::string& high, bool has_low, bool has_high, bool open_low, bool open_high) {
  std::string text;
  if (has_low && has_high && !open_low && !open_high) return fmt::format(" from {} to {}", low, high);
  if (has_low) text += fmt::format(" {} {}", open_low ? "above" : "from", low);
  if (has_low && !open_low && !has_high) text += " up";
  if (has_high) text += fmt::format(" {} {}", open_high ? "below" : "up to", high);
  return text;
}

std::string number_bounds(const Type& type) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  return bounds(fmt::format("{}", type.min), fmt::format("{}", type.max), type.min != -kNone, type.max != kNone, type.open_min,
                type.open_max);
}

}  // namespace

std::string describe(const Type& type) {
  std::string text = [&]() -> std::string {
    switch (type.kind) {
      case Kind::Bool:
        return "true or false";
      case Kind::Integer: {
        constexpr auto kLow = std::numeric_limits<int64_t>::min(), kHigh = std::numeric_limits<int64_t>::max();
        return "an integer" +
               bounds(fmt::format("{}", type.low), fmt::format("{}", type.high), type.low != kLow, type.high != kHigh, false, false) +
               (type.word.empty() ? "" : fmt::format(", or \"{}\"", type.word));
      }
      case Kind::Number:
        return "a number" + number_bounds(type);
      case Kind::Text:
        return "a string";
      case Kind::Choice: {
        const auto choices = split_words(type.choices);
        std::string listed = choices.size() == 1 ? "" : "one of ";
        for (size_t i = 0; i < choices.size(); ++i) listed += fmt::format("{}\"{}\"", i == 0 ? "" : ", ", choices[i]);
        return listed;
      }
      case Kind::Texts:
        return "a string or a list of strings";
      case Kind::Pair:
        return "a list of two numbers" + number_bounds(type);
      case Kind::Sources:
        return "a path, glob or name of the catalogue, an object {files, ...}, or a list of these";
      case Kind::Anything:
        return "any value";
    }
    return "?";
  }();
  return type.nullable && type.kind != Kind::Anything ? text + " (or null)" : text;
}

}  // namespace zerostep::schema
