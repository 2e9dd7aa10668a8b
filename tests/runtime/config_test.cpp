#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/runtime/support/config_file.h"

namespace zerostep {
namespace {

using nlohmann::json;

TEST(Config, TheTinyFileMeansWhatItSays) {
  const Config c = load_tiny().config;
  EXPECT_EQ(c.batch.train_batch_size, 8);
  EXPECT_EQ(c.batch.micro_batch_size, 2);
  EXPECT_EQ(c.batch.accumulation_steps, 4);
  EXPECT_EQ(c.seed, 11u);
  EXPECT_EQ(c.optimizer.type, OptimizerConfig::Type::AdamW);
  EXPECT_EQ(c.optimizer.lr, 1e-3);
  EXPECT_EQ(c.optimizer.beta1, 0.9);
  EXPECT_EQ(c.optimizer.beta2, 0.99);
  EXPECT_EQ(c.optimizer.weight_decay, 0.01);
  EXPECT_EQ(c.zero.stage3_param_persistence_threshold, 0);
  EXPECT_EQ(gpt2_of(c).n_embd, 64);
  EXPECT_EQ(gpt2_of(c).n_inner, 0);
  ASSERT_EQ(c.data.train.size(), 1U);
  EXPECT_EQ(c.data.train[0].files, std::vector<std::string>{"corpus.txt"});
  EXPECT_EQ(c.run.steps, 20);
  EXPECT_EQ(c.precision.compute, DType::F32);
}

TEST(Config, Defaults) {
  const Config c = load_text(R"({"train_batch_size": 4, "model": {"n_layer": 2, "n_embd": 8, "n_head": 2, "n_positions": 16}})").config;
  EXPECT_EQ(c.seed, 1234u);
  EXPECT_EQ(c.gradient_clipping, 1.0);
  EXPECT_EQ(c.steps_per_print, 10);
  EXPECT_EQ(c.optimizer.type_name, "AdamW");
  EXPECT_EQ(c.optimizer.lr, 1e-3);
  EXPECT_EQ(c.optimizer.beta2, 0.999);
  EXPECT_EQ(c.optimizer.eps, 1e-8);
  EXPECT_EQ(c.optimizer.weight_decay, 0.0);
  EXPECT_EQ(c.scheduler.type, SchedulerConfig::Type::None);
  EXPECT_EQ(c.zero.stage, 0);
  EXPECT_EQ(c.zero.reduce_bucket_size, 500000000);
  EXPECT_EQ(c.zero.allgather_bucket_size, 500000000);
  EXPECT_EQ(c.zero.sub_group_size, 1000000000);
  EXPECT_EQ(c.zero.stage3_max_live_parameters, 1000000000);
  EXPECT_EQ(c.zero.stage3_max_reuse_distance, 1000000000);
  EXPECT_EQ(c.zero.stage3_prefetch_bucket_size, 50000000);
  EXPECT_EQ(c.zero.stage3_param_persistence_threshold, 100000);
  EXPECT_EQ(c.zero.stage3_model_persistence_threshold, INT64_MAX);
  EXPECT_FALSE(c.zero.overlap_comm);
  EXPECT_EQ(gpt2_of(c).vocab_size, 257);
  EXPECT_EQ(c.data.sequence_length, 16);
  EXPECT_EQ(c.data.cache, "runs/.cache");
  EXPECT_EQ(c.run.steps, 0);
  EXPECT_EQ(c.run.epochs, 1.0);
  EXPECT_EQ(c.precision.initial_scale_power, 16);
  EXPECT_EQ(c.precision.loss_scale_window, 1000);
  EXPECT_EQ(c.precision.hysteresis, 2);
  EXPECT_EQ(c.number_checkpoints, 0);
}

TEST(Config, BatchSizesDeriveEachOther) {
  struct Case {
    const char* given;
    int world;
    int64_t train, micro, steps;
  };
  for (const Case& c :
       {Case{R"("train_batch_size": 24, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 3)", 4, 24, 2, 3},
        Case{R"("train_batch_size": 24, "train_micro_batch_size_per_gpu": 2)", 4, 24, 2, 3},
        Case{R"("train_batch_size": 24, "gradient_accumulation_steps": 3)", 4, 24, 2, 3},
        Case{R"("train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 3)", 4, 24, 2, 3},
        Case{R"("train_batch_size": 24)", 4, 24, 6, 1}, Case{R"("train_micro_batch_size_per_gpu": 2)", 4, 8, 2, 1},
        Case{R"("train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto")", 3, 24, 8, 1},
        Case{R"("train_batch_size": 24, "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": 2)", 3, 24, 4, 2}}) {
    json config = tiny_config();
    config.erase("train_batch_size");
    config.erase("train_micro_batch_size_per_gpu");
    config.update(json::parse("{" + std::string(c.given) + "}"));
    const BatchConfig batch = load_text(config.dump(), {}, c.world).config.batch;
    EXPECT_EQ(batch.train_batch_size, c.train) << c.given;
    EXPECT_EQ(batch.micro_batch_size, c.micro) << c.given;
    EXPECT_EQ(batch.accumulation_steps, c.steps) << c.given;
  }
}

TEST(Config, BatchSizesThatContradictShowTheirArithmetic) {
  expect_words(tiny_refusal({"train_batch_size=9", "gradient_accumulation_steps=2"}), {"9", "2 x gradient_accumulation_steps 2", "= 4"});
  expect_words(tiny_refusal({"train_batch_size=9"}), {"is 9", "size_per_gpu 2", "9 = 4 x 2 + 1"});
  expect_words(tiny_refusal({}, 3), {"is 8", "3 data-parallel ranks", "8 = 1 x 6 + 2"});
  expect_words(tiny_refusal({"train_batch_size=null", "train_micro_batch_size_per_gpu=null"}),
               {"train_batch_size", "train_micro_batch_size_per_gpu", "missing"});
  expect_words(
      tiny_refusal({"train_batch_size=null", "train_micro_batch_size_per_gpu=1000000000", "gradient_accumulation_steps=1000000000"},
                   1000000),
      {"1000000000", "beyond the largest batch"});
  expect_words(tiny_refusal({"train_micro_batch_size_per_gpu=1000000000", "gradient_accumulation_steps=1000000000"}, 1000000),
               {"train_batch_size is 8", "more than"});
}

TEST(Config, LenienciesOfRealFiles) {
  const LoadedConfig loaded = load_text(R"({ // a comment
      "train_batch_size": "8", /* another */ "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": 2,
      "bfloat16": {"enabled": false}, "optimizer": {"type": "AdamW", "params": {"lr": "auto", "weight_decay": "auto"}},
      "zero_optimization": {"stage": 3, "prefetch_bucket_size": 5e7, "stage3_max_live_parameters": "1000000000", "reduce_bucket_size": "auto",
        "stage3_gather_fp16_weights_on_model_save": false, "offload_optimizer": {"device": "none"}},
      "model": {"family": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 257},
      "data": {"train": "corpus.txt", "sequence_length": 32}, "run": {"name": "lenient", "steps": 1.0, "output_dir": "x", "checkpoint_interval": 0},
    })");
  const json r = resolved(loaded);
  EXPECT_EQ(r["train_batch_size"], 8);
  EXPECT_EQ(r["train_micro_batch_size_per_gpu"], 4);
  EXPECT_EQ(r["zero_optimization"]["stage3_prefetch_bucket_size"], 50000000);
  EXPECT_EQ(r["zero_optimization"]["stage3_max_live_parameters"], 1000000000);
  EXPECT_EQ(r["zero_optimization"]["reduce_bucket_size"], 64 * 64);
  EXPECT_EQ(r["run"]["steps"], 1);
  EXPECT_TRUE(r["run"]["steps"].is_number_integer());
  EXPECT_EQ(r["optimizer"]["params"]["lr"], 5e-5);
  EXPECT_TRUE(loaded.config.zero.overlap_comm);
  expect_words(warnings_of(loaded), {"stage3_gather_fp16_weights_on_model_save is deprecated"});
  expect_words(loaded.labelled_text, {"train_micro_batch_size_per_gpu = 4   (auto)", "zero_optimization.overlap_comm = true   (derived)",
                                      "train_batch_size = 8   (given)", "seed = 1234   (default)"});
}

TEST(Config, IntegersAsFloatsAndStrings) {
  const char* key = "zero_optimization.allgather_bucket_size=";
  for (const char* form : {"500", "500.0", "5e2", "\"500\"", "\"5e2\"", "\"500.0\""}) {
    EXPECT_EQ(load_tiny({key + std::string(form)}).config.zero.allgather_bucket_size, 500) << form;
  }
  for (const char* form : {"0.5", "true", "null0", "\"\"", "\"5x\"", "\" 5\"", "\"nan\"", "\"inf\"", "[]", "{}", "1e30",
                           "99999999999999999999", "-1", "0", "\"0x10\""}) {
    expect_words(tiny_refusal({key + std::string(form)}), {"zero_optimization.allgather_bucket_size is", "an integer from 1"});
  }
  EXPECT_EQ(load_tiny({"zero_optimization.stage3_model_persistence_threshold=9223372036854775807"})
                .config.zero.stage3_model_persistence_threshold,
            INT64_MAX);
}

TEST(Config, NamesWithAndWithoutThePrefix) {
  for (const char* name : {"max_live_parameters", "max_reuse_distance", "prefetch_bucket_size", "param_persistence_threshold",
                           "model_persistence_threshold"}) {
    json config = tiny_config();
    config["zero_optimization"] = {{"stage", 3}, {name, 7}};
    EXPECT_EQ(resolved(load_text(config.dump()))["zero_optimization"][std::string("stage3_") + name], 7);
    config["zero_optimization"][std::string("stage3_") + name] = 7;
    expect_words(refusal_of(config.dump()), {std::string("zero_optimization.") + name, std::string("stage3_") + name, "both are given"});
  }
}

TEST(Config, OldForms) {
  json config = tiny_config();
  config["zero_optimization"] = true;
  LoadedConfig loaded = load_text(config.dump());
  EXPECT_EQ(loaded.config.zero.stage, 1);
  expect_words(warnings_of(loaded), {"zero_optimization: true"});
  config["zero_optimization"] = false;
  EXPECT_EQ(load_text(config.dump()).config.zero.stage, 0);
  config["zero_optimization"] = {{"stage", 2}, {"cpu_offload", false}};
  expect_words(warnings_of(load_text(config.dump())), {"cpu_offload is deprecated", "offload_optimizer"});
  config["zero_optimization"] = {{"stage", 2}, {"cpu_offload", true}};
  EXPECT_EQ(load_text(config.dump()).config.zero.offload_optimizer.tier, Tier::Host);
  config["zero_optimization"] = {{"stage", 2}, {"cpu_offload", false}, {"offload_optimizer", {{"device", "none"}}}};
  expect_words(refusal_of(config.dump()), {"cpu_offload", "offload_optimizer", "both are given"});
  config["zero_optimization"] = {{"stage", 2}, {"cpu_offload", "yes"}};
  expect_words(refusal_of(config.dump()), {"cpu_offload is \"yes\"", "true or false"});
  config = tiny_config();
  config["bfloat16"] = {{"enabled", true}};
  EXPECT_EQ(load_text(config.dump()).config.precision.compute, DType::BF16);
  config["bf16"] = {{"enabled", true}};
  expect_words(refusal_of(config.dump()), {"bfloat16", "bf16", "both are given"});
}

TEST(Config, AutoHasATableOfItsOwn) {
  json config = tiny_config();
  config["zero_optimization"] = {{"stage", 3},
                                 {"reduce_bucket_size", "auto"},
                                 {"stage3_prefetch_bucket_size", "auto"},
                                 {"stage3_param_persistence_threshold", "auto"},
                                 {"stage", "auto"}};
  config["zero_optimization"]["stage"] = 3;
  config["scheduler"] = {
      {"type", "WarmupDecayLR"},
      {"params", {{"warmup_min_lr", "auto"}, {"warmup_max_lr", "auto"}, {"warmup_num_steps", "auto"}, {"total_num_steps", "auto"}}}};
  config["optimizer"] = {{"type", "AdamW"}, {"params", {{"lr", "auto"}, {"betas", "auto"}, {"eps", "auto"}, {"weight_decay", "auto"}}}};
  config["fp16"] = {{"enabled", "auto"}};
  config["bf16"] = {{"enabled", "auto"}};
  config["gradient_clipping"] = "auto";
  config["run"]["steps"] = 300;
  const LoadedConfig loaded = load_text(config.dump());
  const Config& c = loaded.config;
  EXPECT_EQ(c.zero.reduce_bucket_size, 64 * 64);
  EXPECT_EQ(c.zero.stage3_prefetch_bucket_size, 3686);  // int(0.9 * 64 * 64)
  EXPECT_EQ(c.zero.stage3_param_persistence_threshold, 640);
  EXPECT_EQ(c.optimizer.lr, 5e-5);
  EXPECT_EQ(c.scheduler.warmup_max_lr, 5e-5);
  EXPECT_EQ(c.scheduler.warmup_min_lr, 0.0);
  EXPECT_EQ(c.scheduler.warmup_num_steps, 1);
  EXPECT_EQ(c.scheduler.total_num_steps, 300);
  EXPECT_EQ(c.precision.compute, DType::F32);
  EXPECT_EQ(c.gradient_clipping, 1.0);
  EXPECT_EQ(loaded.resolved_json.find("\"auto\""), loaded.resolved_json.rfind("\"auto\"")) << "only run.device may say auto";
}

TEST(Config, TypesOfCompute) {
  EXPECT_EQ(load_tiny({"fp16.enabled=true"}).config.precision.compute, DType::F16);
  expect_words(tiny_refusal({"fp16.enabled=true", "bf16.enabled=true"}), {"fp16.enabled", "bf16.enabled"});
  expect_words(tiny_refusal({"fp16.enabled=true", "fp16.initial_scale_power=2", "fp16.min_loss_scale=8"}), {"4", "8"});
  EXPECT_EQ(load_tiny({"fp16.enabled=true", "fp16.initial_scale_power=40", "fp16.hysteresis=1"}).config.precision.initial_scale_power, 40);
}

TEST(Config, TheEndOfARun) {
  EXPECT_EQ(load_tiny({"run.steps=null", "run.epochs=2.5"}).config.run.epochs, 2.5);
  const LoadedConfig neither = load_tiny({"run.steps=null"});
  EXPECT_EQ(neither.config.run.epochs, 1.0);
  expect_words(neither.labelled_text, {"run.epochs = 1.0   (default, neither run.steps nor run.epochs is given)"});
  expect_words(tiny_refusal({"run.epochs=2"}), {"run.epochs is 2", "run.steps is 20"});
  expect_words(tiny_refusal({"run.eval_interval=5"}), {"run.eval_interval", "data.eval"});
  for (const char* name : {"../x", "a/b", ".", "..", "\"\""}) expect_words(tiny_refusal({"run.name=" + std::string(name)}), {"run.name"});
}

TEST(Config, NoStepsAreNoRun) {
  expect_words(tiny_refusal({"run.steps=0"}), {"run.steps is 0", "from 1 up"});
  expect_words(tiny_refusal({"run.steps=null", "run.epochs=0"}), {"run.epochs is 0", "above 0"});
}

TEST(Config, ARunWithoutANameIsNamedByItsModeAndStart) {
  const std::string text = load_tiny({"run.name=null"}).resolved_json;
  EXPECT_FALSE(json::parse(text)["run"].contains("name")) << "no run starts";
  const ConfigFile file(text);
  LoadedConfig loaded = load_config({.file = file.path(), .set = {{"step.mode=zo", ""}}, .started = "20260131-235959"});
  EXPECT_EQ(loaded.config.run.name, "zo-20260131-235959");
  EXPECT_FALSE(loaded.config.run.is_named);
  EXPECT_EQ(resolved(loaded)["run"]["name"], "zo-20260131-235959");
  const std::string before = loaded.labelled_text;
  const json resolved_before = resolved(loaded);
  rename_run(loaded, "another");
  EXPECT_EQ(loaded.config.run.name, "another");
  EXPECT_EQ(resolved(loaded)["run"]["name"], "another");
  expect_words(loaded.labelled_text, {"run.name = \"another\"   (derived, step.mode, date and time of the start)"});
  // All else stays.
  rename_run(loaded, "zo-20260131-235959");
  EXPECT_EQ(loaded.labelled_text, before);
  EXPECT_EQ(resolved(loaded), resolved_before);
  rename_run(loaded, "another");
  EXPECT_TRUE(load_text(loaded.resolved_json).config.run.is_named);
}

TEST(Config, RecomputationInSegments) {
  EXPECT_EQ(load_tiny({"activation_checkpointing.number_checkpoints=3"}).config.number_checkpoints, 3);
  EXPECT_EQ(load_tiny({"activation_checkpointing.partition_activations=true"}).config.number_checkpoints, -1);
  EXPECT_EQ(load_tiny({"activation_checkpointing.partition_activations=false"}).config.number_checkpoints, 0);
  EXPECT_EQ(load_tiny({"activation_checkpointing={\"number_checkpoints\": null, \"profile\": true}"}).config.number_checkpoints, -1);
}

TEST(Config, OffloadThatCannotBeIsRefused) {
  const auto refused = [](const std::string& block, const std::vector<std::string>& words) {
    expect_words(tiny_refusal({"zero_optimization=" + block}), words);
  };
  refused(R"({"stage": 2, "offload_param": {"device": "cpu"}})", {"offload_param.device is \"cpu\"", "stage 3"});
  refused(R"({"stage": 0, "offload_optimizer": {"device": "cpu"}})", {"offload_optimizer.device is \"cpu\"", "stage 1 or more"});
  refused(R"({"stage": 3, "offload_param": {"device": "nvme"}})", {"offload_param.nvme_path is missing", "folder"});
  refused(R"({"stage": 1, "offload_optimizer": {"device": "nvme", "nvme_path": []}})", {"offload_optimizer.nvme_path is missing"});
  refused(R"({"stage": 1, "offload_optimizer": {"device": "nvme", "nvme_path": ["a", "b", "./a"]}})", {"nvme_path names \"./a\" twice"});
  refused(R"({"stage": 1, "offload_optimizer": {"device": "nvme", "nvme_path": ["a", "a/"]}})", {"nvme_path names \"a/\" twice"});
  refused(R"({"stage": 1, "offload_optimizer": {"device": "nvme", "nvme_path": "~root/x"}})", {"nvme_path is \"~root/x\"", "$HOME"});
  const std::string strings = "expected a string or a list of strings (or null)";
  refused(R"({"stage": 1, "offload_optimizer": {"device": "nvme", "nvme_path": ""}})",
          {"nvme_path is empty; " + strings + ", none of them"});
  refused(R"({"stage": 1, "offload_optimizer": {"device": "nvme", "nvme_path": ["a", ""]}})",
          {"nvme_path is [\"a\",\"\"], with an empty one; " + strings + ", none of them"});
  refused(R"({"stage": 1, "offload_optimizer": {"device": "nvme", "nvme_path": ["a", 1]}})", {"nvme_path is [\"a\",1]; " + strings + "."});
  const std::string both = tiny_refusal({R"(aio={"thread_count": 2, "intra_op_parallelism": 2})"});
  expect_words(both, {"aio.thread_count and aio.intra_op_parallelism are two names of one key", "keep aio.intra_op_parallelism"});
  EXPECT_EQ(both.find("Also"), std::string::npos) << both;
  refused(R"({"stage": 1, "offload_optimizer": {"device": "disk"}})", {"\"disk\"", "none", "cpu", "nvme"});
  expect_words(
      tiny_refusal({R"(zero_optimization={"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "x"}})", "optimizer.type=Muon"}),
      {"offload_param.device is \"nvme\"", "Muon", "\"cpu\""});
  const ZeroConfig zero =
      load_tiny(
          {R"(zero_optimization={"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "x", "max_in_cpu": 1e3}, "offload_optimizer": {"device": "nvme", "nvme_path": ["y", "z"], "ratio": 0.5, "pipeline_read": false}})",
           "aio.queue_depth=3", "aio.verify=true"})
          .config.zero;
  EXPECT_EQ(zero.offload_param.nvme_paths, std::vector<std::string>{"x"});
  EXPECT_EQ(zero.offload_optimizer.nvme_paths, (std::vector<std::string>{"y", "z"}));
  EXPECT_EQ(zero.offload_param.max_in_cpu, 1000);
  const char* home = std::getenv("HOME");
  ASSERT_NE(home, nullptr);
  EXPECT_EQ(load_tiny({R"(zero_optimization={"stage": 1, "offload_optimizer": {"device": "nvme", "nvme_path": ["~", "~/x", "a~"]}})"})
                .config.zero.offload_optimizer.nvme_paths,
            (std::vector<std::string>{home, home + std::string("/x"), "a~"}));
  EXPECT_EQ(zero.offload_optimizer.ratio, 0.5);
  EXPECT_FALSE(zero.offload_optimizer.pipeline_read);
  EXPECT_TRUE(zero.offload_optimizer.pipeline_write);
}

