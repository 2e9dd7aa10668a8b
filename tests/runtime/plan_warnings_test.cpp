#include "runtime/report/plan_warnings.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "models/gpt2/gpt2.h"
#include "models/objective.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_tables.h"
#include "tests/runtime/support/config_file.h"

// What a file asks for and its plan does not give is said with the figures and the way out; what it gives is not warned of.

namespace zerostep {
namespace {

struct Warned {
  std::vector<std::string> warnings;
  std::string rests;
  int64_t device_peak_bytes;
};

Warned plan_of(const std::vector<std::string>& set, int world = 2) {
  const LoadedConfig loaded = load_tiny(set, world);
  const auto model = make_gpt2(gpt2_of(loaded.config));
  const auto objective = make_cross_entropy();
  const TrainingPlan plan = plan_training(loaded.config, *model, *objective, world);
  return {plan_warnings(loaded.config, plan, *model, *objective), rests_text(plan.any_step()),
          training_cost(loaded.config, plan, *model, *objective).device_peak_bytes};
}

std::vector<std::string> offload(const std::string& param, const std::string& optimizer = R"({"device": "none"})",
                                 const std::string& more = "\"stage\": 3, \"stage3_param_persistence_threshold\": 0") {
  return {fmt::format(R"(zero_optimization={{{}, "offload_param": {}, "offload_optimizer": {}}})", more, param, optimizer)};
}

const std::string kCpu = R"({"device": "cpu"})", kNone = R"({"device": "none"})";

TEST(PlanWarnings, ParametersThatAllStayOnTheDeviceAreNamed) {
  // The largest is wte, 257 x 64.
  const Warned none = plan_of(offload(kCpu, kNone, "\"stage\": 3"));
  ASSERT_EQ(none.warnings.size(), 1u);
  expect_words(none.warnings[0], {"offload_param.device is \"cpu\"", "all parameters stay on the device",
                                  "stage3_param_persistence_threshold 100000", "wte.weight, has 16,448 elements", "0 everything"});
  EXPECT_EQ(none.rests, "") << "nothing rests elsewhere";
  const Warned all = plan_of(offload(kCpu));
  EXPECT_TRUE(all.warnings.empty()) << all.warnings[0];
  // Only wte and the matrices of the blocks' MLPs (64 x 256) are above the threshold: 16,448 + 3 x 2 x 16,384 elements, half of them on a
  // rank.
  const Warned part = plan_of(offload(kCpu, kNone, "\"stage\": 3, \"stage3_param_persistence_threshold\": 16383"));
  EXPECT_TRUE(part.warnings.empty());
  expect_words(part.rests, {fmt::format("parameters: device "), fmt::format(", host {:.0f} KiB", (16448 + 6 * 16384) / 2 * 4 / 1024.0)});
}

TEST(PlanWarnings, FilesThatHoldNothingAreNamed) {
  const std::string files = R"({"device": "nvme", "nvme_path": "/tmp/x", "max_in_cpu": )";
  const Warned none = plan_of(offload(files + "1e9}"));
  ASSERT_EQ(none.warnings.size(), 1u);
  expect_words(none.warnings[0], {"\"nvme\"", "nothing rests in files", "max_in_cpu 1000000000"});
  EXPECT_EQ(none.rests.find("file"), std::string::npos) << none.rests;
  const Warned some = plan_of(offload(files + "20000}"));
  EXPECT_TRUE(some.warnings.empty());
  expect_words(some.rests, {"host ", "file "});
}

TEST(PlanWarnings, StateThatIsNotThereIsNamed) {
  const std::string stage1 = "\"stage\": 1";
  EXPECT_TRUE(plan_of(offload(kNone, kCpu, stage1)).warnings.empty());
  const Warned ratio = plan_of(offload(kNone, R"({"device": "cpu", "ratio": 0})", stage1));
  ASSERT_EQ(ratio.warnings.size(), 1u);
  expect_words(ratio.warnings[0], {"offload_optimizer.device is \"cpu\"", "ratio is 0"});
  std::vector<std::string> sgd = offload(kNone, kCpu, stage1);
  sgd.emplace_back(R"(optimizer={"type": "SGD", "params": {"lr": 0.1}})");
  const Warned plain = plan_of(sgd);
  ASSERT_EQ(plain.warnings.size(), 1u);
  expect_words(plain.warnings[0], {"keeps no state"});
  sgd.emplace_back("bf16.enabled=true");
  EXPECT_TRUE(plan_of(sgd).warnings.empty()) << "masters rest there";
}

// Of seven blocks, six of which can be recomputed: it is said exactly where the peak does not fall, and what is advised lets it fall.
TEST(PlanWarnings, CheckpointsOnTheHostThatFreeNothingAreNamed) {
  const std::string model = R"(model={"family": "gpt2", "n_layer": 7, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 257})";
  const auto plan = [&](int segments, bool on_host) {
    return plan_of({model, fmt::format("activation_checkpointing.number_checkpoints={}", segments),
                    fmt::format("activation_checkpointing.cpu_checkpointing={}", on_host)},
                   1);
  };
  for (const int segments : {2, 3, 4, 7}) {
    const Warned with = plan(segments, true), without = plan(segments, false);
    EXPECT_TRUE(without.warnings.empty());
    const bool frees_memory = with.device_peak_bytes < without.device_peak_bytes;
    EXPECT_EQ(frees_memory, segments > 3) << segments;
    ASSERT_EQ(with.warnings.size(), segments > 3 ? 0u : 1u) << segments;
    if (segments > 3) continue;
    expect_words(with.warnings[0],
                 {"cpu_checkpointing frees no memory of the device", segments == 2 ? "recomputation: 1;" : "recomputation: 2;",
                  segments == 2 ? "back into: 1)" : "back into: 2)", "number_checkpoints to 4 or more"});
  }
  for (const int segments : {0, 1}) {
    const Warned none = plan(segments, true);
    ASSERT_EQ(none.warnings.size(), 1u);
    expect_words(none.warnings[0], {"recomputes nothing", fmt::format("number_checkpoints is {}", segments)});
  }
  EXPECT_TRUE(plan(0, false).warnings.empty());
}

}  // namespace
}  // namespace zerostep
