#include <gtest/gtest.h>

#include "runtime/strategy/step_kind.h"
#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;
using BackpropData = StepConfig::BackpropData;

struct Mixture {
  const char* name;
  Mode mode;
  int64_t monitor_interval;
};
constexpr Mixture kMixtures[] = {{"calibrate", Mode::Calibrate, 0},
                                 {"calibrate, monitored", Mode::Calibrate, 1},
                                 {"instruct", Mode::Instruct, 0},
                                 {"alternating", Mode::Alternating, 0}};

ZerothOrderCase case_of(const Mixture& mixture, BackpropData data) {
  ZerothOrderCase test = ZerothOrderCase::tiny(mixture.mode);
  test.config.step.monitor_interval = mixture.monitor_interval;
  test.config.step.bp_data = data;
  test.steps = 6;
  return test;
}

// The losses of a run are those of its queries. A step without queries has one only where backprop reads the same stream.
TEST(StepLosses, AreOfOneDataSet) {
  for (const Mixture& mixture : kMixtures)
    for (const int ranks : {1, 2}) {
      SCOPED_TRACE(fmt::format("{} on {} ranks", mixture.name, ranks));
      const ZerothOrderCase test = case_of(mixture, BackpropData::Own);
      const ZerothOrderOutcome own = run_zeroth_order_threads(test, ranks),
                               same = run_zeroth_order_threads(case_of(mixture, BackpropData::Same), ranks);
      // The key decides what is told, not what is trained on here.
      ASSERT_EQ(own.parameters, same.parameters);
      EXPECT_EQ(own.bp_losses, same.bp_losses);
      int backprop = 0;
      for (size_t s = 0; s < own.losses.size(); ++s) {
        const StepKind kind = step_kind(test.config.step, static_cast<int64_t>(s));
        backprop += kind.backprop ? 1 : 0;
        EXPECT_EQ(own.bp_losses[s].has_value(), kind.backprop) << "step " << s;
        EXPECT_EQ(own.losses[s], kind.queries ? same.losses[s] : std::nullopt) << "step " << s;
        EXPECT_EQ(same.losses[s] == same.bp_losses[s], !kind.queries) << "step " << s;
      }
      EXPECT_EQ(backprop, 3);
    }
}

TEST(StepLosses, ACutOfAnotherLengthIsAnotherStream) {
  Config config = case_of(kMixtures[0], BackpropData::Same).config;
  EXPECT_TRUE(config.reads_one_stream());
  config.step.query_sequence_length = config.data.sequence_length / 2;
  EXPECT_FALSE(config.reads_one_stream());
  config.step.query_sequence_length = config.data.sequence_length;
  config.step.bp_data = BackpropData::Split;
  EXPECT_FALSE(config.reads_one_stream());
}

// What the values of instructed directions move by.
TEST(StepLosses, TheScheduleFollowsTheQueries) {
  for (const Mixture& mixture : kMixtures) {
    SCOPED_TRACE(mixture.name);
    std::vector<double> followed;
    const auto look = [&](int64_t step, Engine& engine) {
      if (step == 5) followed = engine.progress().instruct_schedule.losses;
    };
    const ZerothOrderOutcome run =
        run_zeroth_order_threads(case_of(mixture, BackpropData::Own), 1, {.objective = nullptr, .before_step = look, .initial = {}});
    std::vector<double> expected;
    for (size_t s = 0; s < 5; ++s)
      if (run.losses[s]) expected.push_back(*run.losses[s]);
    EXPECT_EQ(followed, expected);
  }
}

TEST(StepLosses, AStepGoesOnByTheSamplesOfItsQueries) {
  Config config = case_of(kMixtures[0], BackpropData::Own).config;
  config.batch = {24, 2, 12};
  config.step.query_batch = {6, 2, 3};
  config.step.queries = 5;
  EXPECT_EQ(config.samples_of_step(), 6);
  config.step.independent_data = true;
  EXPECT_EQ(config.samples_of_step(), 30);
  config.step.mode = Mode::FirstOrder;
  EXPECT_EQ(config.samples_of_step(), 24);
}

}  // namespace
}  // namespace zerostep::testing
