#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

using nlohmann::json;

class CommandLine : public ::testing::Test {
 protected:
  Workplace place_;
};

TEST_F(CommandLine, HelpOfEveryCommandIsEnoughToWorkWith) {
  const Outcome all = place_.run({"--help"});
  EXPECT_EQ(all.status, 0);
  for (const char* command : {"train", "plan", "bench", "config", "init", "eval", "generate", "export", "rebuild", "inspect", "watch",
                              "runs", "doctor", "probe"}) {
    EXPECT_SAYS(all.out, std::string("  ") + command);
    const Outcome one = place_.run({command, "--help"});
    EXPECT_EQ(one.status, 0) << command;
    EXPECT_GT(one.out.size(), 200u) << one.out;
    EXPECT_EQ(one.err, "");
  }
  EXPECT_SAYS(all.out, "Exit status");
  EXPECT_SAYS(place_.run({"inspect", "batches", "--help"}).out, "--steps");
}

TEST_F(CommandLine, TheVersionIsTheOneThatCheckpointsName) {
  const Outcome trained = place_.run({"train", place_.config(), "--set", "run.steps=1", "--set", "run.checkpoint_interval=1"});
  ASSERT_EQ(trained.status, 0) << trained.err;
  const Outcome inspected = place_.run({"inspect", "checkpoint", place_.path("runs/test/checkpoints/step_00000001")});
  ASSERT_EQ(inspected.status, 0) << inspected.err;
  for (const int ranks : {1, 2}) {
    const Outcome asked = place_.run({"--version"}, {.ranks = ranks});
    EXPECT_EQ(asked.status, 0);
    EXPECT_EQ(asked.err, "");
    ASSERT_TRUE(std::regex_match(asked.out, std::regex("zerostep [0-9]+\\.[0-9]+\\.[0-9]+\n"))) << asked.out;
    EXPECT_SAYS(inspected.out, asked.out.substr(0, asked.out.size() - 1) + ", 1 rank at stage 0");
  }
  const Outcome guessed = place_.run({"version"});
  EXPECT_EQ(guessed.status, 2);
  EXPECT_SAYS(guessed.err, "`" + program() + " --version` prints it");
}

TEST_F(CommandLine, WrongArgumentsAreTheUsersFault) {
  const std::string file = place_.config();
  struct Case {
    std::vector<std::string> arguments;
    std::string says;
  };
  const Case cases[] = {{{}, "--help"},
                        {{"trian", file}, "is 'train' meant"},
                        {{"train"}, "FILE"},
                        {{"train", file, "--worlds", "3"}, "--worlds"},
                        {{"plan", file, "--world", "0"}, "--world"},
                        {{"plan", file, "--world", "many"}, "--world"},
                        {{"config"}, "--keys"},
                        {{"train", place_.path("nothing.json")}, "nothing.json"},
                        {{"train", file, "--set", "run.steps"}, "run.steps"},
                        {{"train", file, "--set", "run.stpes=3"}, "steps"},
                        {{"inspect", "batches", file, "--steps", "-1"}, "--steps"},
                        {{"generate", "--model", place_.path("nowhere"), "--prompt", "a"}, "nowhere"},
                        {{"train", file, "--set", "run.eval_interval=2"}, "data.eval"},
                        {{"eval", file}, "data.eval"},
                        {{"export", place_.path("nowhere"), place_.path("out")}, "nowhere"},
                        {{"inspect", "checkpoint", place_.path("nowhere")}, "nowhere"},
                        {{"train", file, "--resume"}, "latest"},
                        {{"train", file, "--device", "gpu"}, "--device gpu: run.device is \"gpu\""}};
  for (const Case& c : cases) {
    const Outcome done = place_.run(c.arguments);
    EXPECT_EQ(done.status, 2) << done.err;
    EXPECT_SAYS(done.err, c.says);
    EXPECT_EQ(done.out, "");
  }
  EXPECT_FALSE(place_.exists("runs/test"));
}

