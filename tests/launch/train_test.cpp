#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

using nlohmann::json;

class Train : public ::testing::Test {
 protected:
  std::vector<std::string> losses(const std::string& run) const {
    std::vector<std::string> out;
    for (const auto& row : place_.metrics(run)) out.push_back(row.at("loss"));
    return out;
  }
  Workplace place_;
};

TEST_F(Train, LeavesWhatItPromises) {
  const Outcome done = place_.run({"train", place_.config("\"zero_optimization\": {\"stage\": 1}")});
  ASSERT_EQ(done.status, 0) << done.err;
  const auto rows = place_.metrics("test");
  ASSERT_EQ(rows.size(), 4u);
  for (size_t s = 0; s < rows.size(); ++s) {
    const auto& row = rows[s];
    EXPECT_EQ(row.at("step"), std::to_string(s));
    EXPECT_EQ(row.at("mode"), "fo");
    EXPECT_EQ(row.at("scope"), "full");
    EXPECT_EQ(row.at("q"), "");
    EXPECT_EQ(row.at("lr"), "0.001");
    EXPECT_EQ(row.at("batch_size"), "4");
    EXPECT_EQ(row.at("optimizer"), "AdamW");
    EXPECT_EQ(row.at("skipped"), "0");
    EXPECT_EQ(row.at("eval_loss"), "");
    EXPECT_EQ(row.at("loss_kind"), "unperturbed");
    EXPECT_NEAR(std::stod(row.at("tokens_per_second")) * std::stod(row.at("step_seconds")), 4 * 16, 1e-6);
    EXPECT_GT(std::stoll(row.at("device_peak_bytes")), 16 * 34720);
  }
  EXPECT_NEAR(std::stod(rows[0].at("loss")), std::log(257), 0.2);
  // Plain lines in a pipe: every steps_per_print steps; the log has the same.
  EXPECT_SAYS(done.out, "step 2/4 | loss ");
  EXPECT_SAYS(done.out, "step 4/4 | loss ");
  EXPECT_EQ(done.out.find("step 1/4"), std::string::npos) << done.out;
  EXPECT_EQ(done.out.find('\r'), std::string::npos);
  EXPECT_EQ(place_.read("runs/test/log.txt"), done.out);
  EXPECT_SAYS(done.out, "34,720 parameters");
  // The plan of the run is what `plan` prints.
  EXPECT_EQ(json::parse(place_.read("runs/test/plan.json"))["device_peak_bytes"],
            json::parse(
                place_.run({"plan", place_.path("config.json"), "--set", "zero_optimization.stage=1", "--json"}).out)["device_peak_bytes"]);
  // The resolved configuration repeats the run.
  const Outcome again = place_.run({"train", place_.path("runs/test/config.json"), "--set", "run.name=again"});
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(losses("again"), losses("test"));
}

TEST_F(Train, EpochsBecomeSteps) {
  // 257-token vocabulary, one file: floor((bytes + end - 1) / 16) samples.
  const auto samples = static_cast<int64_t>((place_.read("corpus.txt").size() + 1 - 1) / 16);
  const Outcome done = place_.run({"train", place_.config(), "--set", "run.steps=null", "--set", "run.epochs=0.05"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(static_cast<int64_t>(place_.metrics("test").size()), static_cast<int64_t>(0.05 * static_cast<double>(samples) / 4));
}

TEST_F(Train, SavedModelsEvaluateAsTheyWereAndGenerate) {
  const std::string file = place_.config("\"zero_optimization\": {\"stage\": 3}, \"gradient_clipping\": 0.5");
  const std::vector<std::string> eval{"--set", "data.eval=" + place_.path("corpus.txt"), "--set", "run.eval_samples=40"};
  std::vector<std::string> train{"train", file, "--save-model", place_.path("model"), "--set", "run.eval_interval=2"};
  train.insert(train.end(), eval.begin(), eval.end());
  const Outcome done = place_.run(train, {.ranks = 2});
  ASSERT_EQ(done.status, 0) << done.err;
  const auto rows = place_.metrics("test");
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].at("eval_loss"), "");
  EXPECT_NE(rows[1].at("eval_loss"), "");
  std::vector<std::string> command{"eval", file, "--checkpoint", place_.path("model"), "--json"};
  command.insert(command.end(), eval.begin(), eval.end());
  const Outcome evaluated = place_.run(command);
  ASSERT_EQ(evaluated.status, 0) << evaluated.err;
  const json result = json::parse(evaluated.out);
  EXPECT_NEAR(result["loss"].get<double>(), std::stod(rows[3].at("eval_loss")), 1e-5);
  EXPECT_NEAR(result["perplexity"].get<double>(), std::exp(result["loss"].get<double>()), 1e-9);
  // Untrained it is worse.
  command = {"eval", file, "--json"};
  command.insert(command.end(), eval.begin(), eval.end());
  EXPECT_GT(json::parse(place_.run(command).out)["loss"].get<double>(), result["loss"].get<double>() + 0.01);

  const auto text = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"generate", "--model", place_.path("model"), "--prompt", "line ", "--tokens", "40"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome generated = place_.run(arguments);
    EXPECT_EQ(generated.status, 0) << generated.err;
    return generated.out;
  };
  const std::string first = text({"--seed", "1", "--ignore-end", "--top-k", "200"});
  EXPECT_EQ(first.substr(0, 5), "line ");
  EXPECT_EQ(first.size(), 5u + 40u + 1u);
  EXPECT_EQ(first, text({"--seed", "1", "--ignore-end", "--top-k", "200"}));
  EXPECT_NE(first, text({"--seed", "2", "--ignore-end", "--top-k", "200"}));
  EXPECT_EQ(text({"--temperature", "0", "--seed", "1"}), text({"--temperature", "0", "--seed", "2"}));
}

