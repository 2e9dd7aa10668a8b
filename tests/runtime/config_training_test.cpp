#include <gtest/gtest.h>

#include "tests/runtime/support/config_file.h"

// What a file says of optimizer, scheduler and clipping, and what a user is told of values that do less than they seem to.
namespace zerostep {
namespace {

// What a file does not clip: estimates of forward passes alone.
TEST(ConfigTraining, ClippingIsOffWhereOnlyEstimatesAreFollowed) {
  const std::string start = R"({"train_batch_size": 4, "model": {"n_layer": 2, "n_embd": 8, "n_head": 2, "n_positions": 16})";
  for (const char* mode : {"fo", "zo", "calibrate", "instruct", "alternating"}) {
    const std::string step = fmt::format(R"(, "step": {{"mode": "{}"}})", mode);
    const LoadedConfig silent = load_text(start + step + "}");
    EXPECT_EQ(silent.config.gradient_clipping, std::string(mode) == "zo" ? 0.0 : 1.0) << mode;
    EXPECT_EQ(load_text(start + step + R"(, "gradient_clipping": "auto"})").config.gradient_clipping, silent.config.gradient_clipping);
    EXPECT_EQ(load_text(start + step + R"(, "gradient_clipping": 1})").config.gradient_clipping, 1.0) << mode;
    EXPECT_EQ(load_text(silent.resolved_json).config.gradient_clipping, silent.config.gradient_clipping) << mode;
  }
}

TEST(ConfigTraining, AWarmUpOfLessThanTwoStepsIsToldOf) {
  for (const char* type : {"WarmupLR", "WarmupDecayLR", "WarmupCosineLR"})
    for (const int steps : {0, 1, 2}) {
      const std::string said =
          warnings_of(load_tiny({"zero_optimization=null",
                                 fmt::format("scheduler={{\"type\": \"{}\", \"params\": {{\"warmup_num_steps\": {}}}}}", type, steps)}));
      EXPECT_EQ(said.find(fmt::format("scheduler.params.warmup_num_steps is {}, which counts as 2", steps)) != std::string::npos, steps < 2)
          << said;
    }
  EXPECT_EQ(warnings_of(load_tiny({"zero_optimization=null", "scheduler={\"type\": \"Cosine\", \"params\": {\"warmup_num_steps\": 0}}"})),
            "");
}

// Schedules with a maximum of their own, and those that end before the run.
TEST(ConfigTraining, RatesWithoutEffectAreToldOf) {
  const auto said = [](const std::string& scheduler, const std::string& optimizer = R"({"type": "AdamW", "params": {"lr": 0.0003}})") {
    return warnings_of(load_tiny({"zero_optimization=null", "scheduler=" + scheduler, "optimizer=" + optimizer}));
  };
  struct Case {
    std::string scheduler, says;
  };
  for (const Case& c :
       {Case{R"({"type": "WarmupDecayLR"})",
             "optimizer.params.lr 0.0003 has no effect: WarmupDecayLR goes by scheduler.params.warmup_max_lr, which is 0.001 where it is "
             "missing (DeepSpeed's default): set scheduler.params.warmup_max_lr to 0.0003 for that rate"},
        Case{R"({"type": "WarmupDecayLR", "params": {"warmup_max_lr": 0.002}})",
             "lr 0.0003 has no effect: WarmupDecayLR goes by scheduler.params.warmup_max_lr, which is 0.002"},
        Case{R"({"type": "WarmupLR", "params": {"warmup_max_lr": 0.002}})", "lr 0.0003 has no effect: WarmupLR"},
        Case{R"({"type": "OneCycle", "params": {"cycle_min_lr": 0.1, "cycle_max_lr": 0.5}})",
             "lr 0.0003 has no effect: OneCycle goes by scheduler.params.cycle_max_lr, which is 0.5"},
        Case{R"({"type": "LRRangeTest"})",
             "lr 0.0003 has no effect: LRRangeTest goes by scheduler.params.lr_range_test_min_lr, which is 0.001"}}) {
    const std::string text = said(c.scheduler);
    EXPECT_NE(text.find(c.says), std::string::npos) << text;
    EXPECT_EQ(text.find("has no effect"), text.rfind("has no effect")) << text;
  }
  for (const char* scheduler : {R"({"type": "WarmupDecayLR", "params": {"warmup_max_lr": 0.0003}})",
                                R"({"type": "WarmupDecayLR", "params": {"warmup_max_lr": "auto"}})", R"({"type": "WarmupLR"})",
                                R"({"type": "WarmupCosineLR"})", R"({"type": "Cosine"})"})
    EXPECT_EQ(said(scheduler).find("has no effect"), std::string::npos) << scheduler << said(scheduler);
  EXPECT_EQ(said(R"({"type": "WarmupDecayLR"})", R"({"type": "AdamW"})").find("has no effect"), std::string::npos);
  const std::string cycle = R"({"type": "OneCycle", "params": {"cycle_min_lr": 0.1, "cycle_max_lr": 0.5, )";
  EXPECT_NE(said(cycle + R"("decay_lr_rate": 0.5}})").find("decay_lr_rate 0.5 has no effect: scheduler.params.decay_step_size is 0"),
            std::string::npos);
  EXPECT_NE(
      said(cycle + R"("cycle_momentum": false, "cycle_min_mom": 0.5}})").find("cycle_min_mom 0.5 has no effect: cycle_momentum is false"),
      std::string::npos);
  const std::string betas = R"({"type": "AdamW", "params": {"betas": [0.8, 0.95]}})";
  EXPECT_NE(said(cycle + R"("decay_step_size": 1}})", betas).find("optimizer.params.betas [0.8,0.95] has no effect"), std::string::npos);
  EXPECT_EQ(said(cycle + R"("cycle_momentum": false}})", betas).find("betas"), std::string::npos);
  // A resolved file says what its own said.
  const LoadedConfig first = load_tiny({"zero_optimization=null", "scheduler=" + cycle + "\"decay_step_size\": 1}}"});
  EXPECT_EQ(warnings_of(load_text(first.resolved_json)), warnings_of(first));
}

TEST(ConfigTraining, AScheduleThatEndsBeforeTheRunIsToldOf) {
  const auto said = [](const std::string& type, int steps, const std::string& more) {
    return warnings_of(load_tiny(
        {"zero_optimization=null", "run.steps=" + std::to_string(steps),
         fmt::format(R"(scheduler={{"type": "{}", "params": {{"warmup_num_steps": 5, "total_num_steps": 20, {}}}}})", type, more)}));
  };
  for (const auto& [type, more, floor] :
       {std::tuple("WarmupDecayLR", "\"warmup_min_lr\": 0", "0"), std::tuple("WarmupDecayLR", "\"warmup_min_lr\": 0.0001", "0.0001"),
        std::tuple("WarmupCosineLR", "\"cos_min_ratio\": 0.5", "0.0005"), std::tuple("Cosine", "\"min_lr_ratio\": 0", "0")}) {
    EXPECT_NE(
        said(type, 21, more).find(fmt::format("total_num_steps 20 is less than run.steps 21: the rate is {} in the steps after it", floor)),
        std::string::npos)
        << type << said(type, 21, more);
    EXPECT_EQ(said(type, 20, more), "") << type;
  }
}

TEST(ConfigTraining, Schedulers) {
  const SchedulerConfig warmup = load_tiny({"scheduler={\"type\": \"WarmupLR\"}"}).config.scheduler;
  EXPECT_EQ(warmup.warmup_max_lr, 1e-3);  // the optimizer's
  EXPECT_EQ(warmup.warmup_num_steps, 1000);
  EXPECT_TRUE(warmup.warmup_log);
  const SchedulerConfig cosine = load_tiny({"scheduler={\"type\": \"Cosine\"}"}).config.scheduler;
  EXPECT_EQ(cosine.warmup_num_steps, 0);
  EXPECT_EQ(cosine.total_num_steps, 20);
  EXPECT_EQ(load_tiny({"run.steps=null", "scheduler={\"type\": \"Cosine\"}"}).config.scheduler.total_num_steps, 0);
  const SchedulerConfig cycle =
      load_tiny(
          {R"(scheduler={"type": "OneCycle", "params": {"cycle_min_lr": 0.1, "cycle_max_lr": 1, "cycle_first_step_size": 5, "cycle_first_stair_count": 2}})"})
          .config.scheduler;
  EXPECT_EQ(cycle.cycle_second_step_size, 5);
  EXPECT_EQ(cycle.cycle_second_stair_count, 2);
  expect_words(tiny_refusal({"scheduler={\"type\": \"OneCycle\"}"}), {"cycle_min_lr", "cycle_max_lr"});
  expect_words(tiny_refusal({"scheduler={\"type\": \"WarmupLR\", \"params\": {\"cycle_min_lr\": 1}}"}),
               {"cycle_min_lr", "WarmupLR", "warmup_num_steps"});
  expect_words(tiny_refusal({"scheduler={\"params\": {\"warmup_num_steps\": 1}}"}), {"scheduler.type"});
  expect_words(tiny_refusal({"scheduler.type=WarmupRL"}), {"WarmupRL", "the nearest is WarmupLR", "Cosine"});
}

TEST(ConfigTraining, Optimizers) {
  EXPECT_EQ(load_tiny({"optimizer={\"type\": \"adamw\"}"}).config.optimizer.type_name, "AdamW");
  const OptimizerConfig adam = load_tiny({R"(optimizer={"type": "Adam", "params": {"adam_w_mode": false}})"}).config.optimizer;
  EXPECT_EQ(adam.type, OptimizerConfig::Type::Adam);
  EXPECT_FALSE(adam.adam_w_mode);
  const LoadedConfig silent = load_tiny({"optimizer=null"});
  EXPECT_EQ(silent.config.optimizer.type_name, "AdamW");
  expect_words(warnings_of(silent), {"optimizer.type is not given: AdamW"});
  expect_words(tiny_refusal({"optimizer.type=SGD"}), {"optimizer.params.betas", "SGD", "momentum"});
  expect_words(tiny_refusal({"optimizer={\"type\": \"AdamWW\"}"}), {"the nearest is AdamW;"});
  for (const char* key : {"train_batch_size", "zero_optimization.offload_param.device", "activation_checkpointing.cpu_checkpointing"})
    expect_words(tiny_refusal({std::string(key) + "=Auto"}), {"\"Auto\"", "; \"auto\" is written in small letters"});
  const OptimizerConfig muon =
      load_tiny({R"(optimizer={"type": "muon", "params": {"lr": 0.01, "muon_lr": 0.02, "adam_lr": 0.001}})"}).config.optimizer;
  EXPECT_EQ(muon.type, OptimizerConfig::Type::Muon);
  EXPECT_EQ(muon.momentum, 0.95);
  EXPECT_TRUE(muon.nesterov);
  EXPECT_EQ(muon.eps, 1e-8);
  EXPECT_EQ(muon.muon_lr_factor, 2);
  EXPECT_EQ(muon.adam_lr_factor, 0.1);
  EXPECT_FALSE(muon.match_rms_adamw);
  EXPECT_FALSE(muon.no_muon.has_value());
  const OptimizerConfig mudamw =
      load_tiny({R"(optimizer={"type": "MuDaMW", "params": {"cautious": true, "no_muon": ["a*"]}})"}).config.optimizer;
  EXPECT_EQ(mudamw.type, OptimizerConfig::Type::MuDaMW);
  EXPECT_EQ(mudamw.eps, 1e-6);
  EXPECT_TRUE(mudamw.cautious);
  EXPECT_EQ(mudamw.no_muon, std::vector<std::string>{"a*"});
  EXPECT_TRUE(load_tiny({R"(optimizer={"type": "Muon", "params": {"adjust_lr_fn": "match_rms_adamw"}})"}).config.optimizer.match_rms_adamw);
  EXPECT_EQ(load_tiny({R"(optimizer={"type": "SGD"})"}).config.optimizer.momentum, 0);
  expect_words(warnings_of(load_tiny({R"(optimizer={"type": "Muon", "params": {"ns_method": "gram"}})"})), {"ns_method", "fp32"});
  expect_words(tiny_refusal({R"(optimizer={"type": "Muon", "params": {"cautious": true}})"}), {"cautious", "Muon", "muon_lr"});
  expect_words(tiny_refusal({R"(optimizer={"type": "Muon", "params": {"lr": 0, "muon_lr": 0.1}})"}), {"muon_lr", "lr 0"});
  expect_words(tiny_refusal({R"(optimizer={"type": "Muon", "params": {"adjust_lr_fn": "rms"}})"}), {"adjust_lr_fn", "original"});
  expect_words(tiny_refusal({"optimizer={\"type\": \"Adagrad\"}"}), {"Adagrad", "AdamW"});
  // Names of classes and of variants, as other programs write them.
  const std::pair<const char*, const char*> names[] = {{"DeepSpeedCPUAdam", "Adam"},   {"DeepSpeed_Adam", "Adam"},
                                                       {"FusedAdam", "Adam"},          {"CPUAdam", "Adam"},
                                                       {"adamw_torch_fused", "AdamW"}, {"paged_adamw_8bit", "AdamW"}};
  for (const auto& [name, here] : names)
    expect_words(
        tiny_refusal({"optimizer.type=" + std::string(name)}),
        {"optimizer.type is \"" + std::string(name) + "\"", "one of \"AdamW\"",
         "; \"" + std::string(here) + "\" is one fused kernel here, and with zero_optimization.offload_optimizer the host runs it"});
  expect_words(tiny_refusal({"optimizer.type=DeepSpeedCPULion"}), {"\"Lion\" is one fused kernel here"});
  EXPECT_EQ(tiny_refusal({"optimizer.type=Adagrad"}).find("fused"), std::string::npos);
  expect_words(tiny_refusal({"optimizer.params.max_grad_norm=1.0"}), {"max_grad_norm", "gradient_clipping"});
  const OptimizerConfig groups =
      load_tiny({R"(optimizer.groups=[{"patterns": "ln*", "lr_factor": "0.5"}, {"patterns": ["a", "b"], "weight_decay": 0}])"})
          .config.optimizer;
  ASSERT_EQ(groups.groups.size(), 2u);
  EXPECT_EQ(groups.groups[0].patterns, std::vector<std::string>{"ln*"});
  EXPECT_EQ(groups.groups[0].lr_factor, 0.5);
  EXPECT_FALSE(groups.groups[0].weight_decay.has_value());
  EXPECT_EQ(groups.groups[1].weight_decay, 0.0);
  expect_words(tiny_refusal({R"(optimizer.groups=[{"patterns": "a", "lr_faktor": 1}])"}), {"optimizer.groups[0].lr_faktor", "lr_factor"});
  expect_words(tiny_refusal({R"(optimizer.groups=[{"lr_factor": 1}])"}), {"optimizer.groups[0]", "patterns"});
  expect_words(tiny_refusal({"optimizer.groups={}"}), {"optimizer.groups", "list of blocks"});
}

}  // namespace
}  // namespace zerostep