TEST(Config, TheResolvedFormIsAFixedPoint) {
  for (const std::vector<std::string>& set : std::vector<std::vector<std::string>>{
           {},
           {"zero_optimization.stage=3"},
           {"fp16.enabled=true", "fp16.loss_scale=8"},
           {"run.steps=null", "data.train=[\"a.txt\", \"b.txt\"]", "model={\"preset\": \"gpt2-1B\"}"},
           {"scheduler={\"type\": \"WarmupDecayLR\"}", "optimizer={\"type\": \"SGD\", \"params\": {\"momentum\": 0.9}}"},
           {"tensorboard.enabled=true"},
           {"tensorboard={\"enabled\": true, \"output_path\": \"x\"}"},
           {"optimizer.groups=[{\"patterns\": \"x\", \"weight_decay\": 0.5}]", "csv_monitor.enabled=true",
            "activation_checkpointing.profile=true"},
           {"optimizer.params.lr=auto", "zero_optimization.reduce_bucket_size=auto", "use_dynamic_tiling=true", "_comment=hello",
            "tensorboard={\"enabled\": false}"}}) {
    const LoadedConfig first = load_tiny(set);
    const LoadedConfig second = load_text(first.resolved_json);
    EXPECT_EQ(first.resolved_json, second.resolved_json);
  }
}

