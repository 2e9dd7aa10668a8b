#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "experiments/sweep/slurm.h"
#include "experiments/sweep/task_states.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using std::chrono::seconds;
using testing::message_of;

TEST(TaskStates, ATaskIsLostByAnswersAndNotByRefusals) {
  const TaskStates::Time begin{seconds(1000)};
  TaskStates states;
  EXPECT_TRUE(states.is_due(begin));
  // However long nobody answers.
  for (int i = 0; i < 200; ++i) {
    states.refused(begin + seconds(i));
    EXPECT_FALSE(states.is_lost(0));
    EXPECT_FALSE(states.is_missing(0));
  }
  EXPECT_FALSE(states.is_due(begin + seconds(199)));
  EXPECT_TRUE(states.is_due(begin + seconds(200)));
  // One answer without it, then none for a long time, tells as little.
  states.answered(begin + seconds(200), {{1, "R"}});
  EXPECT_TRUE(states.is_missing(0));
  EXPECT_FALSE(states.is_lost(0));
  states.refused(begin + seconds(400));
  EXPECT_FALSE(states.is_lost(0));
  // It is listed again: what was before does not count.
  states.answered(begin + seconds(401), {{0, "PD"}, {1, "R"}});
  EXPECT_FALSE(states.is_missing(0));
  EXPECT_FALSE(states.has_begun(0));
  EXPECT_TRUE(states.has_begun(1));
  states.answered(begin + seconds(402), {{1, "CG"}});
  EXPECT_FALSE(states.is_lost(0));
  states.answered(begin + seconds(491), {{1, "CG"}});
  EXPECT_FALSE(states.is_lost(0));
  states.answered(begin + seconds(492), {{1, "CG"}});
  EXPECT_TRUE(states.is_lost(0));
  EXPECT_FALSE(states.is_lost(1));
}

// A squeue that says what it is told to, alone in PATH.
class IsInSlurm : public ::testing::Test {
 protected:
  IsInSlurm() { ::setenv("PATH", scratch_.folder().c_str(), 1); }
  ~IsInSlurm() override { ::setenv("PATH", path_.c_str(), 1); }
  void squeue(const std::string& script) const {
    std::ofstream(scratch_.path("squeue")) << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(scratch_.path("squeue"), std::filesystem::perms::owner_all);
  }
  const ScratchFolder scratch_;
  const std::string path_ = std::getenv("PATH");
};

TEST_F(IsInSlurm, OnlyWhatSlurmDoesNotKnowIsNotThere) {
  EXPECT_FALSE(is_in_slurm("7")) << "there is no squeue";
  squeue("echo R");
  EXPECT_TRUE(is_in_slurm("7"));
  squeue("exit 0");
  EXPECT_FALSE(is_in_slurm("7"));
  squeue("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
  EXPECT_FALSE(is_in_slurm("7"));
  squeue("echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1");
  const std::string said = message_of<RunError>([] { is_in_slurm("7"); });
  EXPECT_SAYS(said, "whether Slurm's job 7 of this sweep still waits or runs is not known");
  EXPECT_SAYS(said, "Unable to contact slurm controller");
}

}  // namespace
}  // namespace zerostep
