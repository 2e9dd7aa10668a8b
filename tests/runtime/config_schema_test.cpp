#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "models/model.h"
#include "runtime/config/schema.h"
#include "tests/runtime/support/config_file.h"

namespace zerostep {
namespace {

using nlohmann::json;
using schema::Key;
using schema::Kind;
using schema::List;

std::string fingerprint_of_step(const StepConfig& c) {
  std::string s = fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} ", c.mode_name, c.scope, c.is_accuracy, static_cast<int>(c.estimator),
                              static_cast<int>(c.perturbation), c.queries, c.queries_per_pass, c.epsilon, c.rank, c.refresh,
                              c.direction_parallel, c.independent_data);
  s += fmt::format("{} {} {} {} {} {} {} {} {} {} ", c.query_batch.train_batch_size, c.query_batch.micro_batch_size,
                   c.query_batch.accumulation_steps, c.query_sequence_length, c.bp_interval,
                   c.bp_data_name + fmt::format(" {}", c.bp_share), c.zo_steps, c.bp_lr.value_or(-1), c.separate_state, c.blend);
  s += fmt::format("{} {} {} {} {} {} {} {} ", c.monitor_interval, c.exact_norm, c.masters, static_cast<int>(c.transform.kind),
                   c.transform.deviations, c.instruct.energy, c.instruct.cosine, c.instruct.noise_scale);
  for (const auto& schedule : {c.instruct.cosine_schedule, c.instruct.noise_schedule})
    if (schedule)
      s += fmt::format("{} {} {} {} {} ", schedule->start, schedule->end, schedule->threshold, schedule->fall, schedule->increment);
  return s;
}