// DeepSpeed's name stands in DeepSpeed's place alone: the folder of the run says which run it is.
TEST(Config, TheJobOfTensorBoardHasANameWhereThePathIsGiven) {
  const auto job = [](const std::vector<std::string>& set) { return load_tiny(set).config.monitor.tensorboard.job_name; };
  EXPECT_EQ(job({"tensorboard.enabled=true"}), "");
  EXPECT_EQ(job({"tensorboard.enabled=true", "tensorboard.output_path=x"}), "DeepSpeedJobName");
  EXPECT_EQ(job({"tensorboard.enabled=true", "tensorboard.output_path=x", "tensorboard.job_name=y"}), "y");
  EXPECT_EQ(job({"tensorboard.enabled=true", "tensorboard.job_name=y"}), "y");
  EXPECT_FALSE(resolved(load_tiny({"tensorboard.enabled=true"}))["tensorboard"].contains("job_name"));
}

TEST(Config, DerivedBatchValuesAreLeftOut) {
  const LoadedConfig one = load_tiny();
  EXPECT_FALSE(resolved(one).contains("gradient_accumulation_steps"));
  EXPECT_EQ(resolved(one), resolved(load_tiny({}, 4)));
  EXPECT_EQ(load_text(one.resolved_json, {}, 4).config.batch.accumulation_steps, 1);
  EXPECT_FALSE(resolved(one)["data"].contains("cache"));
}

