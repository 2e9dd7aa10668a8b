#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>

#include "tests/launch/support/run_binary.h"

// Files that are none, values that name nothing, and a run that would remove what it reads.
namespace zerostep::testing {
namespace {

namespace fs = std::filesystem;

class OddInput : public ::testing::Test {
 protected:
  Outcome run(const std::vector<std::string>& arguments) const { return place_.run(arguments, {.timeout_seconds = 20}); }
  Outcome train(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments{"train", place_.path("config.json")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
  static void expect_refused(const Outcome& done, const std::vector<std::string>& says) {
    EXPECT_EQ(done.status, 2) << done.err;
    EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
    for (const std::string& part : says) EXPECT_SAYS(done.err, part);
  }
  void replace_by_fifo(const std::string& name) const {
    ASSERT_TRUE(fs::remove(place_.path(name))) << name;
    ASSERT_EQ(::mkfifo(place_.path(name).c_str(), 0600), 0);
  }
  // A run of 4 steps with checkpoints after 2 and 4.
  void train_with_checkpoints() const {
    place_.config();
    const Outcome done = train({"--set", "run.checkpoint_interval=2"});
    ASSERT_EQ(done.status, 0) << done.err;
  }
  Workplace place_;
};

TEST_F(OddInput, APipeWhereAFileOfACheckpointBelongsIsNotWaitedFor) {
  constexpr const char* kSays = "is a device, pipe or socket; a regular file is expected";
  train_with_checkpoints();
  const std::string checkpoints = "runs/test/checkpoints/", last = checkpoints + "step_00000004";
  fs::copy(place_.path("runs"), place_.path("kept"), fs::copy_options::recursive);
  const auto anew = [&] {
    fs::remove_all(place_.path("runs"));
    fs::copy(place_.path("kept"), place_.path("runs"), fs::copy_options::recursive);
  };
  replace_by_fifo(checkpoints + "latest");
  expect_refused(train({"--resume", "--set", "run.steps=6"}), {checkpoints + "latest", kSays});
  for (const char* name : {"/manifest.json", "/rank_00000.safetensors"}) {
    anew();
    replace_by_fifo(last + name);
    expect_refused(train({"--resume", "--set", "run.steps=6"}), {last + name, kSays});
    expect_refused(run({"inspect", "checkpoint", place_.path(last)}), {last + name, kSays});
    expect_refused(run({"export", place_.path(last), place_.path("exported")}), {last + name, kSays});
    expect_refused(run({"generate", "--model", place_.path(last)}), {last + name, kSays});
  }
  for (const char* name : {"metrics.csv", "log.txt"}) {
    anew();
    replace_by_fifo(std::string("runs/test/") + name);
    expect_refused(train({"--resume", "--set", "run.steps=6"}), {std::string("runs/test/") + name, "a regular file is expected"});
  }
  EXPECT_FALSE(place_.exists("exported"));
}

TEST_F(OddInput, OverwritingRemovesNothingThatTheRunReads) {
  train_with_checkpoints();
  const std::string folder = "runs/test/checkpoints/";
  fs::copy(place_.path("corpus.txt"), place_.path(folder + "corpus.txt"));
  fs::create_symlink(place_.path(folder + "corpus.txt"), place_.path("link.txt"));
  fs::create_symlink(place_.path("corpus.txt"), place_.path(folder + "link.txt"));
  ASSERT_EQ(run({"export", place_.path(folder + "step_00000004"), place_.path(folder + "hf")}).status, 0);
  const std::string here = place_.path(folder);
  struct Case {
    std::string set, key;
  };
  for (const Case& c : {Case{"data.train=" + here + "corpus.txt", "data.train"}, Case{"data.train=" + here + "*.txt", "data.train"},
                        Case{"data.train=" + here + "link.txt", "data.train"}, Case{"data.eval=" + place_.path("link.txt"), "data.eval"},
                        Case{"model={\"path\": \"" + here + "hf\"}", "model.path"}, Case{"data.cache=" + here + "cache", "data.cache"}}) {
    expect_refused(train({"--overwrite", "--set", c.set}), {c.key + ": ", "--overwrite", "checkpoints"});
    expect_refused(train({"--set", "run.overwrite=true", "--set", c.set}), {c.key + ": "});
  }
  expect_refused(train({"--overwrite", "--save-model", here + "new"}), {"--save-model: " + here + "new"});
  EXPECT_TRUE(place_.exists(folder + "corpus.txt"));
  EXPECT_TRUE(place_.exists(folder + "hf/model.safetensors"));
  EXPECT_EQ(place_.metrics("test").size(), 4u);
  // What lies elsewhere is no reason.
  const Outcome anew = train({"--overwrite", "--set", "data.eval=" + place_.path("corpus.txt")});
  EXPECT_EQ(anew.status, 0) << anew.err;
  EXPECT_FALSE(place_.exists(folder + "hf"));
}

TEST_F(OddInput, AFinishedRunStillGivesItsModel) {
  train_with_checkpoints();
  const Outcome saved = train({"--resume", "--save-model", place_.path("saved")});
  ASSERT_EQ(saved.status, 0) << saved.err;
  EXPECT_SAYS(saved.out, "the run is finished");
  EXPECT_SAYS(saved.out, place_.path("saved"));
  ASSERT_EQ(run({"export", place_.path("runs/test/checkpoints/step_00000004"), place_.path("exported")}).status, 0);
  for (const char* name : {"/model.safetensors", "/config.json"})
    EXPECT_EQ(place_.read(std::string("saved") + name), place_.read(std::string("exported") + name));
}

TEST_F(OddInput, EmptyValuesNameNothing) {
  train_with_checkpoints();
  const std::string file = place_.path("config.json");
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"train", file, "--save-model", "", "--set", "run.name=other"},
                                             {"train", file, "--save-model=", "--set", "run.name=other"},
                                             {"train", file, "--resume", ""},
                                             {"train", file, "--resume="},
                                             {"train", file, "--device", ""},
                                             {"train", file, "--set", ""},
                                             {"train", ""},
                                             {"eval", file, "--checkpoint", "", "--set", "data.eval=" + place_.path("corpus.txt")},
                                             {"generate", "--model", ""},
                                             {"generate", "--model", place_.path("runs/test/checkpoints/step_00000004"), "--tokenizer", ""},
                                             {"init", file, ""},
                                             {"export", "", place_.path("exported")},
                                             {"inspect", "checkpoint", ""},
                                             {"rebuild", "--base", "", "--log", "a", "b"},
                                             {"rebuild", "--base", "a", "--log", "", "b"}})
    expect_refused(run(arguments), {"is empty, which names nothing"});
  EXPECT_FALSE(place_.exists("runs/other"));
  const Outcome prompt = run({"generate", "--model", place_.path("runs/test/checkpoints/step_00000004"), "--prompt", "", "--tokens", "2"});
  EXPECT_EQ(prompt.status, 0) << prompt.err;
}

TEST_F(OddInput, NumbersAreWhatTheOptionCounts) {
  train_with_checkpoints();
  const std::string file = place_.path("config.json"), model = place_.path("runs/test/checkpoints/step_00000004");
  struct Case {
    const char *option, *value;
  };
  for (const Case& c : {Case{"--temperature", "nan"}, Case{"--temperature", "-1"}, Case{"--temperature", "inf"},
                        Case{"--temperature", "warm"}, Case{"--seed", "-1"}, Case{"--seed", "99999999999999999999"}, Case{"--seed", "0x10"},
                        Case{"--tokens", "1.5"}, Case{"--tokens", "-1"}, Case{"--top-k", "two"}, Case{"--top-k", "99999999999999999999"}})
    expect_refused(run({"generate", "--model", model, std::string(c.option) + "=" + c.value}),
                   {c.option, std::string("is '") + c.value + "'"});
  expect_refused(run({"inspect", "noise", file, "--set", "step.mode=zo", "--direction", "5", "--count", "2"}),
                 {"--direction 5", "step.queries"});
  expect_refused(run({"inspect", "noise", file, "--set", "step.mode=zo", "--set", "step.queries=2", "--direction", "2", "--count", "2"}),
                 {"--direction 2", "expected 0 to 1"});
  for (const char* world : {"0", "-1", "1e3", "9999999999"})
    expect_refused(run({"plan", file, std::string("--world=") + world}), {"--world"});
  // Digits are decimal, whatever they begin with.
  EXPECT_EQ(run({"generate", "--model", model, "--tokens", "5", "--seed", "010"}).out,
            run({"generate", "--model", model, "--tokens", "5", "--seed", "10"}).out);
}

TEST_F(OddInput, ResumingFromWhereThereIsNoCheckpointSaysSo) {
  train_with_checkpoints();
  for (const char* name : {"nowhere", "runs/test/checkpoints/step_00000003"}) {
    const Outcome done = train({"--resume", place_.path(name)});
    expect_refused(done, {std::string("--resume ") + place_.path(name), "there is no such checkpoint"});
    EXPECT_EQ(done.err.find("holds a run"), std::string::npos) << done.err;
  }
  const Outcome done = train({"--resume", place_.path("runs")});
  expect_refused(done, {"is no checkpoint: it holds no manifest.json"});
}

TEST_F(OddInput, BytesThatAreNoTextAreRefusedByTheirOption) {
  const std::string file = place_.config();
  for (const char* set : {"data.train=bad\xff.txt", "run.name=\xff", "\xff=1", "run.name=\"\xc3\""})
    for (const std::vector<std::string>& command :
         std::vector<std::vector<std::string>>{{"train", file}, {"plan", file}, {"config", file, "--json"}}) {
      std::vector<std::string> arguments = command;
      arguments.insert(arguments.end(), {"--set", set});
      const Outcome done = run(arguments);
      expect_refused(done, {"--set ", "not UTF-8"});
      EXPECT_EQ(done.err.find("json.exception"), std::string::npos) << done.err;
    }
}

TEST_F(OddInput, NamesOfFoldersLeaveNoFolder) {
  place_.config();
  for (const char* set : {"run.name=.cache", R"(run.name="a\nb")", R"(run.name="a\u0007")", R"(run.name="a\u007f")", "run.name=../up"})
    expect_refused(train({"--set", set}), {"run.name"});
  for (const char* name : {"../up", "a/b", "..", "a\\nb"})
    for (const std::string monitor : {"csv_monitor", "tensorboard"})
      expect_refused(train({"--set", monitor + R"(={"enabled": true, "job_name": ")" + name + "\"}"}), {monitor + ".job_name"});
  EXPECT_FALSE(place_.exists("runs"));
  EXPECT_FALSE(place_.exists("up"));
}

TEST_F(OddInput, AnEvaluationWithoutANumberIsAFailure) {
  const std::string file = place_.config(), weights = "model/model.safetensors";
  ASSERT_EQ(run({"init", file, place_.path("model")}).status, 0);
  std::string bytes = place_.read(weights);
  std::fill(bytes.end() - 400, bytes.end(), '\xff');  // NaNs
  place_.write(weights, bytes);
  for (const bool json : {false, true}) {
    std::vector<std::string> arguments{
        "eval", file, "--checkpoint", place_.path("model"), "--set", "data.eval=" + place_.path("corpus.txt")};
    if (json) arguments.push_back("--json");
    const Outcome done = run(arguments);
    EXPECT_EQ(done.status, 1) << done.err;
    EXPECT_EQ(done.out, "");
    EXPECT_SAYS(done.err, "the loss over data.eval is nan");
  }
}

}  // namespace
}  // namespace zerostep::testing