// Every field of a configuration, as text: two configurations that differ anywhere differ here.
std::string fingerprint(const Config& c) {
  std::string s = fmt::format("{} {} {} {} ", c.seed, c.batch.train_batch_size, c.batch.micro_batch_size, c.batch.accumulation_steps);
  const auto& o = c.optimizer;
  s += fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} ", static_cast<int>(o.type), o.type_name, o.lr, o.beta1, o.beta2, o.eps,
                   o.weight_decay, o.momentum, o.dampening, o.nesterov, o.adam_w_mode, o.bias_correction, o.no_decay);
  s += fmt::format("{} {} {} {} {} ", o.no_muon.value_or(std::vector<std::string>{"embeddings and head"}), o.muon_lr_factor,
                   o.adam_lr_factor, o.match_rms_adamw, o.cautious);
  for (const auto& g : o.groups) s += fmt::format("[{} {} {}] ", g.patterns, g.lr_factor, g.weight_decay.value_or(-1));
  const auto& l = c.scheduler;
  s += fmt::format("{} {} {} {} {} {} {} {} {} ", static_cast<int>(l.type), l.warmup_min_lr, l.warmup_max_lr, l.warmup_num_steps,
                   l.total_num_steps, l.warmup_log, l.warmup_min_ratio, l.cos_min_ratio, l.min_lr_ratio);
  s += fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} ", l.cycle_min_lr, l.cycle_max_lr, l.decay_lr_rate, l.cycle_min_mom,
                   l.cycle_max_mom, l.decay_mom_rate, l.cycle_first_step_size, l.cycle_second_step_size, l.cycle_first_stair_count,
                   l.cycle_second_stair_count, l.decay_step_size, l.cycle_momentum);
  s += fmt::format("{} {} {} {} ", l.lr_range_test_min_lr, l.lr_range_test_step_rate, l.lr_range_test_step_size, l.lr_range_test_staircase);
  const auto& p = c.precision;
  s += fmt::format("{} {} {} {} {} {} {} {} ", name_of(p.compute), p.loss_scale, p.initial_scale_power, p.loss_scale_window, p.hysteresis,
                   p.consecutive_hysteresis, p.min_loss_scale, p.check_overflow);
  const auto& z = c.zero;
  s += fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} ", z.stage, z.contiguous_gradients, z.reduce_scatter,
                   z.allgather_partitions, z.overlap_comm, z.round_robin_gradients, z.reduce_bucket_size, z.allgather_bucket_size,
                   z.sub_group_size, z.stage3_max_live_parameters, z.stage3_max_reuse_distance, z.stage3_prefetch_bucket_size,
                   z.stage3_param_persistence_threshold, z.stage3_model_persistence_threshold, z.ignore_unused_parameters);
  for (const OffloadConfig& offload : {z.offload_param, z.offload_optimizer})
    s += fmt::format("{} {} {} {} {} {} {} {} ", name_of(offload.tier), offload.pin_memory, offload.nvme_paths, offload.buffer_count,
                     offload.ratio, offload.max_in_cpu, offload.pipeline_read, offload.pipeline_write);
  const AioOptions& aio = c.aio.options;
  s += fmt::format("{} {} {} {} {} {} ", aio.block_size, aio.queue_depth, aio.intra_op_parallelism, aio.single_submit, aio.overlap_events,
                   c.aio.verify);
  s += fmt::format("{} ", c.cpu_checkpointing);
  const auto& m = c.model;
  s += fmt::format("{} {} {} {} {} ", m.preset, m.path, m.classifies, make_model(m.options)->hugging_face_config(), m.trainable);
  const auto& d = c.data;
  for (const auto* sources : {&d.train, &d.eval, &d.test, &d.bp_train}) {
    for (const SourceConfig& source : *sources)
      s += fmt::format("{} {} {} {} {} {} {} {};", source.key, source.name, source.files, source.split, source.text, source.skips_missing,
                       source.weight, source.max_documents);
    s += "|";
  }
  s += fmt::format("{} {} {} {} {} {} {} {} {} ", d.catalogue, d.tokenizer, d.sequence_length, d.text_field, d.join_fields, d.label_field,
                   d.max_samples, d.shuffle, d.cache);
  s += fmt::format("{}|{}|{}|{}", d.prompt, d.label_words, d.labels, d.skips_missing);
  const auto& r = c.run;
  s += fingerprint_of_step(c.step);
  s += fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} ", r.name, r.output_dir, r.steps, r.epochs, r.eval_interval, r.evaluates_epochs,
                   r.eval_samples, r.device, r.device_memory, r.deterministic, r.trace, r.collective_timeout_seconds);
  s += fmt::format("{} {} ", r.overwrite, r.plot);
  s += fmt::format("{} {} {} {} {} ", r.checkpoint_interval, r.keep_checkpoints, r.keep_best, r.resume_anyway, r.end_on_checkpoint_error);
  const auto& n = c.monitor;
  for (const auto& series : {n.csv, n.tensorboard}) s += fmt::format("{} {} {} ", series.enabled, series.output_path, series.job_name);
  s += fmt::format("{} {} {} {} {} {} {} {} ", n.comms_enabled, n.comms_verbose, n.flops_enabled, n.flops_profile_step,
                   n.flops_module_depth, n.flops_top_modules, n.flops_detailed, n.flops_output_file);
  s += fmt::format("{} {} {} {} {} {} {} {} {} {}", c.gradient_clipping, c.prescale_gradients, c.gradient_predivide_factor,
                   name_of(c.communication_data_type), c.steps_per_print, c.wall_clock_breakdown, c.memory_breakdown, c.dump_state,
                   c.number_checkpoints, c.profile_checkpointing);
  return s;
}

// Keys of `step` belong to a mode, and some to a value of another key.
std::vector<std::string> setting_of_step(std::string_view path) {
  static const std::map<std::string_view, std::vector<std::string>> with = {
      {"step.rank", {"step.perturbation=low_rank"}},
      {"step.refresh", {"step.perturbation=low_rank"}},
      {"step.direction_parallel", {"step.queries=4"}},
      {"step.scalar_transform", {"step.queries=4", "step.estimator=forward"}},
      {"step.clip_deviations", {"step.queries=4", "step.scalar_transform=clip"}},
      {"step.master_weights", {"bf16.enabled=true"}},
      {"step.bp_share", {"step.bp_data=split"}},
      {"data.bp_train", {"step.bp_data=own", "data.bp_train=first.txt"}}};
  static const std::map<std::string_view, std::string> mode = {{"step.bp_interval", "calibrate"},   {"step.monitor_interval", "calibrate"},
                                                               {"step.bp_batch_size", "calibrate"}, {"step.bp_data", "calibrate"},
                                                               {"step.bp_share", "calibrate"},      {"data.bp_train", "calibrate"},
                                                               {"step.bp_lr", "alternating"},       {"step.zo_steps", "alternating"},
                                                               {"step.state", "alternating"},       {"step.blend", "instruct"}};
  if ((!path.starts_with("step.") && path != "data.bp_train") || path == "step.mode") return {};
  const auto found = mode.find(path);
  std::vector<std::string> set = {"step.mode=" + (found != mode.end()                  ? found->second
                                                  : path.starts_with("step.instruct.") ? "instruct"
                                                                                       : "zo")};
  constexpr std::string_view kSchedule = "step.instruct.schedule.";
  if (path.starts_with(kSchedule))
    set.push_back(std::string(path.substr(0, path.rfind('.'))) +
                  R"(={"start": 0.5, "end": 0.9, "threshold": 4, "fall": 0.5, "increment": 0.1})");
  if (const auto more = with.find(path); more != with.end()) set.insert(set.end(), more->second.begin(), more->second.end());
  return set;
}

