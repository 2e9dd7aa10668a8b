#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "runtime/config/schema.h"
#include "runtime/config/values.h"
#include "tests/runtime/support/config_file.h"

// What `--set` changes, and what errors say of it.
namespace zerostep {
namespace {

using nlohmann::json;

// A block that is left as a whole, or stands in an old form, takes single values like one that is written out.
TEST(Settings, OpenBlocksThatAreLeftAsAWhole) {
  const auto with = [](const char* block, const json& value) {
    json config = tiny_config();
    config[json::json_pointer(block)] = value;
    return config.dump(1);
  };
  for (const json& whole : {json("auto"), json(nullptr), json(true), json(false), json::object()}) {
    const LoadedConfig loaded = load_text(with("/zero_optimization", whole), {"zero_optimization.sub_group_size=77"});
    EXPECT_EQ(loaded.config.zero.sub_group_size, 77) << whole;
    EXPECT_EQ(loaded.config.zero.stage, whole == json(true) ? 1 : 0) << whole;
  }
  for (const json& whole : {json("auto"), json(nullptr)}) {
    EXPECT_EQ(
        load_text(with("/activation_checkpointing", whole), {"activation_checkpointing.number_checkpoints=2"}).config.number_checkpoints,
        2);
    for (const char* name : {"param", "optimizer"}) {
      const std::string block = std::string("zero_optimization.offload_") + name;
      const Config config = load_text(with(("/zero_optimization/offload_" + std::string(name)).c_str(), whole),
                                      {"zero_optimization.stage=3", block + ".device=cpu"})
                                .config;
      EXPECT_EQ(config.zero.offload_param.tier == Tier::Host, name == std::string("param"));
      EXPECT_EQ(config.zero.offload_optimizer.tier == Tier::Host, name == std::string("optimizer"));
    }
  }
  // Without a setting the block has its defaults, whatever it is left by.
  json without = tiny_config();
  without.erase("zero_optimization");
  for (const json& whole : {json("auto"), json(nullptr)})
    EXPECT_EQ(load_text(with("/zero_optimization", whole)).resolved_json, load_text(without.dump()).resolved_json);
  expect_words(refusal_of(with("/zero_optimization", 3), {"zero_optimization.stage=2"}), {"zero_optimization is 3", "not a block"});
}

TEST(Settings, MeetOtherNamesOfABlock) {
  json config = tiny_config();
  config["zero_optimization"] = {{"stage", 3}, {"cpu_offload", true}, {"cpu_offload_param", false}};
  config["bfloat16"] = {{"enabled", true}};
  const Config loaded = load_text(config.dump(), {"zero_optimization.offload_optimizer.buffer_count=7",
                                                  "zero_optimization.offload_param.pin_memory=false", "bf16.enabled=false"})
                            .config;
  EXPECT_EQ(loaded.zero.offload_optimizer.tier, Tier::Host);
  EXPECT_EQ(loaded.zero.offload_optimizer.buffer_count, 7);
  EXPECT_EQ(loaded.zero.offload_param.tier, Tier::Device);
  EXPECT_EQ(loaded.precision.compute, DType::F32);
}

// A value within a block that the file has under its deprecated name changes nothing of what is said of that name.
TEST(Settings, LeaveWhatIsSaidOfDeprecatedNames) {
  const std::string set = "zero_optimization.offload_optimizer.pin_memory=false";
  json config = tiny_config();
  config["zero_optimization"] = {{"stage", 1}, {"cpu_offload", true}};
  expect_words(warnings_of(load_text(config.dump(1), {set})), {"zero_optimization.cpu_offload is deprecated", ".json, line "});
  // The file's own block is not replaced by the switch.
  config["zero_optimization"]["offload_optimizer"] = {{"device", "none"}};
  expect_words(refusal_of(config.dump(1), {set}),
               {"zero_optimization.cpu_offload and zero_optimization.offload_optimizer are two names of one key, and both are given"});
}

// The line of a file is none of a value that the command line gives.
TEST(Settings, ErrorsNameTheSettingThatIsWrong) {
  json config = tiny_config();
  config["optimizer"]["groups"] = {{{"patterns", "*"}, {"lr_factor", 0.5}}};
  config["zero_optimization"]["offload_optimizer"] = {{"device", "none"}};
  struct Case {
    std::vector<std::string> set;
    std::string begins, says;
  };
  for (const Case& c : {
           // Of its own value, of one within it, of one that is unknown.
           Case{{"zero_optimization.stage=9"}, "--set zero_optimization.stage=9: zero_optimization.stage is 9", ""},
           Case{{"zero_optimization={\"stage\": 9}"}, "--set zero_optimization={\"stage\": 9}: zero_optimization.stage is 9", ""},
           Case{{"zero_optimization.stge=2"}, "--set zero_optimization.stge=2: zero_optimization.stge is not a known key", "stage"},
           Case{{"optimizer.groups=[{\"patterns\": \"*\", \"weight_decay\": \"no\"}]"}, "--set optimizer.groups=[", "weight_decay"},
           Case{{"amp={\"enabled\": true}"}, "--set amp={\"enabled\": true}: amp is", ""},
           // Of a block that there is not, of one within a list, of blocks that are taken out, of a key under a scalar.
           Case{{"optimizer.typo.x=3"}, "--set optimizer.typo.x=3: optimizer.typo is not a known key", ""},
           Case{{"optimizer.groups[0].patterns=3"}, "--set optimizer.groups[0].patterns=3: optimizer.groups[0] is not a known key", ""},
           Case{{"optimizer.groups=[null]"}, "--set optimizer.groups=[null]: optimizer.groups[0] is null; expected a block", ""},
           Case{{"model=null"}, "--set model=null: model names no preset", ""},
           Case{{"zero_optimization.stage=2", "zero_optimization.stage.x=3"},
                "--set zero_optimization.stage.x=3: zero_optimization.stage is 2 in --set zero_optimization.stage=2, not a block",
                ""},
           // What is missing because of it.
           Case{{"zero_optimization.stage=1", "zero_optimization.offload_optimizer.device=nvme"},
                "--set zero_optimization.offload_optimizer.device=nvme: zero_optimization.offload_optimizer.nvme_path is missing",
                ""},
           // What it contradicts.
           Case{{"zero_optimization.offload_param.device=cpu"},
                "--set zero_optimization.offload_param.device=cpu: zero_optimization.offload_param.device is \"cpu\"",
                ""},
           Case{{"model.n_positions=32"}, "", "; model.n_positions is that of --set model.n_positions=32."},
           Case{{"train_micro_batch_size_per_gpu=3"},
                "",
                "; train_micro_batch_size_per_gpu is that of --set train_micro_batch_size_per_gpu=3."},
       }) {
    const std::string error = refusal_of(config.dump(1), c.set);
    EXPECT_TRUE(error.starts_with(c.begins)) << error;
    expect_words(error, {c.says});
    EXPECT_TRUE(c.begins.empty() || error.find(", line ") == std::string::npos) << error;
  }
  // A line stands where the file's own value is wrong, whatever else is set.
  config["train_micro_batch_size_per_gpu"] = -1;
  expect_words(refusal_of(config.dump(1), {"zero_optimization.stage=2"}), {".json, line ", "train_micro_batch_size_per_gpu is -1"});
}

// Null takes a key out, of those that there are: in the schema, or else in the file.
TEST(Settings, NullIsNoWayRoundTheNamesOfKeys) {
  for (const char* name : {"typo", "optimizer.typo", "optimizer.typo.x", "optimizer.params.lr2", "data.train2"}) {
    const std::string set = name + std::string("=null"), error = tiny_refusal({set});
    EXPECT_TRUE(error.starts_with("--set " + set + ": ")) << error;
    expect_words(error, {"is not a known key"});
    expect_words(warnings_of(load_tiny({"strict=false", set})), {"--set " + set + ": ", "it is not used"});
  }
  json config = tiny_config();
  config["_comment"] = {{"of", "mine"}};
  EXPECT_EQ(load_text(config.dump(), {"_comment=null"}).resolved_json, load_tiny().resolved_json);
  for (const char* set : {"optimizer.groups=null", "zero_optimization=null", "scheduler.type=null", "bfloat16=null",
                          "bfloat16.enabled=null", "zero_optimization.cpu_offload=null", "zero_optimization.prefetch_bucket_size=null"})
    EXPECT_NO_THROW(load_tiny({set})) << set;
}

// 3 and true are no names of files: who means such a name says that it is a path.
TEST(Settings, NumbersAreNoPaths) {
  int count = 0;
  for (const schema::Key& key : schema::keys()) {
    if (!key.type.is_path || key.path.find("[]") != std::string_view::npos) continue;  // in lists: ConfigSources
    ++count;
    for (const char* value : {"3", "true", "1.5"}) {
      const std::string set = fmt::format("{}={}", key.path, value), error = tiny_refusal({set});
      const char* expected = key.type.kind == schema::Kind::Sources ? "a path, glob or name of the catalogue" : "a string";
      EXPECT_TRUE(error.starts_with(fmt::format("--set {}: {} is {}; expected {}", set, key.path, value, expected))) << error;
      expect_words(error, {fmt::format("a path of that name is \"./{}\"", value)});
    }
  }
  EXPECT_EQ(count, 14);
  EXPECT_EQ(load_tiny({"data.train=./3", "run.output_dir=\"3\""}).config.data.train[0].files[0], "./3");
  EXPECT_EQ(load_tiny({"data.label_field=1"}).config.data.label_field, "1");
}

// What is no JSON is a text, but where the key takes none: there it is said what is wrong with it.
TEST(Settings, WhatIsWrongWithAValueIsSaid) {
  const std::string twice = R"(zero_optimization={"stage": 1, "stage": 2})";
  expect_words(tiny_refusal({twice}), {"--set " + twice + ", line 1: the key stage stands twice"});
  const std::string deeper = R"(optimizer={"type": "SGD", "params": {"lr": 1, "lr": 2}})";
  expect_words(tiny_refusal({deeper}), {"--set " + deeper + ", line 1: the key params.lr stands twice"});
  expect_words(tiny_refusal({R"(data.train=["a", {"b": 1, "b": 2}])"}), {"the key [1].b stands twice"});
  expect_words(tiny_refusal({R"(zero_optimization={"stage": 1,)"}), {"--set zero_optimization={", "still open"});
  expect_words(tiny_refusal({"zero_optimization={stage: 1}"}), {"column 2: stage is no JSON value: strings and keys need quotation marks"});
  EXPECT_EQ(load_tiny({"data.train=[ab]*.txt"}).config.data.train[0].files[0], "[ab]*.txt");
  EXPECT_EQ(load_tiny({"data.eval={a,b}.txt"}).config.data.eval[0].files[0], "{a,b}.txt");
}

TEST(Settings, ASwitchOfAnotherFormIsOneError) {
  for (const char* name : {"cpu_offload", "cpu_offload_param"}) {
    const std::string key = fmt::format("zero_optimization.{}", name), set = key + "=5";
    EXPECT_EQ(tiny_refusal({set}), fmt::format("--set {}: {} is 5; expected true or false.", set, key));
  }
}

TEST(Settings, WarningsNameTheSettingToo) {
  const auto warnings = [](const std::vector<std::string>& set) { return warnings_of(load_tiny(set)); };
  expect_words(warnings({"strict=false", "zero_optimization.stge=2"}), {"--set zero_optimization.stge=2: zero_optimization.stge is not a"});
  expect_words(warnings({"zero_optimization.legacy_stage1=true"}),
               {"--set zero_optimization.legacy_stage1=true: zero_optimization.legacy_stage1 has no effect"});
  expect_words(warnings({"zero_optimization.stage=1", "zero_optimization.cpu_offload=true"}),
               {"--set zero_optimization.cpu_offload=true: zero_optimization.cpu_offload is deprecated"});
}

// Of what is found out after the file is read.
TEST(Settings, TheSourceOfAValueIsKnown) {
  const Config config = load_tiny({"data.train=a.txt", "run.output_dir=x", "data.train=b.txt"}).config;
  EXPECT_EQ(config.source("data.train"), "--set data.train=b.txt");
  EXPECT_EQ(config.source("run.output_dir"), "--set run.output_dir=x");
  EXPECT_EQ(config.source("run.name"), config.file);
  const std::string groups = R"(optimizer.groups=[{"patterns": "*"}, {"patterns": "x"}])";
  EXPECT_EQ(load_tiny({groups}).config.source("optimizer.groups[1].patterns"), "--set " + groups);
  // Of a value within what is given, of one under another name, of one that is taken out.
  const std::string block = R"(data={"train": "a.txt", "tokenizer": "byte", "sequence_length": 48})";
  EXPECT_EQ(load_tiny({block}).config.source("data.train"), "--set " + block);
  const Config tiers = load_tiny({"zero_optimization.stage=1", "zero_optimization.cpu_offload=true"}).config;
  EXPECT_EQ(tiers.source("zero_optimization.offload_optimizer.device"), "--set zero_optimization.cpu_offload=true");
  EXPECT_EQ(load_tiny({"data.train=null"}).config.source("data.train"), "--set data.train=null");
  // As it was typed; what nobody did is the file's.
  const ConfigFile file(tiny_config().dump(1));
  const Config typed =
      load_config({.file = file.path(), .set = {{R"(run.device="cpu")", "--device cpu"}, {"run.steps=3", ""}}, .world = 1}).config;
  EXPECT_EQ(typed.source("run.device"), "--device cpu");
  EXPECT_EQ(typed.source("run.steps"), file.path());
  EXPECT_EQ(typed.run.steps, 3);
}

// Whoever reads a resolved file again finds the keys without effect that were so when it was resolved.
TEST(Settings, WithoutEffectAreToldOfTheResolvedFileToo) {
  for (const std::vector<std::string>& set :
       {std::vector<std::string>{"step.mode=fo", "step.zo_steps=2", "step.queries=3", "fp16.loss_scale=8"},
        {"step.mode=zo", "step.zo_steps=2", "step.rank=3", "activation_checkpointing.profile=true", "gradient_predivide_factor=2"},
        {"step.mode=instruct", "step.bp_lr=0.1", "step.monitor_interval=7", "step.instruct.cosine=0.25"},
        {"step.mode=alternating", "step.perturbation=low_rank", "step.rank=2", "step.bp_share=0.25", "data.missing=skip"},
        {"fp16.enabled=true", "fp16.loss_scale=8", "fp16.hysteresis=3", "zero_optimization.offload_param.pin_memory=true",
         "tensorboard.job_name=job", "aio.block_size=4096"}}) {
    const LoadedConfig loaded = load_tiny(set);
    const json resolved = json::parse(loaded.resolved_json);
    const std::set<std::string> found = schema::keys_without_effect(resolved);
    size_t given = 0;
    for (const auto& [path, value] : loaded.values->all()) {
      std::string pointer = "/" + path;
      std::replace(pointer.begin(), pointer.end(), '.', '/');
      if (!resolved.contains(json::json_pointer(pointer))) continue;
      EXPECT_EQ(found.contains(path), !value.effective) << path;
      given += value.effective ? 0 : 1;
    }
    EXPECT_GE(given, 1u) << set[0];
  }
  // Of what is no configuration, or one of another version, as much as can be told.
  EXPECT_TRUE(schema::keys_without_effect(json::object({{"step", 3}, {"model", nullptr}, {"no_such_key", 1}})).contains("step.queries"));
  EXPECT_TRUE(
      schema::keys_without_effect(json::object({{"step", {{"mode", "zo"}, {"zo_steps", 2}, {"queries", "x"}}}})).contains("step.zo_steps"));
}

}  // namespace
}  // namespace zerostep
