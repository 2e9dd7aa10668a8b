#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/config/schema.h"
#include "tests/runtime/support/config_file.h"

// Configurations with offload blocks as other projects have them: the keys and values, not the texts, of the files that are named. Each
// means what it says, and each key has its effect or is reported.
namespace zerostep {
namespace {

using nlohmann::json;

struct OffloadFile {
  std::string name, text = "";
  Tier parameters, state;
  std::function<void(const Config&)> check = [](const Config&) {};
  std::vector<std::string> warned = {};  // words of the reasons for what has no effect
  bool is_strict = true;
};

// What LLaMA-Factory, LLaVA and others have of fp16 beside bf16.
const std::string kFp16 =
    R"("fp16": {"enabled": "auto", "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16, "hysteresis": 2, "min_loss_scale": 1})";
const std::string kAutoBatch =
    R"("train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto", "gradient_clipping": "auto")";
const std::string kAutoStage3 =
    R"("contiguous_gradients": true, "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto", "stage3_param_persistence_threshold": "auto")";
const std::string kOnHost =
    R"("offload_optimizer": {"device": "cpu", "pin_memory": true}, "offload_param": {"device": "cpu", "pin_memory": true})";
const std::string kAutoAdamW =
    R"("optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}})";
const std::string kAutoWarmup =
    R"("scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": "auto", "warmup_max_lr": "auto", "warmup_num_steps": "auto"}})";

