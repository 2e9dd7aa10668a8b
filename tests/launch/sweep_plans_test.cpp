#include "launch/sweep_plans.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "launch/sweep_gpus.h"
#include "tests/launch/support/sweep_place.h"

namespace zerostep::testing {
namespace {

namespace fs = std::filesystem;

// What a sweep knows of its points before it starts them.
class SweepPlans : public SweepCommand {
 protected:
  // The points of a file with these blocks, and who plans them.
  std::vector<SweepPoint> points(const std::string& blocks, int ranks) {
    SweepFile sweep = read_sweep_file(file(blocks));
    sweep.resources.ranks = ranks;
    const SweepBase base{sweep.base, place_.read("config.json")};
    planner_.emplace(base, ranks, 1, MemoryLimit{INT64_MAX, "no GPU"});
    return points_of(sweep, base, {});
  }
  std::optional<SweepPlanner> planner_;
  PointErrors errors_;
};

TEST_F(SweepPlans, KnowTheDiskOfWhatRestsInFiles) {
  const std::string block = R"("zero_optimization.offload_optimizer.)", folder = place_.path("nvme/deeper");
  const std::vector<SweepPoint> all = points(R"("runs": [{"seed": 1}, {"zero_optimization.stage": 3, )" + block + R"(device": "nvme", )" +
                                                 block + R"(nvme_path": ")" + folder + "\"}]",
                                             2);
  std::vector<PlannedRun> plans;
  planner_->plan(all, plans, errors_);
  ASSERT_TRUE(errors_.empty()) << errors_[0].second;
  EXPECT_TRUE(plans.at(0).disks.empty());
  ASSERT_EQ(plans.at(1).disks.size(), 1U);
  const DiskDemand& disk = plans[1].disks[0];
  EXPECT_GT(plans[1].file_bytes, 0);
  EXPECT_EQ(disk.num_bytes, 2 * plans[1].file_bytes);  // of both ranks
  EXPECT_EQ(disk.key, "zero_optimization.offload_optimizer.nvme_path");
  EXPECT_EQ(disk.folder, folder);
  const auto free = static_cast<double>(fs::space(place_.path(".")).available);
  EXPECT_NEAR(static_cast<double>(disk.free_bytes), free, 0.3 * free);  // others may fill and empty it
  EXPECT_FALSE(fs::exists(place_.path("nvme")));
}

TEST_F(SweepPlans, PointsOnGpusAreRefusedWhereNoneAnswers) {
  const std::vector<SweepPoint> all = points(R"("grid": {"run.device": ["cuda", "cpu", "auto"]})", 1);
  ASSERT_EQ(all.size(), 3U);
  SweepResources resources;
  refuse_missing_gpus(resources, all, errors_);
  ASSERT_EQ(errors_.size(), 1U);
  EXPECT_EQ(errors_[0].first, "run.device=cuda");
  EXPECT_SAYS(errors_[0].second, "run.device is \"cuda\", and no GPU answers here");
  errors_.clear();
  resources.gpus = {0};
  refuse_missing_gpus(resources, all, errors_);
  resources.gpus.clear();
  resources.uses_slurm = true;
  refuse_missing_gpus(resources, all, errors_);
  EXPECT_TRUE(errors_.empty());
}

TEST_F(SweepPlans, TextsThatTakeLongAreLeftOutAndSaid) {
  const std::string large = place_.path("large.txt");
  place_.write("large.txt", "");
  fs::resize_file(large, SweepPlanner::kTriedBytes + 1);
  const std::string blocks = R"("grid": {"data.train": [")" + place_.path("corpus.txt") + R"(", ")" + large + "\"]}";
  const std::vector<SweepPoint> all = points(blocks, 1);
  EXPECT_EQ(planner_->try_texts(all, errors_), std::vector<std::string>{all.at(1).name});
  EXPECT_TRUE(errors_.empty());
  EXPECT_SAYS(sweep_without_runs({"--dry-run"}).out,
              "texts of more than 64.0 MiB whose tokens are not there yet were not looked at: of " + all[1].name + "\n");
  EXPECT_FALSE(fs::exists(place_.path("runs")));
  // A text that is at most so large is looked at, and so is any of a point without an error alone.
  fs::resize_file(large, 3);
  EXPECT_TRUE(planner_->try_texts(all, errors_).empty());
  ASSERT_EQ(errors_.size(), 1U);
  EXPECT_EQ(errors_[0].first, all[1].name);
  EXPECT_SAYS(errors_[0].second, "fewer than one sample");
  EXPECT_TRUE(planner_->try_texts(all, errors_).empty());
  EXPECT_EQ(errors_.size(), 1U);
}

}  // namespace
}  // namespace zerostep::testing
