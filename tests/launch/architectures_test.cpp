#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/launch/support/run_binary.h"

// Llama and Qwen2 by their sizes and from a Hugging Face directory, through every command.
namespace zerostep::testing {
namespace {

using nlohmann::json;

class Architectures : public ::testing::TestWithParam<const char*> {
 protected:
  // A file that describes the model by its sizes.
  std::string by_sizes() const {
    place_.config();
    json config = json::parse(place_.read("config.json"));
    config["model"] = {{"family", GetParam()},         {"num_hidden_layers", 2},   {"hidden_size", 32},
                       {"intermediate_size", 48},      {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                       {"max_position_embeddings", 32}};
    place_.write("sizes.json", config.dump());
    return place_.path("sizes.json");
  }
  // The same, its model in the directory "base".
  std::string from_directory() const {
    json config = json::parse(place_.read("sizes.json"));
    config["model"] = {{"path", place_.path("base")}};
    place_.write("path.json", config.dump());
    return place_.path("path.json");
  }
  json evaluated(const std::string& file, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> command{
        "eval", file, "--json", "--set", "data.eval=" + place_.path("corpus.txt"), "--set", "run.eval_samples=20"};
    command.insert(command.end(), more.begin(), more.end());
    const Outcome done = place_.run(command);
    EXPECT_EQ(done.status, 0) << done.err;
    return json::parse(done.out);
  }
  std::vector<double> losses(const std::string& run) const {
    std::vector<double> out;
    for (const auto& row : place_.metrics(run)) out.push_back(std::stod(row.at("loss")));
    return out;
  }
  Workplace place_;
};

TEST_P(Architectures, ADirectoryIsWhatItsSizesAndValuesSay) {
  const std::string sizes = by_sizes();
  ASSERT_EQ(place_.run({"init", sizes, place_.path("base")}).status, 0);
  const std::string directory = from_directory();
  EXPECT_EQ(evaluated(directory), evaluated(sizes));
  EXPECT_EQ(json::parse(place_.run({"plan", directory, "--json"}).out)["device_peak_bytes"],
            json::parse(place_.run({"plan", sizes, "--json"}).out)["device_peak_bytes"]);
  // Another seed changes what is untrained, and nothing of what is read.
  EXPECT_EQ(evaluated(directory, {"--set", "seed=4"}), evaluated(directory));
  EXPECT_NE(evaluated(sizes, {"--set", "seed=4"}), evaluated(sizes));
}

TEST_P(Architectures, TrainTheSameAtEveryStageAndWithForwardPassesAlone) {
  by_sizes();
  ASSERT_EQ(place_.run({"init", place_.path("sizes.json"), place_.path("base")}).status, 0);
  const std::string file = from_directory();
  const std::vector<std::vector<std::string>> modes = {
      {},
      {"--set", "step={\"mode\": \"zo\", \"queries\": 2}"},
      {"--set", "step={\"mode\": \"zo\", \"queries\": 2, \"perturbation\": \"low_rank\", \"scope\": \"reduced\"}"}};
  for (const auto& mode : modes) {
    const auto trained = [&](const char* stage, int ranks, const char* name) {
      std::vector<std::string> command{"train",
                                       file,
                                       "--overwrite",
                                       "--set",
                                       std::string("zero_optimization.stage=") + stage,
                                       "--set",
                                       std::string("run.name=") + name,
                                       "--save-model",
                                       place_.path(name)};
      command.insert(command.end(), mode.begin(), mode.end());
      const Outcome done = place_.run(command, {.ranks = ranks});
      EXPECT_EQ(done.status, 0) << done.err;
      return losses(name);
    };
    const std::vector<double> alone = trained("0", 1, "alone"), sharded = trained("3", 2, "sharded");
    ASSERT_EQ(alone.size(), 4u);
    ASSERT_EQ(sharded.size(), 4u);
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(alone[i], sharded[i], 1e-5 * alone[i]);
    EXPECT_NEAR(alone[0], std::log(257), 0.2);
    const json after = evaluated(file, {"--checkpoint", place_.path("sharded")});
    EXPECT_NE(after, evaluated(file));
    // What training wrote is a directory to start from.
    EXPECT_EQ(evaluated(file, {"--set", "model.path=" + place_.path("sharded")}), after);
  }
  const Outcome text = place_.run({"generate", "--model", place_.path("alone"), "--prompt", "line ", "--tokens", "10", "--ignore-end"});
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_EQ(text.out.substr(0, 5), "line ");
}

TEST_P(Architectures, ADirectoryThatIsDamagedIsSaid) {
  by_sizes();
  ASSERT_EQ(place_.run({"init", place_.path("sizes.json"), place_.path("base")}).status, 0);
  const std::string file = from_directory();
  place_.write("base/model.safetensors", place_.read("base/model.safetensors").substr(0, 5000));
  const Outcome refused = place_.run({"train", file});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "base/model.safetensors: truncated");
  json config = json::parse(place_.read("base/config.json"));
  config["num_key_value_heads"] = 3;
  place_.write("base/config.json", config.dump());
  const Outcome contradicting = place_.run({"plan", file});
  EXPECT_EQ(contradicting.status, 2);
  EXPECT_SAYS(contradicting.err, "base/config.json: num_attention_heads 4 does not divide by num_key_value_heads 3");
  EXPECT_SAYS(contradicting.err, place_.path("base"));
}

INSTANTIATE_TEST_SUITE_P(Families, Architectures, ::testing::Values("llama", "qwen2"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace zerostep::testing
