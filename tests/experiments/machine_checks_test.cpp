#include "experiments/doctor/machine_checks.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <thread>

#include "tests/support/expect_says.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

// In a process of its own, whose limits and variables are not this one's.
bool holds_apart(const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  int status = -1;
  ::waitpid(child, &status, 0);
  return status == 0;
}

// A program that stands for mpirun in the tests of what doctor makes of it.
class MpirunOf : public ::testing::Test {
 protected:
  Finding check_with(const std::string& script, double seconds = 10) {
    std::ofstream(scratch_.path("mpirun")) << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(scratch_.folder() / "mpirun", std::filesystem::perms::owner_all);
    const std::string before = std::getenv("PATH");
    ::setenv("PATH", (scratch_.folder().string() + ":" + before).c_str(), 1);
    const Finding out = check_mpi("/the/program", seconds);
    ::setenv("PATH", before.c_str(), 1);
    return out;
  }
  ScratchFolder scratch_;
};

TEST_F(MpirunOf, TwoRanksAndTheirSumAreRight) {
  const Finding good = check_with(R"(echo "$*" >&2; echo '{"ranks": 2, "sum": 3.0, "backend": "mpi"}')");
  EXPECT_EQ(good.verdict, Verdict::Ok) << good.text;
  EXPECT_SAYS(good.text, "by mpi");
  // It starts two ranks of the program.
  const Finding other = check_with(R"([ "$*" = "-np 2 /the/program doctor-ranks" ] && echo '{"ranks": 2, "sum": 3}' || echo "$*" >&2)");
  EXPECT_EQ(other.verdict, Verdict::Ok) << other.text;
}

TEST_F(MpirunOf, AnotherSumAnErrorAndSilenceAreErrors) {
  const Finding apart = check_with(R"(echo '{"ranks": 1, "sum": 1.0, "backend": "local"}')");
  EXPECT_EQ(apart.verdict, Verdict::Error);
  EXPECT_SAYS(apart.help, "another MPI");
  const Finding failed = check_with("echo 'there are not enough slots' >&2; exit 1");
  EXPECT_EQ(failed.verdict, Verdict::Error);
  EXPECT_SAYS(failed.text, "end with status 1: there are not enough slots");
  const Finding silent = check_with("exec sleep 60", 0.3);
  EXPECT_EQ(silent.verdict, Verdict::Error);
  EXPECT_SAYS(silent.text, "have not ended after 0.3 s");
}

TEST(MachineChecks, ThreadsBeyondTheCoresAreAWarning) {
  EXPECT_EQ(check_threads(1 << 20).verdict, Verdict::Ok);
  EXPECT_TRUE(holds_apart([] {
    ::setenv("OMP_NUM_THREADS", "1", 1);
    return check_threads(0).verdict == Verdict::Warning && check_threads(0).help.find("OMP_NUM_THREADS") != std::string::npos;
  }));
}

TEST(MachineChecks, CoresAreThoseThatThisProcessMayUse) {
  EXPECT_TRUE(holds_apart([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(::sched_getcpu()), &one);
    if (::sched_setaffinity(0, sizeof(one), &one) != 0) return false;
    const std::string text = check_cores().text;
    return text.starts_with("1 ");
  }));
}

TEST(MachineChecks, ALoadAboveTheCoresIsAWarning) {
  const long cores = machine_load().cores;
  EXPECT_EQ(check_cores({static_cast<double>(cores), cores}).verdict, Verdict::Ok);
  EXPECT_EQ(check_cores({0, cores}).verdict, Verdict::Ok) << "not known";
  const Finding busy = check_cores({4.04, 2});
  EXPECT_EQ(busy.verdict, Verdict::Warning);
  EXPECT_SAYS(busy.text, "; the load of the machine is 4.0 on 2 cores, so that other programs hold cores");
  EXPECT_SAYS(busy.help, "OMP_WAIT_POLICY=passive or OMP_NUM_THREADS=1");
}

TEST(MachineChecks, SharedMemoryThatIsNotThereIsAWarning) {
  EXPECT_EQ(check_shared_memory("/nowhere/shm").verdict, Verdict::Warning);
  EXPECT_SAYS(check_shared_memory("/nowhere/shm").text, "is not there");
  EXPECT_EQ(check_shared_memory("/tmp").verdict, Verdict::Ok);
}

TEST(MachineChecks, LockedMemoryIsComparedWithWhatARunLocks) {
  EXPECT_TRUE(holds_apart([] {
    const rlimit low{1 << 20, 1 << 20};  // anybody may lower a limit
    // Root may lock beyond it; another user may not.
    if (::setrlimit(RLIMIT_MEMLOCK, &low) != 0) return false;
    if (check_locked_memory().text.find("does not hold for this user") != std::string::npos && ::setuid(65534) != 0) return false;
    return check_locked_memory().verdict == Verdict::Warning && check_locked_memory(0).verdict == Verdict::Ok &&
           check_locked_memory(1 << 20).verdict == Verdict::Ok && check_locked_memory((1 << 20) + 1).verdict == Verdict::Warning;
  }));
}

TEST(MachineChecks, ADiskThatIsTooSmallIsAnError) {
  const ScratchFolder scratch;
  EXPECT_EQ(check_disk("disk", scratch.folder().string(), 1).verdict, Verdict::Ok);
  const Finding small = check_disk("disk", scratch.path("not/there/yet"), INT64_MAX);
  EXPECT_EQ(small.verdict, Verdict::Error);
  EXPECT_SAYS(small.text, scratch.folder().string());
}

TEST(MachineChecks, AGpuThatIsAskedForAndNotThereIsAnError) {
  const Finding any = check_gpu(false), asked = check_gpu(true);
  if (any.text.starts_with("none")) {
    EXPECT_EQ(any.verdict, Verdict::Ok);
    EXPECT_EQ(asked.verdict, Verdict::Error);
  } else {
    EXPECT_EQ(any.text, asked.text);
  }
}

}  // namespace
}  // namespace zerostep