std::vector<OffloadFile> offload_files() {
  std::vector<OffloadFile> out;
  const auto add = [&](OffloadFile file, const std::string& text) {
    file.text = text;
    out.push_back(std::move(file));
  };
  add({.name = "LLaMA-Factory ds_z2_offload_config.json",
       .parameters = Tier::Device,
       .state = Tier::Host,
       .check =
           [](const Config& c) {
             EXPECT_EQ(c.zero.stage, 2);
             EXPECT_TRUE(c.zero.round_robin_gradients);
             EXPECT_FALSE(c.zero.overlap_comm);
             EXPECT_EQ(c.zero.allgather_bucket_size, 500000000);
           },
       .warned = {"every optimizer works at every stage", "use comms_logger", "use csv_monitor"}},
      "{" + kAutoBatch + R"(, "zero_allow_untested_optimizer": true, )" + kFp16 + R"(, "bf16": {"enabled": "auto"},
      "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": true}, "allgather_partitions": true,
        "allgather_bucket_size": 5e8, "overlap_comm": false, "reduce_scatter": true, "reduce_bucket_size": 5e8,
        "contiguous_gradients": true, "round_robin_gradients": true},
      "comms_config": {"verbose": false},
      "monitor_config": {"enabled": true, "tag": "DeepSpeedMonitor", "csv_monitor": {"enabled": false}}})");
  add({.name = "LLaMA-Factory ds_z3_offload_config.json",
       .parameters = Tier::Host,
       .state = Tier::Host,
       .check =
           [](const Config& c) {
             EXPECT_TRUE(c.zero.offload_param.pin_memory && c.zero.offload_optimizer.pin_memory);
             EXPECT_EQ(c.zero.sub_group_size, 1000000000);
           },
       .warned = {"an export always writes whole weights"}},
      "{" + kAutoBatch + R"(, "zero_allow_untested_optimizer": true, )" + kFp16 + R"(, "bf16": {"enabled": "auto"},
      "zero_optimization": {"stage": 3, )" +
          kOnHost + R"(, "overlap_comm": false, "sub_group_size": 1e9, )" + kAutoStage3 + R"(,
        "stage3_max_live_parameters": 1e9, "stage3_max_reuse_distance": 1e9, "stage3_gather_16bit_weights_on_model_save": true}})");
  add({.name = "LLaMA-Factory ds_z3_partial_offload_config.json",
       .parameters = Tier::Device,
       .state = Tier::Host,
       .check = [](const Config& c) { EXPECT_FALSE(c.zero.offload_optimizer.pin_memory); },
       .warned = {"there is one optimizer, ours"}},
      "{" + kAutoBatch + R"(, "zero_force_ds_cpu_optimizer": true, )" + kFp16 + R"(, "bf16": {"enabled": "auto"},
      "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu", "pin_memory": false}, "overlap_comm": false,
        "sub_group_size": 1e9, )" +
          kAutoStage3 + R"(, "stage3_max_live_parameters": 1e9, "stage3_max_reuse_distance": 1e9}})");
  add({.name = "LLaMA-Factory ds_z3_alst_config.json, without its sequence_parallel",
       .parameters = Tier::Host,
       .state = Tier::Host,
       .check = [](const Config& c) { EXPECT_EQ(c.precision.compute, DType::BF16); },
       .warned = {"bf16 has the range of fp32", "nothing is cast"}},
      R"({"train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto", "gradient_clipping": "auto",
      "zero_optimization": {"stage": 3, "overlap_comm": true, "sub_group_size": 1e9, )" +
          kAutoStage3 + ", " + kOnHost + R"(},
      "bf16": {"enabled": true, "auto_cast": false, "loss_scale": 0, "initial_scale_power": 16, "loss_scale_window": 1000,
        "hysteresis": 2, "min_loss_scale": 1}, )" +
          kAutoAdamW + ", " + kAutoWarmup + R"(, "comms_logger": {"enabled": false}})");
  add({.name = "LLaVA zero3_offload.json",
       .parameters = Tier::Host,
       .state = Tier::Host,
       .check =
           [](const Config& c) {
             EXPECT_EQ(c.precision.compute, DType::BF16);
             EXPECT_EQ(c.scheduler.type, SchedulerConfig::Type::WarmupLR);
             EXPECT_EQ(c.steps_per_print, 100000);
             EXPECT_EQ(c.optimizer.lr, 5e-5);
           }},
      "{" + kFp16 + R"(, "bf16": {"enabled": true}, )" + kAutoAdamW + ", " + kAutoWarmup + R"(,
      "zero_optimization": {"stage": 3, )" +
          kOnHost + R"(, "overlap_comm": true, "sub_group_size": 1e9, )" + kAutoStage3 + R"(,
        "stage3_max_live_parameters": 1e9, "stage3_max_reuse_distance": 1e9, "gather_16bit_weights_on_model_save": true},
      "steps_per_print": 1e5, "wall_clock_breakdown": false, )" +
          kAutoBatch + "}");
  add({.name = "transformers ds_config_zero3.json",
       .parameters = Tier::Host,
       .state = Tier::Host,
       .check =
           [](const Config& c) {
             EXPECT_EQ(c.precision.compute, DType::F16);
             EXPECT_EQ(c.zero.sub_group_size, 100000000000000);
             EXPECT_EQ(c.zero.reduce_bucket_size, 0);
             EXPECT_EQ(c.zero.stage3_prefetch_bucket_size, 0);
             EXPECT_EQ(c.optimizer.beta1, 0.8);
             EXPECT_EQ(c.scheduler.warmup_num_steps, 500);
           },
       .warned = {"stage3_gather_fp16_weights_on_model_save is deprecated"}},
      R"({"fp16": {"enabled": true, "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16, "hysteresis": 2, "min_loss_scale": 1},
      "zero_optimization": {"stage": 3, )" +
          kOnHost + R"(, "overlap_comm": true, "contiguous_gradients": true, "sub_group_size": 1e14, "reduce_bucket_size": 0,
        "stage3_prefetch_bucket_size": 0, "stage3_param_persistence_threshold": 0, "stage3_max_live_parameters": 1e9,
        "stage3_max_reuse_distance": 1e9, "stage3_gather_fp16_weights_on_model_save": true},
      "optimizer": {"type": "AdamW", "params": {"lr": 3e-5, "betas": [0.8, 0.999], "eps": 1e-8, "weight_decay": 3e-7}},
      "scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": 0, "warmup_max_lr": 3e-5, "warmup_num_steps": 500}},
      "steps_per_print": 2000, "wall_clock_breakdown": false, "train_batch_size": 8})");
  add({.name = "transformers ds_config_zero2.json",
       .parameters = Tier::Device,
       .state = Tier::Host,
       .check = [](const Config& c) { EXPECT_EQ(c.zero.reduce_bucket_size, 200000000); }},
      "{" + kFp16 + R"(, "bf16": {"enabled": "auto"}, )" + kAutoAdamW + ", " + kAutoWarmup + R"(,
      "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": true}, "allgather_partitions": true,
        "allgather_bucket_size": 2e8, "overlap_comm": true, "reduce_scatter": true, "reduce_bucket_size": 2e8,
        "contiguous_gradients": true}, "steps_per_print": 2000, "wall_clock_breakdown": false, )" +
          kAutoBatch + "}");
  add({.name = "axolotl zero3_bf16_cpuoffload_all.json",
       .parameters = Tier::Host,
       .state = Tier::Host,
       .check =
           [](const Config& c) {
             EXPECT_EQ(c.zero.sub_group_size, 0);
             EXPECT_EQ(c.zero.stage3_max_live_parameters, 0);
             EXPECT_EQ(c.zero.stage3_max_reuse_distance, 0);
           }},
      R"({"zero_force_ds_cpu_optimizer": false, "zero_allow_untested_optimizer": true, "bf16": {"enabled": true},
      "zero_optimization": {"stage": 3, )" +
          kOnHost + R"(, "overlap_comm": true, "sub_group_size": 0, )" + kAutoStage3 + R"(,
        "max_live_parameters": 0, "max_reuse_distance": 0, "gather_16bit_weights_on_model_save": true},
      "wall_clock_breakdown": false, )" +
          kAutoBatch + "}");
  add({.name = "axolotl zero3_bf16_cpuoffload_params.json", .parameters = Tier::Host, .state = Tier::Device},
      R"({"zero_force_ds_cpu_optimizer": false, "zero_allow_untested_optimizer": true, "bf16": {"enabled": true},
      "zero_optimization": {"stage": 3, "offload_param": {"device": "cpu", "pin_memory": true}, "overlap_comm": true, "sub_group_size": 0, )" +
          kAutoStage3 + R"(, "max_live_parameters": 0, "max_reuse_distance": 0, "gather_16bit_weights_on_model_save": true}, )" +
          kAutoBatch + "}");
  add({.name = "axolotl zero3_cpuoffload.json", .parameters = Tier::Host, .state = Tier::Host},
      R"({"zero_optimization": {"stage": 3, )" + kOnHost + R"(, "overlap_comm": true, "sub_group_size": 0, )" + kAutoStage3 + R"(,
        "stage3_max_live_parameters": 0, "stage3_max_reuse_distance": 0, "stage3_gather_16bit_weights_on_model_save": true},
      "bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto", "auto_cast": false, "loss_scale": 0, "initial_scale_power": 32,
        "loss_scale_window": 1000, "hysteresis": 2, "min_loss_scale": 1}, )" +
          kAutoBatch + "}");
  add({.name = "DeepSpeedExamples ds_zero_stage_infinity_config.json",
       .parameters = Tier::File,
       .state = Tier::File,
       .check =
           [](const Config& c) {
             EXPECT_EQ(c.zero.offload_param.nvme_paths, std::vector<std::string>{"/nvme_data"});
             EXPECT_EQ(c.zero.offload_param.max_in_cpu, 1);
             EXPECT_FALSE(c.zero.offload_optimizer.pipeline_read || c.zero.offload_optimizer.pipeline_write);
             EXPECT_EQ(c.zero.offload_optimizer.buffer_count, 4);
             EXPECT_EQ(c.aio.options.queue_depth, 16);
             EXPECT_EQ(c.aio.options.intra_op_parallelism, 2);
             EXPECT_EQ(c.zero.sub_group_size, 100000000);
             EXPECT_TRUE(c.wall_clock_breakdown);
           },
       .warned = {"stage3_param_persitance_threshold", "stage3_param_persistence_threshold"},  // the file's own spelling
       .is_strict = false},
      R"({"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 1, "steps_per_print": 1,
      "zero_optimization": {"stage": 3, "stage3_max_live_parameters": 1e9, "stage3_max_reuse_distance": 1e8,
        "stage3_param_persitance_threshold": 1e5, "stage3_prefetch_bucket_size": 5e7, "contiguous_gradients": true,
        "overlap_comm": true, "reduce_bucket_size": 90000000, "sub_group_size": 1e8,
        "offload_optimizer": {"device": "nvme", "nvme_path": "/nvme_data", "buffer_count": 4, "pipeline_read": false,
          "pipeline_write": false, "pin_memory": true},
        "offload_param": {"device": "nvme", "nvme_path": "/nvme_data", "max_in_cpu": 1, "pin_memory": true}},
      "gradient_clipping": 1.0, "fp16": {"enabled": true, "loss_scale": 1024, "loss_scale_window": 1000, "hysteresis": 2, "min_loss_scale": 1},
      "wall_clock_breakdown": true, "zero_allow_untested_optimizer": false,
      "aio": {"block_size": 1048576, "queue_depth": 16, "single_submit": false, "overlap_events": true, "thread_count": 2}})");
  add({.name = "DeepSpeedExamples ds_zero-offload_10B_config.json",
       .parameters = Tier::Device,
       .state = Tier::Host,
       .check =
           [](const Config& c) {
             EXPECT_TRUE(c.cpu_checkpointing);
             EXPECT_EQ(c.number_checkpoints, -1);
             EXPECT_EQ(c.batch.accumulation_steps, 3);
           },
       .warned = {"cpu_offload is deprecated", "comm_overlap", "it slices activations across model-parallel ranks",
                  "kept inputs leave no gaps"},
       .is_strict = false},
      R"({"train_batch_size": 30, "gradient_accumulation_steps": 3, "steps_per_print": 1,
      "zero_optimization": {"stage": 2, "cpu_offload": true, "comm_overlap": true, "contiguous_gradients": true, "reduce_bucket_size": 50000000},
      "optimizer": {"type": "Adam", "params": {"lr": 0.00015}}, "gradient_clipping": 1.0,
      "fp16": {"enabled": true, "loss_scale": 4096, "loss_scale_window": 1000, "hysteresis": 2, "min_loss_scale": 1},
      "activation_checkpointing": {"partition_activations": true, "contiguous_memory_optimization": true, "cpu_checkpointing": true},
      "wall_clock_breakdown": false})");
  add({.name = "DeepSpeedExamples alpaca-lora-zero3 ds_config.json",
       .parameters = Tier::Host,
       .state = Tier::Host,
       .check =
           [](const Config& c) {
             EXPECT_EQ(c.number_checkpoints, -1);
             EXPECT_FALSE(c.cpu_checkpointing);
             EXPECT_EQ(c.zero.reduce_bucket_size, 10000000);
             EXPECT_EQ(c.precision.initial_scale_power, 8);
           }},
      R"({"fp16": {"enabled": true, "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 8, "hysteresis": 2, "min_loss_scale": 1},
      "optimizer": {"type": "Adam", "params": {"lr": 1e-4}},
      "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": false, )" +
          kOnHost + R"(, "overlap_comm": false, "contiguous_gradients": true, "sub_group_size": 1e8, "stage3_max_live_parameters": 2e8,
        "stage3_max_reuse_distance": 2e8, "stage3_prefetch_bucket_size": 1e8, "stage3_param_persistence_threshold": 1e5,
        "reduce_bucket_size": 1e7},
      "activation_checkpointing": {"partition_activations": false, "cpu_checkpointing": false, "contiguous_memory_optimization": false,
        "number_checkpoints": null, "synchronize_checkpoint_boundary": false, "profile": true},
      "gradient_clipping": 1.0, "train_micro_batch_size_per_gpu": 8, "gradient_accumulation_steps": 1, "steps_per_print": 2000000})");
  return out;
}

