#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {

// A folder with runs of the tiny file.
class RunsPlace : public ::testing::Test {
 protected:
  Outcome train(const std::string& name, const std::vector<std::string>& settings = {}) const {
    std::vector<std::string> arguments{"train", place_.config(), "--set", "run.name=" + name};
    for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
    return place_.run(arguments);
  }
  Workplace place_;
};

}  // namespace zerostep::testing