TEST(Config, SettingsChangeOneValue) {
  EXPECT_EQ(load_tiny({"zero_optimization.stage=2", "zero_optimization.stage=3"}).config.zero.stage, 3);
  EXPECT_EQ(load_tiny({"run.name=changed"}).config.run.name, "changed");
  EXPECT_EQ(load_tiny({"run.name=\"12\""}).config.run.name, "12");
  // What looks like a number is a text where the key takes nothing else.
  EXPECT_EQ(load_tiny({"run.name=2024"}).config.run.name, "2024");
  EXPECT_EQ(load_tiny({"run.name=1.50"}).config.run.name, "1.50");
  EXPECT_EQ(load_tiny({"run.name=true"}).config.run.name, "true");
  EXPECT_TRUE(load_tiny({"comms_logger.enabled=true"}).config.monitor.comms_enabled);  // makes the block
  EXPECT_EQ(load_tiny({"data.train=[\"a.txt\",\"b.txt\"]"}).config.data.train[0].files.size(), 2u);
  EXPECT_EQ(load_tiny({"data.train=a=b.txt"}).config.data.train[0].files[0], "a=b.txt");
  EXPECT_EQ(load_tiny({"zero_optimization.stage=3", "zero_optimization.param_persistence_threshold=9"})
                .config.zero.stage3_param_persistence_threshold,
            9);
  EXPECT_EQ(load_tiny({"bf16.enabled=true", "bfloat16={\"enabled\": false}"}).config.precision.compute, DType::F32);
  for (const char* bad : {"zero_optimization.stage", "=3", "", "a..b=1", ".a=1", "a.=1"}) expect_words(tiny_refusal({bad}), {"--set"});
  expect_words(tiny_refusal({"seed.x=1"}), {"--set seed.x=1", "seed is 11", "not a block"});
  expect_words(tiny_refusal({"data.train.0=x"}), {"data.train"});
  expect_words(tiny_refusal({"zero_optimization.stge=2"}), {"--set zero_optimization.stge=2", "stage"});
  expect_words(tiny_refusal({std::string(200, 'x') + "=1"}), {"not a known key"});
}

TEST(Config, TheEnvironmentIsReported) {
  ASSERT_EQ(setenv("DS_REUSE_BUFFERS", "1", 1), 0);
  ASSERT_EQ(setenv("NCCL_ALGO", "Ring", 1), 0);
  std::string all;
  for (const std::string& line : describe_environment()) all += line + "\n";
  expect_words(all, {"DS_REUSE_BUFFERS=1: not needed here", "NCCL_ALGO=Ring"});
  unsetenv("DS_REUSE_BUFFERS");
  unsetenv("NCCL_ALGO");
  for (const std::string& line : describe_environment()) EXPECT_EQ(line.find("DS_REUSE_BUFFERS"), std::string::npos);
}

}  // namespace
}  // namespace zerostep
