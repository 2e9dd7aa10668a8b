#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/launch/support/run_binary.h"

// The scripts of launch/ as a user mistypes them: what is wrong is named on stderr, and nothing is made.
namespace zerostep::testing {
namespace {
namespace fs = std::filesystem;

std::string script(const std::string& name) { return std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/launch/" + name + ".sh"; }

const char* const kScripts[] = {"gpu_bundle", "gpu_check", "hosts", "quickstart", "setup", "slurm", "slurm_check", "test", "test_cpus"};

TEST(Scripts, HelpIsTheUsageAndWrongOptionsAreNamed) {
  const Workplace place;
  for (const std::string name : kScripts) {
    SCOPED_TRACE(name);
    for (const char* help : {"--help", "-h"}) {
      const Outcome told = place.run_command({"bash", script(name), help});
      EXPECT_EQ(told.status, 0);
      EXPECT_EQ(told.err, "");
      EXPECT_GT(count(told.out, "\n"), 2U);
      EXPECT_EQ(told.out.find("set -"), std::string::npos) << told.out;
    }
    const Outcome wrong = place.run_command({"bash", script(name), "--frobnicate"});
    EXPECT_EQ(wrong.status, 2);
    EXPECT_EQ(wrong.out, "");
    EXPECT_SAYS(wrong.err, "launch/" + name + ".sh: '--frobnicate'");
    EXPECT_SAYS(wrong.err, "--help");
  }
}

TEST(Scripts, AnOptionWithoutAValueIsNamed) {
  const Workplace place;
  for (const auto& [name, option] : {std::pair<std::string, std::string>{"gpu_bundle", "--build"},
                                     {"gpu_bundle", "--out"},
                                     {"gpu_check", "--bundle"},
                                     {"gpu_check", "--out"}}) {
    const Outcome wrong = place.run_command({"bash", script(name), option});
    EXPECT_EQ(wrong.status, 2);
    EXPECT_SAYS(wrong.err, option + " has no value");
  }
  const Outcome swapped = place.run_command({"bash", script("slurm"), "run.json", "--set", "run.steps=3"});
  EXPECT_EQ(swapped.status, 2);
  EXPECT_SAYS(swapped.err, "'--set' stands where NAME does");
}

// A bundle and a LibTorch as far as the script looks at them before it begins.
TEST(Scripts, GpuCheckMakesNothingWhereAnArgumentIsWrong) {
  const Workplace place;
  fs::create_directories(place.path("bundle/bin"));
  fs::create_directories(place.path("torch/lib"));
  place.write("torch/lib/libtorch_cpu.so", "");
  place.write("a file", "");
  const auto check = [&](const std::vector<std::string>& arguments, std::map<std::string, std::string> environment = {}) {
    std::vector<std::string> command{"bash", script("gpu_check"), "--out", place.path("out")};
    command.insert(command.end(), arguments.begin(), arguments.end());
    environment.emplace("LIBTORCH", place.path("torch"));
    const Outcome done = place.run_command(command, {.environment = environment});
    EXPECT_EQ(done.status, 2) << done.out << done.err;
    EXPECT_FALSE(place.exists("out")) << done.err;
    return done.err;
  };
  EXPECT_SAYS(check({"--bundle", place.path("bundle")}), place.path("bundle") + " is no bundle");
  place.write("bundle/bin/zerostep", "");
  fs::permissions(place.path("bundle/bin/zerostep"), fs::perms::owner_all);
  EXPECT_SAYS(check({"--bundle", place.path("bundle")}, {{"LIBTORCH", place.path("none")}}), "LIBTORCH");
  EXPECT_SAYS(check({"--bundle", place.path("bundle")}, {{"STAGES", "probe speed"}}), "gpu_check.sh: STAGES: 'speed' is none of probe");
  EXPECT_SAYS(check({"--bundle", place.path("bundle")}, {{"LIMIT_FACTOR", "-1"}}), "gpu_check.sh: LIMIT_FACTOR: '-1'");
  EXPECT_SAYS(check({"--bundle", place.path("bundle"), "--out", place.path("a file")}), "is no folder");
}

}  // namespace
}  // namespace zerostep::testing
