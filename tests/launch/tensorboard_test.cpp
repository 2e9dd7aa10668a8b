#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/launch/support/trained_place.h"
#include "tests/support/event_reader.h"

// What a run leaves for TensorBoard.
namespace zerostep::testing {
namespace {

namespace fs = std::filesystem;

class TensorBoardOfARun : public TrainedPlace {
 protected:
  // Every number of metrics.csv is there as a float, under its column's name at the row's step, and nothing else but DeepSpeed's series at
  // the samples seen.
  void expect_metrics(const std::string& folder, const std::string& run, int64_t samples_a_step, bool has_loss_scale = false) const {
    std::map<std::string, Events::Series> expected;
    for (const auto& row : place_.metrics(run)) {
      const int64_t step = std::stoll(row.at("step"));
      for (const auto& [column, text] : row) {
        if (text.empty() || column == "step" || text.find_first_not_of("0123456789.+-einfa") != std::string::npos) continue;
        if (column == "timestamp" || column == "mode" || column == "optimizer" || column == "scope") continue;
        const auto value = static_cast<float>(std::stod(text));
        expected["step/" + column].emplace_back(step, value);
        const bool is_scale = column == "loss_scale" && has_loss_scale;  // DeepSpeed's, of fp16
        if (column == "lr" || column == "bp_loss" || is_scale)
          expected["Train/Samples/" + column].emplace_back(samples_a_step * (step + 1), value);
        if (column == "loss") expected["Train/Samples/train_loss"].emplace_back(samples_a_step * (step + 1), value);
      }
    }
    const Events found = events_of(place_.path(folder));
    for (const auto& [tag, series] : expected) {
      ASSERT_TRUE(found.series.contains(tag)) << tag;
      EXPECT_EQ(found.series.at(tag), series) << tag;
    }
    EXPECT_EQ(found.series.size(), expected.size());
    for (const char* column : {"loss", "grad_norm", "tokens_per_second", "device_peak_bytes"})
      EXPECT_TRUE(expected.contains(std::string("step/") + column)) << column;
  }
};

// The columns of the experiment, and which of them lead.
std::map<std::string, bool> columns_of(const Events& events) {
  std::map<std::string, bool> out;
  const WireMessage content(events.plug_in.at("_hparams_/experiment").at(0)), experiment(content.text(2));
  for (const std::string& bytes : experiment.bytes.at(4)) {
    const WireMessage column(bytes);
    out[column.text(1)] = column.number(7) != 0;
  }
  return out;
}

TEST_F(TensorBoardOfARun, HoldsItsMetricsAndHyperParameters) {
  place_.config("\"tensorboard\": {\"enabled\": true}");
  // As of a sweep: what only some of its runs have is a column of all.
  std::filesystem::create_directories(place_.path("runs"));
  std::ofstream(place_.path("runs/sweep.json")) << R"({"base": {}, "grid": {"step.mode": ["fo", "instruct"]},
    "when": [{"if": {"step.mode": "instruct"}, "grid": {"step.instruct.cosine": [0.5, 0.9]}}]})";
  const std::string eval = "data.eval=" + place_.path("corpus.txt");
  for (const auto& [ranks, step] : {std::pair(2, R"({"mode": "fo"})"), std::pair(1, R"({"mode": "alternating", "zo_steps": 1})")}) {
    std::vector<std::string> set{"run.steps=5", "run.eval_interval=2", "run.eval_samples=8", eval, std::string("step=") + step};
    const bool has_loss_scale = ranks == 2;
    if (has_loss_scale) set.emplace_back(R"(fp16={"enabled": true, "initial_scale_power": 4, "loss_scale_window": 2})");
    const Outcome done = train(set, {"--overwrite"}, ranks);
    ASSERT_EQ(done.status, 0) << done.err;
    expect_metrics("runs/test/tensorboard", "test", 4, has_loss_scale);
    const Events events = events_of(place_.path("runs/test/tensorboard"));
    EXPECT_EQ(events.series.at("step/eval_loss").size(), 3u);
    ASSERT_EQ(events.files.size(), 1u) << "those of the run before are gone";
    const auto values = events.hyper_parameters();
    EXPECT_EQ(values.at("optimizer.params.lr"), "0.001");
    EXPECT_EQ(values.at("ranks"), std::to_string(ranks));
    EXPECT_EQ(values.contains("step.zo_steps"), ranks == 1);
    EXPECT_FALSE(values.contains("step.instruct.cosine"));
    EXPECT_EQ(columns_of(events).count("step.instruct.cosine"), 1u);
    EXPECT_TRUE(columns_of(events).at("step.instruct.cosine")) << "what the sweep tries leads";
    // Twice as large after each two steps without an overflow, at the samples that these have seen.
    if (has_loss_scale) {
      EXPECT_EQ(events.series.at("Train/Samples/loss_scale"), (Events::Series{{4, 16}, {8, 16}, {12, 32}, {16, 32}, {20, 64}}));
    }
    EXPECT_EQ(WireMessage(WireMessage(events.plug_in.at("_hparams_/session_end_info").at(0)).text(4)).number(1), 1u) << "it succeeded";
    EXPECT_FALSE(place_.exists("runs/test/tensorboard/owner.lock"));
  }
}

