#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

class Rebuild : public ::testing::Test {
 protected:
  // Trains with forward passes alone into "runs/test" and saves "model", from weights that `init` writes to "base".
  void train(const std::string& step, int ranks = 1, const std::vector<std::string>& more = {}) {
    const std::string file = place_.config("\"step\": " + step);
    std::vector<std::string> train{"train", file, "--save-model", place_.path("model")}, init{"init", file, place_.path("base")};
    for (const std::string& set : more)
      for (auto* arguments : {&train, &init}) arguments->insert(arguments->end(), {"--set", set});
    const Outcome trained = place_.run(train, {.ranks = ranks});
    ASSERT_EQ(trained.status, 0) << trained.err;
    const Outcome begun = place_.run(init);
    ASSERT_EQ(begun.status, 0) << begun.err;
  }
  Outcome rebuild(const std::string& log = "runs/test/zo_log.jsonl") const {
    return place_.run({"rebuild", "--base", place_.path("base"), "--log", place_.path(log), place_.path("rebuilt")});
  }
  std::vector<std::string> log_lines() const {
    std::istringstream text(place_.read("runs/test/zo_log.jsonl"));
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
  }
  void write_log(const std::vector<std::string>& lines) const {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    place_.write("runs/test/zo_log.jsonl", text);
  }
  void expect_refused(const Outcome& done, const std::vector<std::string>& says) const {
    EXPECT_EQ(done.status, 2) << done.err;
    for (const std::string& part : says) EXPECT_SAYS(done.err, part);
    EXPECT_FALSE(place_.exists("rebuilt/model.safetensors"));
  }
  Workplace place_;
};

TEST_F(Rebuild, TheLogHoldsWhatAnUpdateIsMadeOf) {
  train(R"({"mode": "zo", "queries": 3, "epsilon": 0.002})", 2, {"zero_optimization.stage=3", "gradient_clipping=0.5"});
  const std::vector<std::string> lines = log_lines();
  const auto rows = place_.metrics("test");
  ASSERT_EQ(lines.size(), 4u);
  ASSERT_EQ(rows.size(), 4u);
  for (size_t s = 0; s < 4; ++s) {
    const json line = json::parse(lines[s]);
    EXPECT_EQ(line["step"], s);
    EXPECT_EQ(line["seed"], 3);
    EXPECT_EQ(line["epsilon"], 0.002);
    EXPECT_EQ(line["lr"], 1e-3);
    EXPECT_EQ(line["skipped"], false);
    ASSERT_EQ(line["scalars"].size(), 3u);
    double squares = 0;
    for (const json& p : line["scalars"]) squares += std::pow(p.get<double>(), 2);
    const double norm = std::sqrt(34720 * squares) / 3;
    EXPECT_NEAR(line["clip_scale"].get<double>(), std::min(1.0, 0.5 / (norm + 1e-6)), 1e-15);
    EXPECT_NEAR(std::stod(rows[s].at("grad_norm")) / norm, 1, 1e-6);
    EXPECT_EQ(rows[s].at("mode"), "zo");
    EXPECT_EQ(rows[s].at("q"), "3");
    EXPECT_EQ(rows[s].at("loss_kind"), "pairs");
    EXPECT_NEAR(std::stod(rows[s].at("loss")), std::log(257), 0.2);
  }
}

TEST_F(Rebuild, OnlyStepsOfQueriesAreLogged) {
  train(R"({"mode": "calibrate", "queries": 2, "bp_interval": 2, "monitor_interval": 1, "estimator": "forward"})");
  const std::vector<std::string> lines = log_lines();
  ASSERT_EQ(lines.size(), 2u);  // of four steps
  EXPECT_EQ(json::parse(lines[0])["step"], 0);
  EXPECT_EQ(json::parse(lines[1])["step"], 2);
  const auto rows = place_.metrics("test");
  for (size_t s = 0; s < 4; ++s) EXPECT_EQ(rows[s].at("loss_kind"), "unperturbed");
  expect_refused(rebuild(), {"zo_log.jsonl, line 2", "gap"});
  write_log({lines[0]});
  expect_refused(rebuild(), {"step.mode is \"calibrate\"", "cannot be rebuilt"});
}

struct RebuildCase {
  const char *name, *optimizer, *step;
  int ranks, stage;
  std::vector<std::string> set;
};

class RebuildEquality : public Rebuild, public ::testing::WithParamInterface<RebuildCase> {};

TEST_P(RebuildEquality, IsBitwise) {
  const RebuildCase& c = GetParam();
  std::vector<std::string> set = c.set;
  set.push_back(std::string("optimizer=") + c.optimizer);
  set.push_back("zero_optimization.stage=" + std::to_string(c.stage));
  train(c.step, c.ranks, set);
  const Outcome done = rebuild();
  ASSERT_EQ(done.status, 0) << done.err;
  const std::string weights = place_.read("model/model.safetensors");
  EXPECT_GT(weights.size(), 4u * 34720);
  EXPECT_EQ(place_.read("rebuilt/model.safetensors"), weights);
  EXPECT_NE(place_.read("base/model.safetensors"), weights);
  EXPECT_EQ(place_.read("rebuilt/config.json"), place_.read("model/config.json"));
}