TEST_F(CommandLine, AGpuWithoutItsLibraryIsRefusedWithTheWayToGetIt) {
  const std::string alone = place_.path("alone");  // what lies beside the program does not
  std::filesystem::copy_file(program(), alone);
  const Outcome done = place_.run_command({alone, "train", place_.config(), "--device", "cuda"});
  EXPECT_EQ(done.status, 2) << done.err;
  EXPECT_EQ(done.out, "");
  for (const char* part : {"--device cuda: run.device is \"cuda\": a GPU needs libzerostep_cuda.so",
                           "A build for GPUs needs CUDA 13 (`launch/setup.sh --cuda` brings it, then build again",
                           "\"cpu\", or --device cpu, computes on the processor"})
    EXPECT_SAYS(done.err, part);
  EXPECT_FALSE(place_.exists("runs/test"));
}

TEST_F(CommandLine, MistypedAndMissingCommandsNameTheNearestThing) {
  const std::string file = place_.config();
  struct Case {
    std::vector<std::string> arguments;
    std::string says;
  };
  for (const Case& c :
       {Case{{"classify", file}, "there is no command 'classify' in this version: `" + program() + " predict --model MODEL --input FILE"},
        Case{{"evla", file}, "is 'eval' meant?"}, Case{{"evaluate", file}, "`" + program() + " eval FILE`"},
        Case{{"nonsense"}, "the commands are train, plan"}, Case{{"inspect", "batchs", file}, "is 'inspect batches' meant?"},
        Case{{"inspect", "chekpoint", "x"}, "is 'inspect checkpoint' meant?"},
        Case{{"inspect", "data", file}, "`" + program() + " inspect batches FILE`"},
        Case{{"inspect", "nonsense", file}, "'inspect nonsense'; inspect has batches, model, checkpoint, noise, presets"},
        Case{{"inspect"}, "needs a command: batches, model, checkpoint, noise, presets"},
        Case{{"train", file, "--reusme"}, "there is no option --reusme; the nearest is --resume"},
        Case{{"inspect", "batches", file, "--step", "3"}, "there is no option --step; the nearest is --steps"}}) {
    const Outcome done = place_.run(c.arguments);
    EXPECT_EQ(done.status, 2) << done.err;
    EXPECT_SAYS(done.err, c.says);
    EXPECT_EQ(done.out, "");
  }
}

// Commands in messages can be typed as they stand.
TEST_F(CommandLine, TheProgramHasTheNameThatItWasCalledBy) {
  std::filesystem::create_symlink(program(), place_.path("zs"));
  place_.config();
  const auto said = [&](const std::string& arguments) {
    const Outcome done = place_.run_command({"sh", "-c", "cd '" + place_.path("") + "' && ./zs " + arguments});
    return done.out + done.err;
  };
  EXPECT_SAYS(said("classify"), "there is no command 'classify' in this version: `./zs predict --model MODEL --input FILE");
  EXPECT_SAYS(said("classify"), "(`./zs --help` says more)");
  EXPECT_SAYS(said("inspect"), "zerostep: ./zs inspect needs a command");
  EXPECT_SAYS(said("eval config.json --set data.eval=corpus.txt"), "the untrained model that `./zs train` would start from");
  EXPECT_SAYS(said("plan config.json --set 'optimizer.params.no_decay=nothing'"), "(`./zs inspect model FILE` lists them)");
  EXPECT_SAYS(said("config config.json --set 'autotuning={\"enabled\": true}'"), "`./zs plan FILE --fit` chooses");
  for (const std::string command : {"", "train", "plan", "bench machine", "config", "init", "eval", "generate", "export", "rebuild",
                                    "inspect", "watch", "runs", "runs prune", "doctor", "probe"}) {
    const std::string help = said(command + " --help");
    EXPECT_SAYS(help, "./zs " + command);
    EXPECT_EQ(count(help, "zerostep "), 0u) << help;
  }
}