// Every leaf of what was given stands in the resolved file, under the schema's own name, "auto" with the value that was found; or a warning
// names it.
void expect_known(const json& given, const json& resolved, const std::string& warnings, const std::string& block = "") {
  for (const auto& [name, value] : given.items()) {
    std::string path = block + name;
    if (value.is_object() && schema::find(path) == nullptr) {
      expect_known(value, resolved, warnings, path + ".");
      continue;
    }
    const bool is_reported = warnings.find(path) != std::string::npos;
    for (const schema::Alias& alias : schema::aliases())
      if (alias.from == path) path = alias.to;
    std::replace(path.begin(), path.end(), '.', '/');
    const json::json_pointer pointer("/" + path);
    const json found = resolved.contains(pointer) ? resolved.at(pointer) : json();
    const bool has_its_effect = value == json("auto") || value.is_null() || found == value || found == json::array({value});
    EXPECT_TRUE(has_its_effect || is_reported) << path << " is " << value << " and became " << found;
  }
}

TEST(ConfigOffloadFiles, OfOtherProjectsMeanWhatTheySay) {
  for (const OffloadFile& file : offload_files()) {
    SCOPED_TRACE(file.name);
    const json given = json::parse(file.text);
    json whole = given;
    whole["model"] = {{"preset", "gpt2-20M"}};
    whole["data"] = {{"train", "corpus.txt"}};
    if (!file.is_strict) whole["strict"] = false;
    const LoadedConfig loaded = load_text(whole.dump(), {}, 2);
    const std::string warnings = warnings_of(loaded);
    EXPECT_EQ(loaded.config.zero.offload_param.tier, file.parameters);
    EXPECT_EQ(loaded.config.zero.offload_optimizer.tier, file.state);
    file.check(loaded.config);
    expect_words(warnings, file.warned);
    expect_known(given, resolved(loaded), warnings);
  }
}

TEST(ConfigOffloadFiles, WhatThisVersionCannotMeanIsRefusedWithItsReason) {
  expect_words(tiny_refusal({R"(sequence_parallel={"enabled": true, "size": 4})"}), {"sequence_parallel", "never split"});
}

}  // namespace
}  // namespace zerostep
