#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

using nlohmann::json;

// Every mode, without data.sequence_length, on a text of exactly one sample: the plan is for the model's 32 tokens, and what is measured is
// what was planned. 2 % above are for tensors of a few bytes that the plan leaves out, 10 % below for gradients that are planned whole.
TEST(Memory, IsPlannedForTheModelsLengthOnTheShortestFile) {
  const Workplace place;
  place.config();
  place.write("short.txt", std::string(32, 'a'));  // and the end of the text: 33 tokens
  const std::vector<std::vector<std::string>> modes = {
      {"step.mode=fo"},
      {"step.mode=zo", "step.queries=2"},
      {"step.mode=zo", "step.queries=2", "step.query_data=independent"},
      {"step.mode=zo", "step.queries=2", "step.perturbation=low_rank", "step.rank=2"},
      {"step.mode=calibrate", "step.queries=2", "step.bp_interval=2"},
      {"step.mode=instruct", "step.queries=2", "step.bp_interval=2"},
      {"step.mode=alternating", "step.queries=2"},
  };
  for (const auto& mode : modes)
    for (const char* text : {"corpus.txt", "short.txt"}) {
      std::vector<std::string> arguments{"train", place.path("config.json")};
      const std::vector<std::string> common{"data.sequence_length=null", "data.train=" + place.path(text)};
      for (const auto* set : {&mode, &common})
        for (const std::string& s : *set) arguments.insert(arguments.end(), {"--set", s});
      std::filesystem::remove_all(place.path("runs"));
      const Outcome done = place.run(arguments);
      const std::string what = mode[0] + (mode.size() > 2 ? ", " + mode[2] : "") + " on " + text;
      ASSERT_EQ(done.status, 0) << what << ": " << done.err;
      const json plan = json::parse(place.read("runs/test/plan.json"));
      const auto column = place.column("test", "device_peak_bytes");
      const double planned = plan["device_peak_bytes"], measured = *std::max_element(column.begin(), column.end());
      EXPECT_EQ(plan["sequence_length"], 32) << what;
      EXPECT_LE(measured, 1.02 * planned) << what;
      EXPECT_LE(planned, 1.10 * measured) << what;
    }
}

}  // namespace
}  // namespace zerostep::testing