constexpr const char* kSgd = R"({"type": "SGD", "params": {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.01}})";
constexpr const char* kLion = R"({"type": "Lion", "params": {"lr": 0.0001, "weight_decay": 0.1}})";
constexpr const char* kAdamW = R"({"type": "AdamW", "params": {"lr": 0.001, "weight_decay": 0.01}})";

INSTANTIATE_TEST_SUITE_P(
    All, RebuildEquality,
    ::testing::Values(
        RebuildCase{"sgd_1_0", kSgd, R"({"mode": "zo", "queries": 3})", 1, 0, {}},
        RebuildCase{"sgd_2_3", kSgd, R"({"mode": "zo", "queries": 2, "perturbation": "rademacher"})", 2, 3, {}},
        RebuildCase{"lion_2_0", kLion, R"({"mode": "zo", "queries": 4, "direction_parallel": 2})", 2, 0, {}},
        RebuildCase{"lion_1_3", kLion, R"({"mode": "zo", "queries": 2, "perturbation": "low_rank", "refresh": 2})", 1, 3, {}},
        RebuildCase{"adamw_1_3",
                    kAdamW,
                    R"({"mode": "zo", "queries": 4, "estimator": "forward", "scalar_transform": "leave_one_out"})",
                    1,
                    3,
                    {R"(scheduler={"type": "WarmupCosineLR", "params": {"warmup_num_steps": 2, "total_num_steps": 4}})"}},
        RebuildCase{"adamw_2_3", kAdamW, R"({"mode": "zo", "queries": 2, "query_data": "independent", "scope": "reduced"})", 2, 3, {}},
        RebuildCase{"adamw_2_0", kAdamW, R"({"mode": "zo", "queries": 1, "direction_parallel": 2})", 2, 0, {"gradient_clipping=0.1"}},
        RebuildCase{"bf16_2_3", kAdamW, R"({"mode": "zo", "queries": 2, "epsilon": 0.01})", 2, 3, {"bf16.enabled=true"}},
        RebuildCase{"no_masters_2_3",
                    kSgd,
                    R"({"mode": "zo", "queries": 2, "epsilon": 0.01, "master_weights": "none"})",
                    2,
                    3,
                    {"bf16.enabled=true"}}),
    [](const auto& info) { return info.param.name; });

TEST_F(Rebuild, RefusesLogsThatAreNotOneWholeRun) {
  train(R"({"mode": "zo", "queries": 2})");
  const std::vector<std::string> lines = log_lines();
  ASSERT_EQ(lines.size(), 4u);
  const auto with = [&](size_t at, const char* key, const json& value) {
    std::vector<std::string> changed = lines;
    json line = json::parse(lines[at]);
    line[key] = value;
    changed[at] = line.dump();
    return changed;
  };
  write_log({lines[0], lines[1], lines[3]});
  expect_refused(rebuild(), {"zo_log.jsonl, line 3", "step 3 where 2 belongs", "gap"});
  write_log({lines[1], lines[2], lines[3]});
  expect_refused(rebuild(), {"line 1", "gap"});
  write_log({lines[0], lines[1], lines[1], lines[2]});
  expect_refused(rebuild(), {"line 3", "repeat"});
  write_log(with(2, "seed", 4));
  expect_refused(rebuild(), {"line 3", "seed 4", "two runs"});
  write_log({lines[0], lines[1].substr(0, lines[1].size() / 2)});
  expect_refused(rebuild(), {"line 2", "cut short"});
  write_log(with(1, "scalars", {0.5}));
  expect_refused(rebuild(), {"line 2", "1 scalars", "began with 2"});
  write_log(with(1, "scalars", {nullptr, 0.5}));
  expect_refused(rebuild(), {"line 2"});
  write_log({});
  expect_refused(rebuild(), {"is empty"});
  fs::remove(place_.path("runs/test/zo_log.jsonl"));
  expect_refused(rebuild(), {"zo_log.jsonl", "cannot be read"});
  // What was right before is still right.
  write_log(lines);
  EXPECT_EQ(rebuild().status, 0);
}

TEST_F(Rebuild, RefusesAnotherRunsConfigurationOrBase) {
  train(R"({"mode": "zo", "queries": 2})");
  const std::string path = "runs/test/config.json";
  const json config = json::parse(place_.read(path));
  const auto with = [&](const std::string& pointer, const json& value) {
    json changed = config;
    changed[json::json_pointer(pointer)] = value;
    place_.write(path, changed.dump());
  };
  with("/seed", 4);
  expect_refused(rebuild(), {"was written with seed 3", "config.json says 4", "two runs"});
  with("/step/queries", 3);
  expect_refused(rebuild(), {"2 scalars a step", "step.queries 3"});
  with("/step/mode", "alternating");
  expect_refused(rebuild(), {"step.mode is \"alternating\"", "cannot be rebuilt"});
  with("/step/mode", "fo");
  expect_refused(rebuild(), {"step.mode is \"fo\"", "cannot be rebuilt"});
  with("/model/n_layer", 3);
  expect_refused(rebuild(), {"unit"});
  fs::remove(place_.path(path));
  expect_refused(rebuild(), {"config.json is missing"});
  place_.write(path, config.dump());
  expect_refused(
      place_.run({"rebuild", "--base", place_.path("nowhere"), "--log", place_.path("runs/test/zo_log.jsonl"), place_.path("rebuilt")}),
      {"nowhere"});
  EXPECT_EQ(rebuild().status, 0);
}

}  // namespace
}  // namespace zerostep::testing