// What makes a key meaningful beside itself.
std::vector<std::string> setting_of(const Key& key) {
  std::vector<std::string> set;
  const std::string_view of = key.of;
  if (key.path.starts_with("optimizer.params.") && !of.empty())
    set.push_back(fmt::format("optimizer={{\"type\": \"{}\"}}", schema::split_words(of)[0]));
  if (key.path.starts_with("scheduler.params.")) {
    const std::string_view type = of.empty() ? "WarmupLR" : schema::split_words(of)[0];
    const char* required = type == "OneCycle" ? R"({"cycle_min_lr": 0.5, "cycle_max_lr": 0.75})" : "{}";
    set.push_back(fmt::format(R"(scheduler={{"type": "{}", "params": {}}})", type, required));
  }
  if (key.path.starts_with("model.")) {
    // The first of the families that have it.
    const std::string_view family = key.path == "model.family" ? "llama" : of.empty() ? "gpt2" : schema::split_words(of)[0];
    if (family == "distilbert")
      set.push_back(
          R"(model={"family": "distilbert", "n_layers": 2, "dim": 64, "hidden_dim": 96, "n_heads": 4, "max_position_embeddings": 64})");
    else if (family != "gpt2")
      set.push_back(fmt::format(R"(model={{"family": "{}", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96,)"
                                R"( "num_attention_heads": 4, "max_position_embeddings": 64{}}})",
                                family, family == "bert" ? "" : R"(, "rope_theta": 100)"));
    if (key.path == "model.num_labels") set.push_back("model.task=classification");
  }
  if (key.path == "data.template" || key.path == "data.label_words")
    set.insert(set.end(), {"data.template={text} {label}", "data.label_words=[\"a\", \"b\"]"});
  if (key.path == "run.epochs") set.push_back("run.steps=null");
  if (key.path == "run.eval_interval" || key.path == "run.keep_best") set.push_back("data.eval=eval.txt");
  if (key.path == "run.keep_best") set.push_back("run.eval_interval=1");
  if (key.path == "gradient_accumulation_steps") set.push_back("train_batch_size=null");
  if (const size_t at = key.path.find(".offload_"); at != std::string_view::npos || key.path.starts_with("aio.")) {
    const std::string block(at == std::string_view::npos ? "offload_optimizer" : key.path.substr(at + 1, key.path.rfind('.') - at - 1));
    set.push_back(fmt::format(R"(zero_optimization={{"stage": 3, "{}": {{"device": "{}", "nvme_path": "files"}}}})", block,
                              key.path.ends_with(".device") ? "none" : "nvme"));
  }
  for (const std::string& more : setting_of_step(key.path)) set.push_back(more);
  return set;
}

// direction_parallel divides the ranks.
int world_of(const Key& key) { return key.path == "step.direction_parallel" ? 4 : 1; }

