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
        RebuildCase{"host_2_3",
                    kAdamW,
                    R"({"mode": "zo", "queries": 2})",
                    2,
                    3,
                    {R"(zero_optimization.offload_optimizer={"device": "cpu"})", R"(zero_optimization.offload_param={"device": "cpu"})"}},
        RebuildCase{"files_1_3",
                    kAdamW,
                    R"({"mode": "zo", "queries": 2})",
                    1,
                    3,
                    {R"(zero_optimization.offload_optimizer={"device": "nvme", "nvme_path": "scratch"})",
                     R"(zero_optimization.offload_param={"device": "nvme", "nvme_path": "scratch"})", "aio.queue_depth=4"}},
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
  expect_refused(rebuild(), {"zo_log.jsonl: is missing", "step.mode \"zo\"", "a run of backprop has none"});
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

class RebuildAfterResume : public Rebuild {
 protected:
  // Two steps with `given`, then two more with what is `changed`.
  void train_twice(const std::vector<std::string>& given, const std::vector<std::string>& changed) {
    const std::string file = place_.config(R"("step": {"mode": "zo", "queries": 3})");
    const auto with = [](std::vector<std::string> arguments, const std::vector<std::string>& sets) {
      for (const std::string& set : sets) arguments.insert(arguments.end(), {"--set", set});
      return arguments;
    };
    const Outcome first = place_.run(with({"train", file, "--set", "run.steps=2", "--set", "run.checkpoint_interval=2"}, given));
    ASSERT_EQ(first.status, 0) << first.err;
    const Outcome second = place_.run(with(
        with({"train", file, "--resume", "--save-model", place_.path("model"), "--set", "run.checkpoint_interval=2"}, given), changed));
    ASSERT_EQ(second.status, 0) << second.err;
    const Outcome begun = place_.run(with({"init", file, place_.path("base")}, given));
    ASSERT_EQ(begun.status, 0) << begun.err;
  }
};

constexpr const char *kOfLion = R"(optimizer={"type": "Lion", "params": {"lr": 0.0001, "weight_decay": 0.1}})",
                     *kOfSgd = R"(optimizer={"type": "SGD", "params": {"lr": 0.001, "momentum": 0.9}})",
                     *kOfAdamW = "optimizer.params.lr=0.001", *kLowRank = "step.perturbation=low_rank",
                     *kOneCycle = R"(scheduler={"type": "OneCycle", "params": {"cycle_min_lr": 0.0001, "cycle_max_lr": 0.001}})";

struct ChangedValue {
  const char* name;
  std::vector<std::string> given;
  std::string set, says;
};

class RebuildOfChangedValues : public RebuildAfterResume, public ::testing::WithParamInterface<ChangedValue> {};

TEST_P(RebuildOfChangedValues, IsRefusedAndNamesTheFirstStep) {
  train_twice(GetParam().given, {GetParam().set});
  const Outcome done = rebuild();
  expect_refused(done, {"zo_log.jsonl: from step 2 on ", GetParam().says, "zerostep export"});
}

INSTANTIATE_TEST_SUITE_P(
    All, RebuildOfChangedValues,
    ::testing::Values(
        ChangedValue{
            "groups", {kOfLion}, R"(optimizer.groups=[{"patterns": "*wte*", "lr_factor": 50}])", R"(optimizer.groups is [{"lr_factor":50)"},
        ChangedValue{"weight_decay", {kOfLion}, "optimizer.params.weight_decay=0.5", "optimizer.params.weight_decay is 0.5 and was 0.1:"},
        ChangedValue{"no_decay", {kOfLion}, R"(optimizer.params.no_decay=["*ln*"])", R"(optimizer.params.no_decay is ["*ln*"] and was [])"},
        ChangedValue{"betas", {kOfAdamW}, "optimizer.params.betas=[0.8, 0.9]", "optimizer.params.betas is [0.8,0.9] and was [0.9,0.999]:"},
        ChangedValue{"eps", {kOfAdamW}, "optimizer.params.eps=1e-6", "optimizer.params.eps is 1e-06 and was 1e-08:"},
        ChangedValue{"bias_correction",
                     {kOfAdamW},
                     "optimizer.params.bias_correction=false",
                     "optimizer.params.bias_correction is false and was true:"},
        ChangedValue{"momentum", {kOfSgd}, "optimizer.params.momentum=0.5", "optimizer.params.momentum is 0.5 and was 0.9:"},
        ChangedValue{"dampening", {kOfSgd}, "optimizer.params.dampening=0.5", "optimizer.params.dampening is 0.5 and was 0.0:"},
        ChangedValue{"nesterov", {kOfSgd}, "optimizer.params.nesterov=true", "optimizer.params.nesterov is true and was false:"},
        ChangedValue{"perturbation", {kOfLion}, "step.perturbation=rademacher", R"(step.perturbation is "rademacher" and was "gaussian":)"},
        ChangedValue{"rank", {kOfLion, kLowRank}, "step.rank=3", "step.rank is 3 and was 2:"},
        ChangedValue{"refresh", {kOfLion, kLowRank}, "step.refresh=1", "step.refresh is 1 and was 50:"},
        ChangedValue{
            "scalar_transform", {kOfLion}, "step.scalar_transform=normalise", R"(step.scalar_transform is "normalise" and was "none":)"},
        ChangedValue{"clip_deviations",
                     {kOfLion, "step.scalar_transform=clip"},
                     "step.clip_deviations=1",
                     "step.clip_deviations is 1.0 and was 3.0:"},
        ChangedValue{"master_weights",
                     {kOfLion, "bf16.enabled=true", "step.epsilon=0.01"},
                     "step.master_weights=none",
                     R"(step.master_weights is "none" and was "fp32")"},
        ChangedValue{"cycled_betas",
                     {kOfLion, kOneCycle},
                     "scheduler.params.cycle_max_mom=0.5",
                     "scheduler.params.cycle_max_mom is 0.5 and was 0.9:"},
        ChangedValue{"scope", {R"(optimizer={"type": "SGD"})"}, "step.scope=[\"*h.1*\"]", R"(step.scope is ["*h.1*"] and was ["full"]:)"}),
    [](const auto& info) { return info.param.name; });

