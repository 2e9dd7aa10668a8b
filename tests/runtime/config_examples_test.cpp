#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/runtime/support/config_file.h"

// Files as they are in use: a real project's, and those of configs/ and of the documents.
namespace zerostep {
namespace {

using nlohmann::json;

// The ds_config.json of a real distillation project.
TEST(Config, ARealFileIsUnderstood) {
  json config = json::parse(R"({ "train_batch_size": 16, "gradient_accumulation_steps": 1,
  "zero_optimization": { "stage": 3,
    "offload_optimizer": { "device": "cpu", "pin_memory": true, "fast_init": true },
    "offload_param": { "device": "cpu", "pin_memory": true, "buffer_count": 5, "buffer_size": 1e8, "max_in_cpu": 1e9 },
    "stage3_prefetch_bucket_size": 1e7, "stage3_param_persistence_threshold": 1e5, "stage3_max_live_parameters": 5e8,
    "stage3_max_reuse_distance": 5e8, "stage3_gather_16bit_weights_on_model_save": true, "round_robin_gradients": true },
  "activation_checkpointing": { "partition_activations": true, "cpu_checkpointing": true, "contiguous_memory_optimization": true, "number_checkpoints": 8 },
  "memory_efficient_linear": true, "aio": { "block_size": 1048576, "queue_depth": 8, "single_submit": false, "overlap_events": true },
  "use_dynamic_tiling": true, "model": {"preset": "gpt2-200M"}, "data": {"train": "corpus.txt"} })");
  const LoadedConfig loaded = load_text(config.dump(), {}, 2);
  EXPECT_EQ(loaded.config.zero.offload_optimizer.tier, Tier::Host);
  EXPECT_EQ(loaded.config.zero.offload_param.tier, Tier::Host);
  EXPECT_EQ(loaded.config.zero.offload_param.buffer_count, 5);
  EXPECT_TRUE(loaded.config.cpu_checkpointing);
  EXPECT_EQ(loaded.config.zero.stage3_prefetch_bucket_size, 10000000);
  EXPECT_EQ(loaded.config.zero.stage3_max_live_parameters, 500000000);
  EXPECT_EQ(loaded.config.number_checkpoints, 8);
  EXPECT_EQ(loaded.config.batch.micro_batch_size, 8);
  expect_words(warnings_of(loaded),
               {"use_dynamic_tiling has no effect", "memory_efficient_linear has no effect", "partition_activations has no effect",
                "aio.block_size", "fast_init has no effect", "buffer_size has no effect"});
}

TEST(Config, TheExamplesLoad) {
  const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "ctest sets ZEROSTEP_SOURCE_DIR";
  size_t examples = 0;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(source);  // they name what the set-up brings
  for (const auto& entry : std::filesystem::recursive_directory_iterator("configs")) {
    if (entry.path().extension() != ".json" || entry.path().parent_path() == "configs/machines" ||
        entry.path().parent_path() == "configs/sweeps" || entry.path().filename() == "datasets.json")
      continue;
    for (int world : {1, 2}) {
      const LoadedConfig loaded = load_config({.file = entry.path().string(), .set = {}, .world = world});
      EXPECT_EQ(warnings_of(loaded), "") << entry.path();
      EXPECT_FALSE(loaded.config.data.train.empty()) << entry.path();
    }
    ++examples;
  }
  std::filesystem::current_path(before);
  EXPECT_GE(examples, 5u);
}

// Those of the documents mean something as they stand: the README's is a whole file, for as many ranks as its commands name; the others are
// blocks of one.
TEST(Config, TheDocumentsExamplesLoad) {
  const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "ctest sets ZEROSTEP_SOURCE_DIR";
  const auto blocks_of = [&](const std::string& document) {
    std::ifstream in(std::string(source) + "/" + document);
    std::vector<std::string> out;
    bool is_inside = false;
    for (std::string line; std::getline(in, line);) {
      if (is_inside && line != "```") out.back() += line + "\n";
      if (line == "```json") out.emplace_back();
      is_inside = line == "```json" || (is_inside && line != "```");
    }
    return out;
  };
  const std::vector<std::string> readme = blocks_of("README.md");
  ASSERT_EQ(readme.size(), 1u);
  for (const int world : {1, 2, 4, 8}) EXPECT_EQ(warnings_of(load_text(readme[0], {}, world)), "") << world;
  EXPECT_EQ(load_text(readme[0], {"step.mode=zo"}).config.gradient_clipping, 0) << "what is made for gradients cuts estimates to nothing";
  const std::vector<std::string> blocks = blocks_of("docs/offload.md");
  ASSERT_EQ(blocks.size(), 2u);
  for (const std::string& block : blocks) {
    json whole = tiny_config();
    whole.update(json::parse(block));
    const LoadedConfig loaded = load_text(whole.dump(), {}, 2);
    EXPECT_EQ(warnings_of(loaded), "") << block;
    EXPECT_NE(loaded.config.zero.offload_param.tier, Tier::Device);
    EXPECT_NE(loaded.config.zero.offload_optimizer.tier, Tier::Device);
  }
}

}  // namespace
}  // namespace zerostep