// A value that no key has by default or in the tiny file.
std::string other_value(const Key& key, const json& now) {
  static const std::map<std::string_view, std::string> chosen = {
      {"train_batch_size", "12"},
      {"train_micro_batch_size_per_gpu", "4"},
      {"model.family", "qwen2"},
      {"model.n_head", "8"},
      {"model.n_embd", "128"},
      {"model.n_positions", "80"},
      {"data.sequence_length", "40"},
      {"model.hidden_size", "128"},
      {"model.num_attention_heads", "8"},
      {"model.num_key_value_heads", "2"},
      {"model.head_dim", "32"},
      {"model.rope_scaling", R"({"rope_type": "linear", "factor": 4})"},
      {"model.rope_parameters", R"({"rope_type": "linear", "rope_theta": 50, "factor": 2})"},
      {"model.dim", "128"},
      {"model.n_heads", "8"},
      {"model.preset", "gpt2-20M"},
      {"scheduler.params.warmup_num_steps", "7"},
      {"fp16.loss_scale", "64"},
      {"optimizer.type", "Adam"},
      {"data.template", "{text}: {label}"},
      {"data.label_words", R"({"no": "a", "yes": "c"})"},
      {"step.query_batch_size", "12"},
      {"step.bp_batch_size", "12"}};
  if (key.path.starts_with("step.instruct.schedule.")) return key.path.ends_with("end") ? "0.8" : "0.25";
  if (const auto found = chosen.find(key.path); found != chosen.end()) return found->second;
  switch (key.type.kind) {
    case Kind::Bool:
      return now == json(true) ? "false" : "true";
    case Kind::Integer:
      return std::to_string(now.is_number() && now.get<int64_t>() < key.type.high ? now.get<int64_t>() + 3 : key.type.low + 3);
    case Kind::Number:
      return "0.375";
    case Kind::Text:
      return "other";
    case Kind::Texts:
      return "[\"other\"]";
    case Kind::Sources:
      return R"([{"files": "other.jsonl", "text": "{a}"}])";
    case Kind::Pair:
      return "[0.25, 0.5]";
    case Kind::Choice:
      return std::string(schema::split_words(key.type.choices).back());
    case Kind::Anything:
      break;
  }
  return "1";
}

TEST(ConfigSchema, EveryHonouredKeyReachesTheConfiguration) {
  size_t tried = 0;
  for (const Key& key : schema::keys()) {
    if (key.list != List::Honoured || key.path == "strict" || key.path.find("[]") != std::string_view::npos) continue;
    if (key.type.kind == Kind::Choice && schema::split_words(key.type.choices).size() == 1) continue;  // the others are refused
    if (key.path == "data.catalogue") continue;          // needs a file: ConfigSources.NamesOfACatalogueAreSources
    if (key.path == "model.path") continue;              // needs a directory: Config.ADirectorySaysTheModel
    if (key.path == "model.fresh_classifier") continue;  // the same: Config.AFreshClassifierIsAskedForBesideADirectory
    if (key.path == "model.task") continue;              // Config.ADecoderClassifiesWhereTheTaskSaysSo
    std::vector<std::string> set = setting_of(key);
    const LoadedConfig before = load_tiny(set, world_of(key));
    const json all = json::parse(before.resolved_json).flatten();
    std::string pointer = "/" + std::string(key.path);
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    const json now = all.contains(pointer) ? all[pointer] : key.value.empty() ? json() : json::parse(key.value);
    set.push_back(fmt::format("{}={}", key.path, other_value(key, now)));
    const LoadedConfig after = load_tiny(set, world_of(key));
    EXPECT_NE(fingerprint(before.config), fingerprint(after.config)) << set.back();
    expect_words(after.labelled_text, {std::string(key.path) + " = "});
    EXPECT_EQ(load_text(after.resolved_json, {}, world_of(key)).resolved_json, after.resolved_json) << set.back();
    ++tried;
  }
  EXPECT_GT(tried, 140u);
}

// The ends of every integer without a bound of its own load, or are refused by the key's name.
TEST(ConfigSchema, IntegersAtTheirEndsAreTakenOrNamed) {
  size_t tried = 0;
  for (const Key& key : schema::keys()) {
    if (key.list != List::Honoured || key.type.kind != Kind::Integer || key.path.find("[]") != std::string_view::npos) continue;
    std::vector<std::string> set = setting_of(key);
    set.emplace_back();
    for (const int64_t value : {key.type.low, key.type.high}) {
      set.back() = fmt::format("{}={}", key.path, value);
      try {
        load_tiny(set, world_of(key));
      } catch (const InputError& error) {
        const std::string_view name = key.path.substr(key.path.rfind('.') + 1);
        EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << set.back() << ": " << error.what();
      }
      ++tried;
    }
  }
  EXPECT_GT(tried, 80U);
}

// Of a refused key, a value that is not harmless.
std::string refused_value(const Key& key) {
  if (key.harmless == "off") return "{\"enabled\": true}";
  if (key.type.kind == Kind::Anything) return "{\"something\": true}";
  if (key.harmless == "[true]") return "false";
  if (key.type.kind == Kind::Choice) return std::string(schema::split_words(key.type.choices).back());
  if (key.type.kind == Kind::Integer) return "1000";
  return other_value(key, json());
}

