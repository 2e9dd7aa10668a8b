#include "base/gpu_load.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace zerostep {
namespace {

// Runs `body` in a process that has the libraries of tests/base/fake_gpu_driver/driver.cpp loaded: dlopen() finds a library by its name
// where one of that name is there. Gives whether all of it was as expected.
bool holds_with_fake_driver(const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const bool is_loaded = dlopen(ZEROSTEP_FAKE_GPU_DRIVER "/libcuda.so.1", RTLD_NOW | RTLD_LOCAL) != nullptr &&
                           dlopen(ZEROSTEP_FAKE_GPU_DRIVER "/libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL) != nullptr;
    ::_exit(is_loaded && body() ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status == 0;
}

TEST(GpuLoad, IsWhatTheManagementLibraryTells) {
  EXPECT_TRUE(holds_with_fake_driver([] {
    const std::vector<GpuLoad> all = gpu_loads();
    return all.size() == 2 && all[0].name == "Fake A" && all[0].busy == 0.25 && all[0].used_bytes == 100 && all[0].total_bytes == 1000 &&
           all[1].name == "Fake B" && all[1].busy == 0.75 && all[1].used_bytes == 700;
  }));
}

TEST(GpuLoad, FindsTheGpuOfCudasNumberByItsPlaceOnTheBus) {
  EXPECT_TRUE(holds_with_fake_driver([] {
    GpuMeter first("cuda:0"), second("cuda:1"), none("cuda:2"), processor("cpu");
    return first.now() && first.now()->name == "Fake B" && second.now() && second.now()->name == "Fake A" && !none.now() &&
           !processor.now();
  }));
}

TEST(GpuLoad, IsUnknownWithoutADriver) {
  if (dlopen("libnvidia-ml.so.1", RTLD_LAZY) != nullptr) return;  // there is one
  EXPECT_TRUE(gpu_loads().empty());
  EXPECT_FALSE(GpuMeter("cuda:0").now());
}

}  // namespace
}  // namespace zerostep
