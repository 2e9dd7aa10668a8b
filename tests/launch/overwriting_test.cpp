#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>

#include "base/file_descriptor.h"
#include "base/file_lock.h"
#include "tests/launch/support/run_binary.h"

// Commands that write a model, or a profile, and what lies where they would write it.
namespace zerostep::testing {
namespace {

namespace fs = std::filesystem;

class Overwriting : public ::testing::Test {
 protected:
  // A run of forward-only steps with a checkpoint in runs/test, and the weights that it began with in base.
  void SetUp() override {
    file_ = place_.config(R"("step": {"mode": "zo", "queries": 1})");
    const Outcome base = place_.run({"init", file_, place_.path("base")});
    ASSERT_EQ(base.status, 0) << base.err;
    const Outcome trained = place_.run({"train", file_, "--set", "run.steps=2", "--set", "run.checkpoint_interval=2"});
    ASSERT_EQ(trained.status, 0) << trained.err;
  }
  // Each command that writes a model, as it writes into `directory`.
  std::map<std::string, std::vector<std::string>> commands(const std::string& directory) const {
    return {{"init", {"init", file_, directory}},
            {"export", {"export", checkpoint(), directory}},
            {"rebuild", {"rebuild", "--base", place_.path("base"), "--log", place_.path("runs/test/zo_log.jsonl"), directory}},
            {"train", {"train", file_, "--set", "run.name=other", "--set", "run.steps=1", "--save-model", directory}}};
  }
  std::string checkpoint() const { return place_.path("runs/test/checkpoints/step_00000002"); }
  std::map<std::string, std::string> content(const std::string& name) const {
    std::map<std::string, std::string> out;
    for (const auto& entry : fs::directory_iterator(place_.path(name)))
      if (entry.is_regular_file()) out[entry.path().filename()] = place_.read(name + "/" + entry.path().filename().string());
    return out;
  }
  void expect_refused(const std::vector<std::string>& arguments, const std::vector<std::string>& says, int ranks = 1) const {
    const Outcome done = place_.run(arguments, {.ranks = ranks});
    EXPECT_EQ(done.status, 2) << arguments[0] << done.out << done.err;
    EXPECT_EQ(count(done.err, "zerostep: "), 1U) << done.err;
    for (const std::string& part : says) EXPECT_SAYS(done.err, part);
    EXPECT_EQ(done.out.find("step 1"), std::string::npos) << done.out;
    EXPECT_FALSE(place_.exists("runs/other"));
  }
  Workplace place_;
  std::string file_;
};

TEST_F(Overwriting, AModelIsReplacedOnlyWhereThatIsAsked) {
  for (const char* name : {"config.json", "model.safetensors", "model-00001-of-00002.safetensors", "tokenizer.json", "vocab.txt"}) {
    fs::remove_all(place_.path("mine"));
    fs::create_directory(place_.path("mine"));
    place_.write(std::string("mine/") + name, R"({"model_type": "gpt2"})");
    const auto before = content("mine");
    for (const auto& [command, arguments] : commands(place_.path("mine"))) {
      expect_refused(arguments,
                     {"mine holds a model or a tokenizer already (" + std::string(name) + ")", "another directory", "--overwrite"},
                     command == "train" && std::string(name) == "vocab.txt" ? 2 : 1);
      EXPECT_EQ(content("mine"), before) << command;
    }
  }
  for (const auto& [command, arguments] : commands(place_.path("mine"))) {
    place_.write("mine/model.safetensors", "");
    std::vector<std::string> allowed = arguments;
    allowed.emplace_back("--overwrite");
    const Outcome done = place_.run(allowed);
    EXPECT_EQ(done.status, 0) << command << done.err;
    EXPECT_GT(place_.read("mine/model.safetensors").size(), 4U * 34720) << command;
  }
  fs::remove_all(place_.path("runs/other"));
  // What is no model's is in nobody's way.
  fs::create_directory(place_.path("empty"));
  place_.write("empty/notes.txt", "mine");
  EXPECT_EQ(place_.run({"init", file_, place_.path("empty")}).status, 0);
  EXPECT_EQ(place_.read("empty/notes.txt"), "mine");
  expect_refused({"init", file_, place_.path("empty")}, {"config.json, model.safetensors"});
}

TEST_F(Overwriting, OneProcessAtATimeWritesAModelIntoADirectory) {
  fs::create_directory(place_.path("shared"));
  {
    const FileDescriptor other(::open(place_.path("shared").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_EQ(try_lock(other.get(), LOCK_EX), 0);
    for (const auto& [command, arguments] : commands(place_.path("shared"))) {
      expect_refused(arguments, {place_.path("shared") + ": another process writes a model there", "another directory"},
                     command == "train" ? 2 : 1);
      EXPECT_TRUE(fs::is_empty(place_.path("shared"))) << command;
    }
  }
  EXPECT_EQ(place_.run(commands(place_.path("shared"))["export"]).status, 0);
  // A run has its directory from the start, though it writes at its end.
  fs::create_directory(place_.path("later"));
  std::vector<std::string> run = commands(place_.path("later"))["train"];
  run.insert(run.end(), {"--set", "run.steps=1000000"});
  const pid_t pid = place_.start(place_.command(run, 1));
  ASSERT_TRUE(place_.wait_for_rows("other", 1, pid)) << place_.finish(pid, 0).err;
  const Outcome refused = place_.run({"init", file_, place_.path("later")});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "later: another process writes a model there");
  ::kill(pid, SIGUSR1);  // it stops, and writes its model
  EXPECT_EQ(place_.finish(pid).status, 0);
  EXPECT_TRUE(place_.exists("later/model.safetensors"));
}

TEST_F(Overwriting, ARunACheckpointAndAnotherProgramsConfigurationStayWhateverIsAsked) {
  fs::create_directory(place_.path("own"));
  place_.write("own/config.json", "{\n  // of a run\n  \"train_batch_size\": 8\n}");
  for (const auto& [directory, says] :
       {std::pair("runs/test", "is the folder of a run"), std::pair("runs/test/checkpoints/step_00000002", "is a checkpoint"),
        std::pair("own", "holds a config.json that is not a model's")}) {
    const auto before = content(directory);
    for (auto& [command, arguments] : commands(place_.path(directory))) {
      expect_refused(arguments, {directory, says, "another directory"});
      arguments.emplace_back("--overwrite");
      expect_refused(arguments, {directory, says, "another directory"});
    }
    EXPECT_EQ(content(directory), before);
  }
  // The folder that the run itself will have.
  std::vector<std::string> itself = commands(place_.path("runs/other"))["train"];
  expect_refused(itself, {"runs/other is the folder of this run", "another directory"});
  // What is rebuilt from is read to the end.
  std::vector<std::string> onto_base = commands(place_.path("base"))["rebuild"];
  onto_base.emplace_back("--overwrite");
  expect_refused(onto_base, {"base is the base", "another directory"});
}

TEST_F(Overwriting, AResumedRunIsToldTheKey) {
  const std::vector<std::string> resumed{
      "train", file_, "--set", "run.checkpoint_interval=2", "--resume", "--save-model", place_.path("base")};
  expect_refused(resumed, {"base holds a model", "--set run.overwrite=true"});
  std::vector<std::string> allowed = resumed;
  allowed.insert(allowed.end(), {"--set", "run.overwrite=true"});
  const Outcome done = place_.run(allowed);
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(place_.metrics("test").size(), 4U);
  // A finished run writes its model all the same.
  expect_refused(resumed, {"base holds a model", "--set run.overwrite=true"});
  EXPECT_EQ(place_.run(allowed).status, 0);
}

TEST_F(Overwriting, AProfileReplacesOnlyAProfile) {
  const std::string profile = "flops_profiler={\"enabled\": true, \"output_file\": \"" + place_.path("profile.txt") + "\"}";
  const std::vector<std::string> arguments{"train", file_, "--set", "run.name=other", "--set", "run.steps=1", "--set", profile};
  place_.write("profile.txt", "the user's own\n");
  expect_refused(arguments, {"flops_profiler.output_file", "profile.txt is a file of another kind", "another file"});
  EXPECT_EQ(place_.read("profile.txt"), "the user's own\n");
  place_.write("profile.txt", "");
  for (int time = 0; time < 2; ++time) {
    std::vector<std::string> again = arguments;
    again.emplace_back("--overwrite");
    const Outcome done = place_.run(again);
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_SAYS(place_.read("profile.txt"), "flops profiler, step 1");
  }
}

}  // namespace
}  // namespace zerostep::testing