TEST(ConfigSchema, EveryRefusedKeyIsRefusedAndItsHarmlessValuesAreNot) {
  for (const Key& key : schema::keys()) {
    if (key.list != List::Refused || key.path.find("[]") != std::string_view::npos) continue;
    std::vector<std::string> set = setting_of(key);
    set.push_back(fmt::format("{}={}", key.path, refused_value(key)));
    const std::string said = tiny_refusal(set);
    expect_words(said, {fmt::format("{} is ", key.path), std::string(key.meaning)});
    set.pop_back();
    for (const json& harmless : key.harmless.starts_with('[') ? json::parse(key.harmless) : json::array()) {
      set.push_back(fmt::format("{}={}", key.path, harmless.dump()));
      EXPECT_NO_THROW(load_tiny(set)) << set.back();
      set.pop_back();
    }
    if (key.harmless != "off") continue;
    const LoadedConfig off = load_tiny({fmt::format("{}={{\"enabled\": false, \"other\": [1]}}", key.path)});
    expect_words(warnings_of(off), {fmt::format("{} has no effect: the block is not enabled", key.path)});
  }
}

TEST(ConfigSchema, EveryAcceptedKeySaysThatItHasNoEffect) {
  for (const Key& key : schema::keys()) {
    if (key.list != List::Accepted) continue;
    std::vector<std::string> set = setting_of(key);
    const std::string before = fingerprint(load_tiny(set).config);
    set.push_back(fmt::format("{}={}", key.path, key.type.kind == Kind::Integer ? "16" : other_value(key, json(true))));
    const LoadedConfig loaded = load_tiny(set);
    expect_words(warnings_of(loaded), {std::string(key.path) + " has no effect: " + std::string(key.meaning)});
    EXPECT_EQ(fingerprint(loaded.config), before) << key.path;
  }
}

TEST(ConfigSchema, UnknownKeysNameTheirPathAndTheNearest) {
  const std::vector<std::pair<std::string, std::string>> wrong = {{"zero_optimization.stge", "stage"},
                                                                  {"optimizer.params.weigth_decay", "weight_decay"},
                                                                  {"step.quiries", "queries"},
                                                                  {"trian_batch_size", "train_batch_size"},
                                                                  {"fp16.hystersis", "hysteresis"},
                                                                  {"data.sequence_lenght", "sequence_length"},
                                                                  {"stage", "zero_optimization.stage"},
                                                                  {"zero_optimization.lr", "optimizer.params.lr"},
                                                                  {"optimizer.params.learning_rate", "lr"},
                                                                  {"zero_optimisation", "zero_optimization"},
                                                                  {"model.n_lyer", "n_layer"},
                                                                  {"zero_optimization.offload_optimizer.devise", "device"}};
  for (const auto& [path, meant] : wrong) {
    expect_words(tiny_refusal({path + "=1"}), {path + " is not a known key; the nearest is " + meant + ".", "\"strict\": false"});
  }
  const std::string all = tiny_refusal({"zero_optimization.stge=1", "trian_batch_size=1"});
  expect_words(all, {"zero_optimization.stge", "trian_batch_size"});
  EXPECT_EQ(all.find('\n'), std::string::npos);
  json dotted = tiny_config();
  dotted["zero_optimization.stage"] = 3;
  expect_words(refusal_of(dotted.dump()), {"zero_optimization.stage is not a known key"});
  expect_words(tiny_refusal({"comms_logger.zzzzzzzzz=1"}), {"comms_logger holds enabled, verbose"});
}

TEST(ConfigSchema, NotStrictTurnsUnknownKeysIntoWarnings) {
  const LoadedConfig loaded = load_tiny({"zero_optimization.stge=1", "whatever={\"a\": [1]}", "strict=false"});
  expect_words(warnings_of(loaded), {"zero_optimization.stge is not a known key; the nearest is stage; it is not used", "whatever"});
  EXPECT_FALSE(loaded.config.zero.stage);
  expect_words(tiny_refusal({"strict=false", "amp.enabled=true"}), {"amp"});  // refused stays refused
  // Of the monitors that are refused, one can be reached.
  expect_words(tiny_refusal({"wandb.enabled=true"}), {"wandb", "use tensorboard", "wandb sync"});
  expect_words(tiny_refusal({"comet.enabled=true"}), {"comet", "use tensorboard"});
}

