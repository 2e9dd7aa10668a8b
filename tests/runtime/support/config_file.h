#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/config/load_config.h"

namespace zerostep {

// A configuration file that lives as long as the object.
class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("zerostep_config_" + std::to_string(::getpid()) + "_" + std::to_string(count++) + ".json");
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~ConfigFile() {
    std::error_code ignored;  // a file that is gone already is no failure of the test
    std::filesystem::remove(path_, ignored);
  }
  ConfigFile(const ConfigFile&) = delete;
  ConfigFile& operator=(const ConfigFile&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

inline nlohmann::json tiny_config() {
  return nlohmann::json::parse(R"({
    "train_batch_size": 8, "train_micro_batch_size_per_gpu": 2, "gradient_clipping": 1.0, "seed": 11, "steps_per_print": 10,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.01}},
    "zero_optimization": {"stage": 0, "stage3_param_persistence_threshold": 0},
    "model": {"family": "gpt2", "n_layer": 3, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 257, "dropout": 0.0},
    "data": {"train": "corpus.txt", "tokenizer": "byte", "sequence_length": 48},
    "step": {"mode": "fo"},
    "run": {"name": "accept", "steps": 20, "checkpoint_interval": 0, "eval_interval": 0}})");
}

inline LoadedConfig load_text(const std::string& text, const std::vector<std::string>& set = {}, int world = 1) {
  const ConfigFile file(text);
  std::vector<Setting> settings;
  for (const std::string& setting : set) settings.push_back({setting, "--set " + setting});
  return load_config({.file = file.path(), .set = settings, .world = world});
}
// The tiny configuration with some values changed, each as "PATH=VALUE".
inline LoadedConfig load_tiny(const std::vector<std::string>& set = {}, int world = 1) {
  return load_text(tiny_config().dump(1), set, world);
}

inline const Gpt2Options& gpt2_of(const Config& config) { return std::get<Gpt2Options>(config.model.options); }
inline nlohmann::json resolved(const LoadedConfig& loaded) { return nlohmann::json::parse(loaded.resolved_json); }

// The message of the InputError that loading ends in.
inline std::string refusal_of(const std::string& text, const std::vector<std::string>& set = {}, int world = 1) {
  try {
    load_text(text, set, world);
  } catch (const InputError& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text.substr(0, 200);
  return "";
}
inline std::string tiny_refusal(const std::vector<std::string>& set, int world = 1) {
  return refusal_of(tiny_config().dump(1), set, world);
}

inline void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << "no '" << word << "' in: " << text;
}
inline std::string warnings_of(const LoadedConfig& loaded) {
  std::string all;
  for (const std::string& warning : loaded.warnings) all += warning + "\n";
  return all;
}

}  // namespace zerostep