TEST_F(CommandLine, ConfigShowsOriginsAndKeys) {
  const Outcome shown = place_.run({"config", place_.config(), "--set", "zero_optimization.stage=2"});
  EXPECT_EQ(shown.status, 0);
  EXPECT_SAYS(shown.out, "zero_optimization.stage = 2   (given");
  EXPECT_SAYS(shown.out, "(default");
  const Outcome keys = place_.run({"config", "--keys"});
  EXPECT_EQ(keys.status, 0);
  EXPECT_SAYS(keys.out, "stage3_max_live_parameters");
  const Outcome plain = place_.run({"config", place_.path("config.json"), "--json"});
  EXPECT_EQ(json::parse(plain.out)["run"]["steps"], 4);
}

TEST_F(CommandLine, PlanAgreesWithItselfInTextAndJson) {
  const std::string file = place_.config("\"zero_optimization\": {\"stage\": 3, \"stage3_param_persistence_threshold\": 0}");
  const Outcome text = place_.run({"plan", file, "--world", "2", "--actions"});
  EXPECT_EQ(text.status, 0) << text.err;
  const Outcome machine = place_.run({"plan", file, "--world", "2", "--json"});
  const json plan = json::parse(machine.out);
  EXPECT_EQ(plan["world"], 2);
  EXPECT_EQ(plan["stage"], 3);
  // GPT-2: wte 257 x 32, wpe 32 x 32, 2 blocks of 12 d^2 + 13 d, final norm 2 d.
  EXPECT_EQ(plan["parameters"], 257 * 32 + 32 * 32 + 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32);
  EXPECT_GT(plan["device_peak_bytes"].get<int64_t>(), plan["parameters"].get<int64_t>() * 16 / 2);
  EXPECT_EQ(plan["device_peak_bytes"].get<int64_t>(), plan["arena_bytes"].get<int64_t>() + plan["activation_peak_bytes"].get<int64_t>());
  EXPECT_TRUE(plan["fits"].get<bool>());
  int64_t moved = 0;
  for (const json& c : plan["steps"][0]["collectives"]) moved += c["elements"].get<int64_t>();
  EXPECT_EQ(moved, plan["elements_gathered"].get<int64_t>() + plan["elements_reduced"].get<int64_t>());
  EXPECT_SAYS(text.out, "Memory of a rank at its peak");
  EXPECT_SAYS(text.out, "forward h.0");
  EXPECT_FALSE(place_.exists("runs"));
}

TEST_F(CommandLine, APlanOfAThousandRanksSharesEverythingOut) {
  const std::string file = place_.config("\"zero_optimization\": {\"stage\": 3}, \"bf16\": {\"enabled\": true}");
  std::vector<std::string> arguments{"plan", file, "--world", "1024", "--ranks-per-node", "8", "--json"};
  for (const char* value : {"model.n_layer=80", "model.n_embd=1024", "model.n_head=8", "model.n_positions=256", "data.sequence_length=256",
                            "train_batch_size=1024", "run.device_memory=80e9", "zero_optimization.stage3_max_reuse_distance=0"})
    arguments.insert(arguments.end(), {"--set", value});
  const Outcome done = place_.run(arguments);
  ASSERT_EQ(done.status, 0) << done.err;
  const json plan = json::parse(done.out);
  EXPECT_EQ(plan["world"], 1024);
  EXPECT_EQ(plan["train_micro_batch_size_per_gpu"], 1);
  // GPT-2: two embeddings; a block has four matrices of 12 w^2 in all, biases of 9 w and two norms of 2 w each; a last norm.
  constexpr int64_t kWidth = 1024, kLayers = 80, kPositions = 256, kVocabulary = 257, kRanks = 1024;
  constexpr int64_t kVectors = 13 * kWidth * kLayers + 2 * kWidth,
                    kParameters = (kVocabulary + kPositions) * kWidth + 12 * kWidth * kWidth * kLayers + kVectors;
  EXPECT_EQ(plan["parameters"], kParameters);
  // A rank has its part of the fp32 gradients; a slice is padded to 16 elements a rank, and a parameter begins at 16 elements.
  int64_t gradients = 0, slices = 0;
  for (const json& buffer : plan["buffers"])
    if (buffer["kind"] == "gradients") {
      gradients += buffer["bytes"].get<int64_t>() / 4;
      slices += buffer["count"].get<int64_t>();
    }
  EXPECT_GE(gradients, kParameters / kRanks);
  EXPECT_LE(gradients, kParameters / kRanks + 17 * slices);
  // Of what is reduced it receives one part from each other rank. Matrices are gathered for the forward and for the backward pass, vectors,
  // which are below the persistence threshold, once; positions are not needed again.
  EXPECT_GE(plan["elements_reduced"], (kRanks - 1) * gradients);
  EXPECT_LE(plan["elements_reduced"], (kRanks - 1) * (gradients + slices));
  EXPECT_GE(plan["elements_gathered"], 2 * (kParameters - kVectors - kPositions * kWidth) / kRanks * (kRanks - 1));
  EXPECT_LE(plan["elements_gathered"], 2 * (gradients * (kRanks - 1)));
  EXPECT_EQ(plan["device_limit_bytes"], 80000000000);
  EXPECT_EQ(plan["device_limit_source"], "run.device_memory");
  EXPECT_TRUE(plan["fits"].get<bool>());
}

