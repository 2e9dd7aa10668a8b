#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "runtime/config/config.h"

namespace zerostep::testing {

// Where parameters and the optimizer's state rest.
struct Tiers {
  Tier parameters, state;
};

// A folder for scratch files, which must be empty again in the end.
class TierFolder {
 public:
  TierFolder() { std::filesystem::create_directories(path); }
  ~TierFolder() {
    EXPECT_TRUE(std::filesystem::is_empty(path));
    std::filesystem::remove_all(path);
  }
  TierFolder(const TierFolder&) = delete;
  TierFolder& operator=(const TierFolder&) = delete;
  const std::string path = fmt::format("{}/tiers-{}", ::testing::TempDir(), getpid());
};

inline void put(Config& config, const Tiers& tiers, const TierFolder& folder) {
  config.zero.offload_param.tier = tiers.parameters;
  config.zero.offload_optimizer.tier = tiers.state;
  config.zero.offload_param.nvme_paths = config.zero.offload_optimizer.nvme_paths = {folder.path};
}

}  // namespace zerostep::testing