TEST_F(RebuildAfterResume, TakesWhatTheLogItselfHolds) {
  train_twice({kOfLion}, {"optimizer.params.lr=0.0003", "step.epsilon=0.004", "step.estimator=forward", "step.queries_per_pass=3",
                          "gradient_clipping=0.1", "zero_optimization.stage=2", "step.scope=full", "step.rank=7", "step.exact_norm=true",
                          R"(scheduler={"type": "Cosine", "params": {"warmup_num_steps": 1}})"});
  const Outcome done = rebuild();
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(count(done.err, "does not say"), 0u) << done.err;
  EXPECT_EQ(place_.read("rebuilt/model.safetensors"), place_.read("model/model.safetensors"));
  const std::vector<std::string> lines = log_lines();
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(json::parse(lines[0])["update"]["optimizer.params.weight_decay"], 0.1);
  for (size_t s = 1; s < 4; ++s) EXPECT_FALSE(json::parse(lines[s]).contains("update")) << lines[s];
}

TEST_F(RebuildAfterResume, WarnsWhereTheLogDoesNotSayTheValues) {
  train_twice({kOfLion}, {"optimizer.params.weight_decay=0.5"});
  std::vector<std::string> lines = log_lines();
  ASSERT_EQ(lines.size(), 4u);
  for (std::string& line : lines) {
    json j = json::parse(line);
    j.erase("update");
    line = j.dump();
  }
  write_log(lines);
  const Outcome done = rebuild();
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.err, "warning: ");
  EXPECT_SAYS(done.err, "does not say with which values");
}

TEST_F(RebuildAfterResume, RefusesAConfigurationThatWasChanged) {
  train_twice({kOfLion}, {});
  json config = json::parse(place_.read("runs/test/config.json"));
  config["optimizer"]["params"]["weight_decay"] = 0.25;
  place_.write("runs/test/config.json", config.dump());
  expect_refused(rebuild(), {"config.json", "optimizer.params.weight_decay is 0.25 and was 0.1", "two runs"});
}

// The log knows the values that its run began with; one that goes on keeps them.
TEST_F(Rebuild, RefusesABaseThatTheRunDidNotBeginWith) {
  train(R"({"mode": "zo", "queries": 2})", 2, {"run.checkpoint_interval=2", "run.steps=2"});
  const std::string fingerprint = json::parse(log_lines().at(0)).at("first_values");
  EXPECT_EQ(fingerprint.size(), 32U);
  const std::string config = place_.path("config.json");
  ASSERT_EQ(place_.run({"train", config, "--resume", "--set", "run.checkpoint_interval=2", "--save-model", place_.path("longer")}).status,
            0);
  std::vector<std::string> lines = log_lines();
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(json::parse(lines[0]).at("first_values"), fingerprint);
  for (size_t i = 1; i < 4; ++i) EXPECT_FALSE(json::parse(lines[i]).contains("first_values")) << i;

  const auto rebuilt_from = [&](const std::string& base) {
    return place_.run({"rebuild", "--base", place_.path(base), "--log", place_.path("runs/test/zo_log.jsonl"), place_.path("rebuilt")});
  };
  ASSERT_EQ(place_.run({"init", config, place_.path("other"), "--set", "seed=4"}).status, 0);
  for (const char* base : {"other", "model"})  // of another seed; of the run's own end
    expect_refused(rebuilt_from(base), {"began with values of fingerprint " + fingerprint, base, "--base", "zerostep init"});
  const Outcome done = rebuilt_from("base");
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(done.err, "");
  EXPECT_EQ(place_.read("rebuilt/model.safetensors"), place_.read("longer/model.safetensors"));
  // A log from before it was written there.
  fs::remove_all(place_.path("rebuilt"));
  json first = json::parse(lines[0]);
  first.erase("first_values");
  lines[0] = first.dump();
  write_log(lines);
  const Outcome old = rebuilt_from("other");
  EXPECT_EQ(old.status, 0) << old.err;
  EXPECT_SAYS(old.err, "warning: ");
  EXPECT_SAYS(old.err, "does not say which values the run began with");
}

}  // namespace
}  // namespace zerostep::testing