TEST_F(TensorBoardOfARun, GoesOnWithoutStepsThatComeTwice) {
  place_.config();
  // Beside csv_monitor, in one folder of another place.
  const std::string block = "={\"enabled\": true, \"output_path\": \"" + place_.path("boards") + "\", \"job_name\": \"job\"}";
  const std::vector<std::string> set{"tensorboard" + block, "csv_monitor" + block, "run.steps=8", "run.checkpoint_interval=3",
                                     "run.keep_checkpoints=5"};
  ASSERT_EQ(train(set).status, 0);
  expect_metrics("boards/job", "test", 4);
  EXPECT_EQ(count(place_.read("boards/job/Train_Samples_lr.csv"), "\n"), 9u);
  for (const char* checkpoint : {"step_00000003", "step_00000006"}) {
    const Outcome second = train(set, {"--resume", place_.path(std::string("runs/test/checkpoints/") + checkpoint)});
    ASSERT_EQ(second.status, 0) << second.err;
    expect_metrics("boards/job", "test", 4);
  }
  EXPECT_EQ(count(place_.read("boards/job/Train_Samples_lr.csv"), "\n"), 9u);
  // Another run sets it aside.
  const Outcome other = train({set[0], "run.name=other"});
  EXPECT_EQ(other.status, 0) << other.err;
  EXPECT_SAYS(other.err, "held the series of another run: they are in " + place_.path("boards/job.former") + " now");
  expect_metrics("boards/job.former", "test", 4);
  expect_metrics("boards/job", "other", 4);
  // The folder has one owner.
  std::vector<std::string> long_set = set;
  long_set.insert(long_set.end(), {"run.name=long", "run.steps=100000", "csv_monitor.enabled=false", "run.overwrite=true"});
  const pid_t pid = place_.start(place_.command(arguments(long_set), 1));
  ASSERT_TRUE(place_.wait_for_rows("long", 2, pid)) << place_.finish(pid, 0).err;
  const Outcome refused = train({set[0], "run.name=third"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "tensorboard.job_name");
  EXPECT_SAYS(refused.err, "process " + std::to_string(pid));
  ::kill(pid, SIGINT);
  EXPECT_EQ(place_.finish(pid, 30).status, 130);
  // Stopped, it has all its steps, and no end that it has not come to.
  expect_metrics("boards/job", "long", 4);
  EXPECT_FALSE(events_of(place_.path("boards/job")).plug_in.contains("_hparams_/session_end_info"));
}

TEST_F(TensorBoardOfARun, MayLieInTheRunsOwnFolder) {
  place_.config();
  const Outcome done = train({"tensorboard={\"enabled\": true, \"output_path\": \"" + place_.path("runs") + "\", \"job_name\": \"test\"}"});
  ASSERT_EQ(done.status, 0) << done.err;
  expect_metrics("runs/test", "test", 4);
}

TEST_F(TensorBoardOfARun, ThatCannotBeWrittenIsWarnedOfAndTheRunGoesOn) {
  place_.config();
  place_.write("file", "");
  for (const std::string& path : {place_.path("file/below"), place_.path("file"), std::string("/proc/none")}) {
    const Outcome done = train({"tensorboard={\"enabled\": true, \"output_path\": \"" + path + "\"}"}, {"--overwrite"});
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_SAYS(done.err, "warning: tensorboard: ");
    EXPECT_SAYS(done.err, path);
    EXPECT_EQ(count(done.err, "tensorboard"), 1u) << done.err;
    EXPECT_SAYS(place_.read("runs/test/log.txt"), "nothing more is written for TensorBoard");
    EXPECT_EQ(place_.metrics("test").size(), 4u);
  }
  // A run that is refused leaves no folder.
  const Outcome refused = train({"tensorboard={\"enabled\": true, \"output_path\": \"" + place_.path("new/place") + "\"}", "run.name=new"},
                                {"--save-model", place_.path("file")});
  EXPECT_EQ(refused.status, 2);
  EXPECT_FALSE(place_.exists("new"));
}

}  // namespace
}  // namespace zerostep::testing
