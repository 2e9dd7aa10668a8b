#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "experiments/records/read_file.h"
#include "experiments/sweep/points.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

// Each file of configs/sweeps/ is as many runs as its head says, and all of them are valid on one rank and on two.
TEST(SweepExamples, AreTheRunsThatTheySay) {
  const char* source = std::getenv("ZEROSTEP_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "ctest sets ZEROSTEP_SOURCE_DIR";
  const std::map<std::string, size_t> runs{{"quick", 4},      {"fo_vs_zo", 12},   {"alternating", 18},
                                           {"data_split", 9}, {"query_batch", 6}, {"cross_data", 8}};
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(source) / "configs/sweeps")) {
    ++files;
    for (int ranks : {1, 2}) {
      SweepFile file = read_sweep_file(entry.path().string());
      file.resources.ranks = ranks;
      // What its first comment begins with.
      const std::string text = read_file(entry.path()), end = file.asks.substr(file.asks.rfind(' ') + 1);
      EXPECT_FALSE(file.asks.empty()) << entry.path();
      EXPECT_TRUE(text.starts_with("// Asks: " + file.asks.substr(0, 40))) << file.asks;
      EXPECT_SAYS(text, " " + end + "\n//   ");
      const SweepBase base = file.base.empty() ? SweepBase{file.file, file.inline_base.dump()} : SweepBase{file.base, read_file(file.base)};
      const std::vector<SweepPoint> points = points_of(file, base, {});
      EXPECT_EQ(points.size(), runs.at(file.name)) << entry.path();
      for (const SweepPoint& point : points) {
        // What takes longer than minutes survives an interrupt and a crash, and does not fill the disk.
        const bool is_long = file.name != "quick";
        EXPECT_EQ(point.loaded.config.run.checkpoint_interval, is_long ? 50 : 0) << entry.path();
        EXPECT_EQ(point.loaded.config.run.keep_checkpoints, 2) << entry.path();  // the fewest
        for (const std::string& warning : point.loaded.warnings)                 // what one mode needs has no effect in another
          EXPECT_SAYS(warning, "no effect") << entry.path();
      }
    }
  }
  EXPECT_EQ(files, runs.size());
}

}  // namespace
}  // namespace zerostep