TEST(ConfigSchema, EveryKeyIsInOneListAndListed) {
  std::set<std::string_view> paths;
  const std::string listed = describe_keys();
  for (const Key& key : schema::keys()) {
    EXPECT_TRUE(paths.insert(key.path).second) << key.path << " stands twice";
    EXPECT_FALSE(key.meaning.empty()) << key.path;
    EXPECT_NE(listed.find(fmt::format("{}  {}  ", key.path, name_of(key.list))), std::string::npos) << key.path;
    EXPECT_TRUE(key.value.empty() || json::accept(key.value)) << key.path;
    EXPECT_TRUE(!key.harmless.starts_with('[') || json::accept(key.harmless)) << key.path;
  }
  for (const schema::Alias& alias : schema::aliases()) {
    EXPECT_TRUE(paths.contains(alias.to) || schema::is_block(alias.to)) << alias.to;
    EXPECT_FALSE(paths.contains(alias.from)) << alias.from;
  }
  for (const schema::ContextRule& rule : schema::context_rules()) {
    for (std::string_view path : schema::split_words(rule.keys)) EXPECT_TRUE(paths.contains(path)) << path;
  }
}

// Whoever reads the list of keys learns which kinds of files they are for, and where results are to be found.
TEST(ConfigSchema, KeysOfDataNameTheKindsOfFiles) {
  const auto meaning = [](std::string_view path) { return schema::find(path)->meaning; };
  for (const std::string_view path : {"data.train", "data.text_field", "data.missing"})
    for (const char* kind : {".jsonl", ".parquet", ".arrow", "folders"})
      EXPECT_NE(meaning(path).find(kind), std::string_view::npos) << path << ": " << kind;
  for (const char* kind : {".txt", ".bin", ".tsv", ".csv", ".gz", ".zst"})
    EXPECT_NE(meaning("data.train").find(kind), std::string_view::npos) << kind;
  EXPECT_NE(meaning("data.eval[].name").find("column eval_loss.NAME"), std::string_view::npos);
  EXPECT_EQ(meaning("data.test[].name").find("eval_loss"), std::string_view::npos);
  EXPECT_NE(meaning("data.test[].name").find("test.json"), std::string_view::npos);
}

