#include <gtest/gtest.h>

#include "tests/runtime/support/config_file.h"

// What forward-only updates depend on beside the log of their scalars (runtime/config/update_values.cpp).
namespace zerostep {
namespace {

using nlohmann::json;

json values_with(const std::vector<std::string>& settings) {
  std::vector<std::string> all{"step.mode=zo"};
  all.insert(all.end(), settings.begin(), settings.end());
  return json::parse(load_tiny(all).update_values);
}

TEST(UpdateValues, AreThoseOfOptimizerAndDirections) {
  const json values = values_with({});
  EXPECT_EQ(values.at("optimizer.type"), "AdamW");
  EXPECT_EQ(values.at("optimizer.params.weight_decay"), 0.01);
  EXPECT_EQ(values.at("step.perturbation"), "gaussian");
  for (const auto& [path, value] : values.items())
    EXPECT_TRUE(path.starts_with("optimizer.") || path.starts_with("step.") || path == "model.trainable") << path;
}

TEST(UpdateValues, ChangeWithWhatEntersTheUpdate) {
  // Two queries: a transform by the scalars' deviation needs them.
  for (const char* setting : {"optimizer.params.weight_decay=0.02", "optimizer.params.betas=[0.8, 0.99]", "step.perturbation=rademacher",
                              "step.scalar_transform=clip", "step.scope=reduced", "model.trainable=[\"*.bias\"]"})
    EXPECT_NE(values_with({"step.queries=2", setting}), values_with({"step.queries=2"})) << setting;
}

TEST(UpdateValues, DoNotChangeWithWhatTheLogTellsOrWhatOnlyLooksForIt) {
  for (const char* setting : {"optimizer.params.lr=0.5", "step.queries=3", "step.queries_per_pass=1", "step.epsilon=0.01",
                              "step.estimator=forward", "step.exact_norm=true", "zero_optimization.stage=0", "run.steps=7"})
    EXPECT_EQ(values_with({setting}), values_with({})) << setting;
}

}  // namespace
}  // namespace zerostep
