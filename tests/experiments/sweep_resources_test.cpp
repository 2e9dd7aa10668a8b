#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "base/core_set.h"
#include "experiments/records/read_file.h"
#include "tests/experiments/support/run_sweep.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

using testing::RunSweep;

TEST_F(RunSweep, RunsOnGpusHaveThemForThemselves) {
  // Each says which GPUs it sees, and ends when all that are started have said so.
  program(
      R"(echo "$CUDA_VISIBLE_DEVICES" >"$folder/seen"; loss=1; until [ $(ls "$sweep"/*/seen | wc -l) = 3 ]; do sleep 0.01; done; train)");
  SweepRequest all = request(R"("repeat": {"seed": [1, 2, 3, 4]})");
  all.file.resources.gpus = {0, 1, 2};
  all.file.resources.has_all_gpus = true;
  all.gpu_bytes = {100, 300, 200};
  for (size_t i = 0; i < 4; ++i) {
    PlannedRun& planned = all.planned[i];
    planned.device_is_host = i == 3;
    planned.gpu_bytes = std::array<int64_t, 4>{250, 301, 150, 0}[i];
  }
  const SweepOutcome done = run_sweep(all, screen_);
  ASSERT_EQ(done.count(SweepState::Done), 3u) << screen_.text_;
  EXPECT_EQ(done.rows[0].device, "cuda:1");
  EXPECT_EQ(done.rows[2].device, "cuda:2");
  EXPECT_EQ(done.rows[3].device, "cpu");
  EXPECT_EQ(read_file(scratch_.folder() / "many/seed=1/seen"), "1\n");
  EXPECT_EQ(read_file(scratch_.folder() / "many/seed=3/seen"), "2\n");
  EXPECT_EQ(done.rows[1].state, SweepState::Failed);
  EXPECT_SAYS(done.rows[1].error,
              "each rank needs 301 B of a GPU's memory; 300 B are free: 1 B are missing. End other programs on the GPUs,");
}

// Of three runs for two jobs the second one has no room beside the first, and the third has.
TEST_F(RunSweep, ARunWaitsUntilAnotherHasGivenItsMemoryOrDiskBack) {
  program(R"(case $name in
  seed=1) until [[ -e $sweep/seed=3/log.txt ]]; do sleep 0.01; done ;;
  seed=2) [[ -e $sweep/seed=1/log.txt ]] || { echo "zerostep: it has no room"; exit 1; } ;;
esac
loss=1; train)");
  for (const bool is_disk : {false, true}) {
    SweepRequest three =
        request(std::string(is_disk ? R"("name": "disk", )" : "") + R"("repeat": {"seed": [1, 2, 3]}, "resources": {"jobs": 2})");
    three.process_bytes = is_disk ? 0 : 50;
    three.memory_bytes = 1000;
    for (size_t i = 0; i < 3; ++i) {
      PlannedRun& planned = three.planned[i];
      planned.seconds = 30.0 - 10.0 * static_cast<double>(i);
      const int64_t bytes = i < 2 ? 501 : 499;
      if (is_disk)
        planned.disks = {{1, "some.nvme_path", "/other", bytes, 5000}, {7, "offload_param.nvme_path", "/fast", bytes, 1000}};
      else
        planned.host_bytes = bytes - 50;
    }
    EXPECT_EQ(run_sweep(three, screen_).count(SweepState::Done), 3u) << screen_.text_;
  }
}

TEST_F(RunSweep, ARunThatCannotFitSaysTheBytesThatAreMissing) {
  program("loss=1; train");
  constexpr int64_t kMiB = 1 << 20;
  SweepRequest four = request(R"("repeat": {"seed": [1, 2, 3, 4]}, "resources": {"ranks": 2, "jobs": 1})");
  four.process_bytes = 1 * kMiB;
  four.memory_bytes = 10 * kMiB;
  four.planned[0].host_bytes = 3 * kMiB;  // of each of two ranks
  four.planned[0].device_bytes = 3 * kMiB;
  four.planned[1].disks = {{7, "zero_optimization.offload_param.nvme_path", "/fast", 30 * kMiB, 20 * kMiB}};
  four.planned[2].refusal = "run.device_memory: a rank needs 7 B: 3 B are missing";
  four.planned[3].device_bytes = 100 * kMiB;  // of a GPU
  four.planned[3].device_is_host = false;
  four.options.stops_on_failure = true;
  const SweepOutcome done = run_sweep(four, screen_);
  EXPECT_EQ(done.count(SweepState::Failed), 3u);
  EXPECT_SAYS(
      rows().at("seed=1").at("error"),
      "needs 14.0 MiB of this machine's memory, its processes' own 2.00 MiB among them; 10.0 MiB are free: 4.00 MiB are missing. End "
      "other programs that hold memory, ");
  EXPECT_EQ(
      rows().at("seed=2").at("error"),
      "zero_optimization.offload_param.nvme_path: no space in /fast: 2 ranks of this host need 30.0 MiB (31457280 bytes) on that disk, "
      "20.0 MiB are free: 10.0 MiB are missing. Make space, or name a folder on another disk");
  EXPECT_EQ(rows().at("seed=3").at("error"), four.planned[2].refusal);
  EXPECT_EQ(rows().at("seed=3").at("exit"), "2");
  EXPECT_EQ(rows().at("seed=4").at("state"), "queued");
}

// As the processes see them, through mpirun for two ranks.
TEST_F(RunSweep, RunsHaveTheThreadsOfTheirCoresAndBindThemNotAgain) {
  program("echo threads $OMP_NUM_THREADS; loss=1; train");
  script("mpirun", "#!/bin/bash\necho mpirun \"$@\"\nwhile [[ $1 != */program ]]; do shift; done\nexec \"$@\"");
  const std::string path = std::getenv("PATH");
  const char* const given = std::getenv("OMP_NUM_THREADS");
  const std::string threads_before = given == nullptr ? "" : given;
  ::setenv("PATH", (scratch_.folder().string() + ":" + path).c_str(), 1);
  const auto cores = static_cast<int>(CoreSet::of_process().size());
  const auto said = [&](const std::string& name, int ranks, const char* asked) {
    if (asked == nullptr) ::unsetenv("OMP_NUM_THREADS");
    if (asked != nullptr) ::setenv("OMP_NUM_THREADS", asked, 1);
    const SweepRequest one =
        request(fmt::format(R"("name": "{}", "repeat": {{"seed": [1]}}, "resources": {{"ranks": {}, "jobs": 1}})", name, ranks));
    EXPECT_EQ(run_sweep(one, screen_).count(SweepState::Done), 1u) << screen_.text_;
    return read_file(scratch_.folder() / name / "seed=1/output.txt");
  };
  EXPECT_SAYS(said("one", 1, nullptr), fmt::format("threads {}\n", cores));
  EXPECT_SAYS(said("more", 1, "999"), fmt::format("threads {}\n", cores));
  EXPECT_SAYS(said("fewer", 1, "1"), "threads 1\n");
  const std::string two = said("two", 2, nullptr);
  EXPECT_SAYS(two, " --oversubscribe --bind-to none -np 2 " + scratch_.path("program") + " train ");
  EXPECT_SAYS(two, fmt::format("threads {}\n", std::max(1, cores / 2)));
  ::setenv("PATH", path.c_str(), 1);
  if (given != nullptr) ::setenv("OMP_NUM_THREADS", threads_before.c_str(), 1);
}

}  // namespace
}  // namespace zerostep