TEST_F(Train, InitIsWhatTrainingStartsFrom) {
  const std::string file = place_.config();
  ASSERT_EQ(place_.run({"init", file, place_.path("untrained")}).status, 0);
  const std::vector<std::string> eval{"--set", "data.eval=" + place_.path("corpus.txt"), "--set", "run.eval_samples=20", "--json"};
  std::vector<std::string> saved{"eval", file, "--checkpoint", place_.path("untrained")}, fresh{"eval", file};
  saved.insert(saved.end(), eval.begin(), eval.end());
  fresh.insert(fresh.end(), eval.begin(), eval.end());
  const Outcome a = place_.run(saved), b = place_.run(fresh);
  ASSERT_EQ(a.status, 0) << a.err;
  EXPECT_EQ(json::parse(a.out), json::parse(b.out));
  // Another model than the file's is refused.
  saved.insert(saved.end(), {"--set", "model.n_embd=64"});
  const Outcome other = place_.run(saved);
  EXPECT_EQ(other.status, 2);
  EXPECT_SAYS(other.err, "embedding");
}

TEST_F(Train, MonitorsShowWhatADeepSpeedUserExpects) {
  const Outcome done = place_.run({"train",
                                   place_.config(R"("zero_optimization": {"stage": 3},
  "csv_monitor": {"enabled": true, "output_path": ")" +
                                                 place_.path("csv") + R"(", "job_name": "job"},
  "comms_logger": {"enabled": true, "verbose": true}, "wall_clock_breakdown": true, "memory_breakdown": true, "dump_state": true,
  "flops_profiler": {"enabled": true, "profile_step": 2})"),
                                   "--set", "run.trace=true"},
                                  {.ranks = 2});
  ASSERT_EQ(done.status, 0) << done.err;
  const auto rows = place_.metrics("test");
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(place_.read("csv/job/Train_Samples_lr.csv"), "step,lr\n4,0.001\n8,0.001\n12,0.001\n16,0.001\n");
  EXPECT_EQ(place_.read("csv/job/Train_Samples_train_loss.csv"), "step,train_loss\n4," + rows[0].at("loss") + "\n8," + rows[1].at("loss") +
                                                                     "\n12," + rows[2].at("loss") + "\n16," + rows[3].at("loss") + "\n");
  EXPECT_SAYS(done.out, "communication of this rank, 2 ranks");
  EXPECT_EQ(count(done.out, "| comm | "), 4u) << done.out;
  EXPECT_EQ(count(done.out, "time (ms) | data"), 2u) << done.out;
  EXPECT_SAYS(done.out, "memory | step 1 is done | arenas");
  EXPECT_SAYS(done.out, "flops profiler, step 2");
  EXPECT_SAYS(done.out, "transformer.h.0.mlp.c_fc.weight");
  for (const char* trace : {"runs/test/trace_rank0.json", "runs/test/trace_rank1.json"})
    EXPECT_GT(json::parse(place_.read(trace))["traceEvents"].size(), 40u);
}

}  // namespace
}  // namespace zerostep::testing