TEST_F(CommandLine, APlanThatDoesNotFitIsShownAndIsWrongInputAsForTraining) {
  const std::string file = place_.config();
  const Outcome plan = place_.run({"plan", file, "--set", "run.device_memory=100000", "--json"});
  EXPECT_EQ(plan.status, 2);
  EXPECT_FALSE(json::parse(plan.out)["fits"].get<bool>());
  EXPECT_SAYS(plan.err, "What helps");
  const Outcome run = place_.run({"train", file, "--set", "run.device_memory=100000"});
  EXPECT_EQ(run.status, 2);
  EXPECT_SAYS(run.err, "run.device_memory");
  EXPECT_SAYS(run.err, "What helps");
  EXPECT_FALSE(place_.exists("runs/test"));
}

TEST_F(CommandLine, InspectModelNamesEveryParameterOnce) {
  const json model = json::parse(place_.run({"inspect", "model", place_.config()}).out);
  int64_t next = 0;
  for (const json& unit : model["units"])
    for (const json& p : unit["parameters"]) {
      EXPECT_EQ(p["first"], next) << p;
      int64_t n = 1;
      for (const json& d : p["shape"]) n *= d.get<int64_t>();
      next += n;
    }
  EXPECT_EQ(model["elements"], next);
  EXPECT_EQ(model["units"][0]["parameters"][0]["name"], "transformer.wte.weight");
}

TEST_F(CommandLine, InspectBatchesPrintsWindowsOfTheText) {
  const std::string text = place_.read("corpus.txt");
  const Outcome done = place_.run({"inspect", "batches", place_.config(), "--steps", "3"});
  ASSERT_EQ(done.status, 0) << done.err;
  std::istringstream lines(done.out);
  int64_t step = 0;
  for (std::string line; std::getline(lines, line); ++step) {
    const json batch = json::parse(line);
    EXPECT_EQ(batch["step"], step);
    ASSERT_EQ(batch["samples"].size(), 4u);
    for (size_t j = 0; j < 4; ++j) {
      std::string sample;
      for (const json& token : batch["samples"][j]) sample += static_cast<char>(token.get<int>());
      ASSERT_EQ(sample.size(), 17u);
      EXPECT_NE(text.find(sample), std::string::npos) << sample;
      for (size_t t = 0; t < 16; ++t) EXPECT_EQ(batch["labels"][j][t], batch["samples"][j][t + 1]);
    }
  }
  EXPECT_EQ(step, 3);
}

}  // namespace
}  // namespace zerostep::testing
