#include <gtest/gtest.h>

#include "tests/runtime/support/config_file.h"

// Keys that have no effect because of what others say.
namespace zerostep {
namespace {

TEST(ConfigContexts, KeysWithoutEffectInTheirContextAreWarnedOf) {
  const auto warned = [](const std::vector<std::string>& set) { return warnings_of(load_tiny(set)); };
  expect_words(warned({}), {"stage3_param_persistence_threshold has no effect at zero_optimization.stage below 3"});
  EXPECT_EQ(warned({"zero_optimization.stage=3"}), "");
  expect_words(warned({"zero_optimization.stage=3", "zero_optimization.allgather_bucket_size=1000"}),
               {"allgather_bucket_size has no effect at zero_optimization.stage 0 or 3"});
  expect_words(warned({"zero_optimization.round_robin_gradients=true"}),
               {"round_robin_gradients has no effect at zero_optimization.stage 0"});
  EXPECT_EQ(warned({"zero_optimization={\"stage\": 2, \"round_robin_gradients\": true}"}), "");
  expect_words(warned({"zero_optimization.reduce_scatter=false"}), {"reduce_scatter has no effect at zero_optimization.stage 0 or 3"});
  expect_words(warned({"fp16={\"enabled\": false, \"hysteresis\": 3}"}), {"fp16.hysteresis has no effect while fp16.enabled is false"});
  expect_words(warned({"fp16={\"enabled\": true, \"loss_scale\": 4, \"hysteresis\": 3}"}),
               {"fp16.hysteresis has no effect while fp16.loss_scale is not 0"});
  expect_words(warned({"bf16.check_grad_overflow=false"}), {"bf16.check_grad_overflow has no effect while bf16.enabled is false"});
  expect_words(warned({"step.mode=zo", "bf16={\"enabled\": true, \"check_grad_overflow\": false}"}),
               {"bf16.check_grad_overflow has no effect in step.mode zo"});
  EXPECT_EQ(warned({"zero_optimization.stage=3", "bf16={\"enabled\": true, \"check_grad_overflow\": false}"}), "");
  expect_words(warned({"prescale_gradients=true", "gradient_predivide_factor=2"}),
               {"gradient_predivide_factor has no effect while prescale_gradients is true"});
  expect_words(warned({"step.queries=4", "step.epsilon=0.01"}), {"step.queries, step.epsilon have no effect in step.mode fo"});
  expect_words(warned({"step.mode=zo", "step.bp_interval=5"}), {"step.bp_interval has no effect in step.mode fo, zo and alternating"});
  expect_words(warned({"step.mode=calibrate", "step.bp_lr=0.1"}), {"step.bp_lr has no effect unless step.mode is alternating"});
  expect_words(warned({"step.mode=calibrate", "step.blend=0.5"}), {"step.blend has no effect unless step.mode is instruct"});
  expect_words(warned({"step.mode=zo", "step.rank=3"}), {"step.rank has no effect unless step.perturbation is low_rank"});
  expect_words(warned({"step.mode=zo", "step.clip_deviations=2"}),
               {"step.clip_deviations has no effect unless step.scalar_transform is clip"});
  for (const auto& [key, reason] : {std::pair("activation_checkpointing.number_checkpoints=2", "keep no activations"),
                                    {"activation_checkpointing.profile=true", "keep no activations"},
                                    {"prescale_gradients=true", "no gradient is made"},
                                    {"communication_data_type=bf16", "no gradient is made"},
                                    {"fp16={\"enabled\": true, \"hysteresis\": 3}", "only gradients need a loss scale"},
                                    {"model.dropout=0.25", "without dropout"}}) {
    const std::string said = warned({"step.mode=zo", "zero_optimization=null", key});
    expect_words(said, {"has no effect in step.mode zo", reason});
    EXPECT_EQ(warned({"step.mode=calibrate", "zero_optimization=null", key}), "") << key;
  }
  // What asks for nothing is not worth a word.
  for (const char* key :
       {"activation_checkpointing.number_checkpoints=0", "communication_data_type=fp32", "fp16={\"enabled\": true, \"loss_scale\": 0}",
        "model.dropout=0", "zero_optimization={\"stage\": 2, \"contiguous_gradients\": true}"})
    EXPECT_EQ(warned({"step.mode=zo", "zero_optimization=null", key}), "") << key;
  expect_words(warned({"step.mode=instruct", "step.monitor_interval=2"}), {"step.monitor_interval has no effect in step.mode instruct"});
  for (const char* files :
       {"data.train=a.txt", "data.train=[\"a.*.txt\", \"b.bin\"]", "data.train=a.tsv", "data.train=a.txt.gz", "data.train=a.csv.zst"})
    expect_words(
        warned({"zero_optimization=null", "data.missing=skip", files}),
        {"data.missing has no effect while data names no .jsonl, .parquet or .arrow file and no folder of save_to_disk: only their "
         "rows can lack a field"});
  for (const char* files : {"data.train=a.jsonl", "data.train=a.*", "data.train=[\"a.txt\", \"b.{jsonl,txt}\"]", "data.eval=b.jsonl",
                            "data.train=a.parquet", "data.train=a.arrow", "data.train=./saved", "data.train=a.jsonl.gz",
                            "data.train=a.jsonl.zst", "data.test=[\"a.txt\", \"b.parquet\"]"})
    EXPECT_EQ(warned({"zero_optimization=null", "data.missing=skip", files}), "") << files;
  EXPECT_EQ(warned({"zero_optimization=null", "data.missing=error", "data.train=a.txt"}), "");
  expect_words(warned({"csv_monitor.job_name=x"}), {"csv_monitor.job_name has no effect while csv_monitor.enabled is false"});
  expect_words(warned({"tensorboard.output_path=x"}), {"tensorboard.output_path has no effect while tensorboard.enabled is false"});
  EXPECT_EQ(load_tiny({"fp16={\"enabled\": false, \"hysteresis\": 3}"}).labelled_text.find("fp16.hysteresis = 3   (given, without effect"),
            load_tiny({"fp16={\"enabled\": false, \"hysteresis\": 3}"}).labelled_text.find("fp16.hysteresis"));
}

}  // namespace
}  // namespace zerostep