// The keys that files of DeepSpeed and of the projects that use it hold.
TEST(ConfigSchema, KnowsTheKeysOfRealFiles) {
  const char* top =
      "train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps gradient_clipping prescale_gradients "
      "gradient_predivide_factor communication_data_type "
      "steps_per_print wall_clock_breakdown memory_breakdown dump_state seed gradient_allreduce_op managed_gradient_accumulation "
      "sparse_gradients "
      "seq_parallel_communication_data_type disable_allgather dataloader_drop_last zero_allow_untested_optimizer "
      "zero_force_ds_cpu_optimizer log_level graph_harvesting "
      "vocabulary_size amp torch_autocast compile elasticity autotuning data_efficiency curriculum_learning progressive_layer_drop "
      "eigenvalue quantize_training "
      "compression_training weight_quantization sparse_attention pipeline tensor_parallel sequence_parallel_size expert_parallel "
      "use_data_before_expert_parallelism "
      "hybrid_engine wandb comet nebula datastates_ckpt timers allgather_size comms_config monitor_config _comment use_dynamic_tiling";
  const char* zero =
      "stage contiguous_gradients reduce_scatter reduce_bucket_size allgather_bucket_size allgather_partitions overlap_comm "
      "round_robin_gradients sub_group_size "
      "stage3_max_live_parameters stage3_max_reuse_distance stage3_prefetch_bucket_size stage3_param_persistence_threshold "
      "stage3_model_persistence_threshold "
      "stage3_gather_16bit_weights_on_model_save memory_efficient_linear ignore_unused_parameters load_from_fp32_weights "
      "zero_hpz_partition_size mics_shard_size "
      "zero_quantized_weights zero_quantized_gradients use_multi_rank_bucket_allreduce elastic_checkpoint zenflow "
      "cpu_offload_use_pin_memory "
      "stage3_module_granularity_threshold stage3_use_all_reduce_for_fetch_params stage3_allgather_sequential legacy_stage1 "
      "zero_quantized_nontrainable_weights "
      "zeropp_loco_param mics_hierarchical_params_gather pipeline_loading_checkpoint override_module_apply log_trace_cache_warnings "
      "enable_sanity_checks "
      "save_muon_momentum_buffer_in_memory leaf_module grad_hooks offload_param.device offload_param.nvme_path offload_param.pin_memory "
      "offload_param.buffer_count "
      "offload_param.buffer_size offload_param.max_in_cpu offload_optimizer.device offload_optimizer.nvme_path "
      "offload_optimizer.pin_memory "
      "offload_optimizer.buffer_count offload_optimizer.fast_init offload_optimizer.pipeline_read offload_optimizer.pipeline_write "
      "offload_optimizer.ratio "
      "offload_optimizer.super_offload offload_optimizer.cpuadam_cores_perc";
  const char* step =
      "mode scope queries queries_per_pass epsilon estimator perturbation rank direction_parallel refresh query_data query_batch_size "
      "query_sequence_length bp_interval "
      "bp_batch_size bp_data bp_lr blend zo_steps state master_weights scalar_transform clip_deviations exact_norm monitor_interval "
      "instruct.kind "
      "instruct.cosine instruct.noise_scale instruct.schedule.cosine.start instruct.schedule.cosine.end "
      "instruct.schedule.cosine.threshold instruct.schedule.cosine.fall instruct.schedule.cosine.increment "
      "instruct.schedule.noise_scale.start instruct.schedule.noise_scale.end instruct.schedule.noise_scale.threshold "
      "instruct.schedule.noise_scale.fall instruct.schedule.noise_scale.increment";
  const char* rest =
      "data_types.grad_accum_dtype data_types.param_dtype data_types.buffer_dtype optimizer.type optimizer.params.no_decay "
      "optimizer.params.max_grad_norm "
      "optimizer.params.torch_adam optimizer.params.fp32_optimizer_states optimizer.legacy_fusion scheduler.type fp16.enabled "
      "fp16.auto_cast fp16.fp16_master_weights_and_grads "
      "bf16.enabled bf16.check_grad_overflow bf16.immediate_grad_update bf16.bf16_master_weights_and_grads bf16.bf16_optimizer_states "
      "activation_checkpointing.partition_activations activation_checkpointing.cpu_checkpointing "
      "activation_checkpointing.contiguous_memory_optimization "
      "activation_checkpointing.number_checkpoints activation_checkpointing.synchronize_checkpoint_boundary "
      "activation_checkpointing.profile aio.block_size aio.queue_depth "
      "aio.single_submit aio.overlap_events aio.intra_op_parallelism aio.use_gds aio.verify tensorboard.enabled tensorboard.output_path "
      "tensorboard.job_name "
      "csv_monitor.enabled csv_monitor.output_path csv_monitor.job_name flops_profiler.enabled comms_logger.enabled "
      "checkpoint.tag_validation checkpoint.load_universal "
      "checkpoint.use_node_local_storage checkpoint.parallel_write checkpoint.writer checkpoint.checkpoint_serialization "
      "checkpoint.on_error model.preset model.family "
      "model.path model.vocab_size model.pad_token_id model.n_layers model.dim model.hidden_dim model.n_heads model.sinusoidal_pos_embds "
      "model.attention_dropout model.seq_classif_dropout model.dropout model.task model.num_labels model.fresh_classifier model.trainable "
      "data.train data.eval data.test data.catalogue data.train[].weight data.eval[].name "
      "data.text_field "
      "data.tokenizer data.sequence_length "
      "data.bp_train data.template data.label_words data.max_samples data.shuffle data.cache run.name run.output_dir run.steps run.epochs "
      "run.eval_interval run.eval_samples "
      "run.checkpoint_interval run.keep_checkpoints run.keep_best run.device run.device_memory run.deterministic run.trace "
      "run.collective_timeout_seconds "
      "run.resume_anyway run.overwrite data.missing environment env local_rank";
  for (const auto& [prefix, names] :
       {std::pair("", top), std::pair("zero_optimization.", zero), std::pair("step.", step), std::pair("", rest)}) {
    std::istringstream words(names);
    for (std::string name; words >> name;) EXPECT_NE(schema::find(prefix + name), nullptr) << prefix << name;
  }
}

}  // namespace
}  // namespace zerostep
