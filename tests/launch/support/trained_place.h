#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {

// Tests that train config.json of a workplace with values changed, on some ranks.
class TrainedPlace : public ::testing::Test {
 protected:
  Outcome train(const std::vector<std::string>& set, const std::vector<std::string>& more = {}, int ranks = 1) const {
    return place_.run(arguments(set, more), {.ranks = ranks});
  }
  std::vector<std::string> arguments(const std::vector<std::string>& set, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> out{"train", place_.path("config.json")};
    out.insert(out.end(), more.begin(), more.end());
    for (const std::string& s : set) out.insert(out.end(), {"--set", s});
    return out;
  }
  Workplace place_;
};

}  // namespace zerostep::testing
