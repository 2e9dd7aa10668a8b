#include "base/control_group.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

// A /proc and a /sys of the test's own.
class ControlGroups : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_.path(path)).parent_path());
    std::ofstream(root_.path(path)) << text;
  }
  std::optional<int64_t> free() const { return free_bytes_in_control_groups(root_.folder().string()); }
  ScratchFolder root_;
};

TEST_F(ControlGroups, TheLimitOfAGroupAboveCounts) {
  // As Slurm has it: the job is limited, the task's own group is not.
  write("proc/self/cgroup", "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_1\n");
  const std::string scope = "sys/fs/cgroup/system.slice/slurmstepd.scope/";
  write(scope + "job_7/memory.max", "1000000\n");
  write(scope + "job_7/memory.current", "700000\n");
  write(scope + "job_7/memory.stat", "anon 400000\nfile 300000\ninactive_file 200000\nactive_file 100000\n");
  write(scope + "job_7/step_0/user/task_1/memory.max", "max\n");
  write(scope + "job_7/step_0/user/task_1/memory.current", "10\n");
  EXPECT_EQ(free(), 1000000 - (700000 - 300000));
  // The tightest one counts.
  write("sys/fs/cgroup/system.slice/memory.max", "900000\n");
  write("sys/fs/cgroup/system.slice/memory.current", "800000\n");
  EXPECT_EQ(free(), 100000);
}

TEST_F(ControlGroups, AContainersLimitIsThatOfItsTop) {
  write("sys/fs/cgroup/memory.max", "500\n");
  write("sys/fs/cgroup/memory.current", "600\n");
  write("proc/self/cgroup", "0::/\n");
  EXPECT_EQ(free(), 0);
  write("proc/self/cgroup", "0::/docker/4f2a\n");
  EXPECT_EQ(free(), 0);
}

TEST_F(ControlGroups, VersionOneHasAHierarchyForMemory) {
  write("proc/self/cgroup", "5:cpu,cpuacct:/slurm/job_7\n4:memory:/slurm/job_7\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "5000\n");
  EXPECT_EQ(free(), std::nullopt);
  write("sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes", "3000\n");
  write("sys/fs/cgroup/memory/slurm/job_7/memory.usage_in_bytes", "1000\n");
  write("sys/fs/cgroup/memory/slurm/job_7/memory.stat", "active_file 1\ntotal_active_file 300\ntotal_inactive_file 400\n");
  EXPECT_EQ(free(), 3000 - (1000 - 700));
}

TEST_F(ControlGroups, NoLimitIsNone) {
  EXPECT_EQ(free(), std::nullopt);
  write("proc/self/cgroup", "0::/user.slice\n");
  write("sys/fs/cgroup/user.slice/memory.max", "max\n");
  write("sys/fs/cgroup/user.slice/memory.current", "10\n");
  EXPECT_EQ(free(), std::nullopt);
}

}  // namespace
}  // namespace zerostep
