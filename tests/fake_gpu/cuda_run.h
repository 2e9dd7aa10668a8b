#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {

// The program on the fake GPU (ZEROSTEP_BINARY is the script that starts it there), and without one.
class CudaRun : public ::testing::Test {
 protected:
  Outcome run(std::vector<std::string> arguments) const { return place_.run(arguments, {.environment = {{"FAKE_GPU_DEVICES", "1"}}}); }
  Outcome without_gpu(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), std::string(std::getenv("ZEROSTEP_BUILD")) + "/zerostep");
    return place_.run_command(arguments);
  }
  Workplace place_;
};

}  // namespace zerostep::testing
