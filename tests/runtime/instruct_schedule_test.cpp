#include "runtime/strategy/instruct_schedule.h"

#include <gtest/gtest.h>

namespace zerostep {
namespace {

// From 0.5 to 0.9 in steps of 0.1, a notch for every 0.5 of loss below 4.
StepConfig::Instruct scheduled() {
  StepConfig::Instruct config;
  config.cosine_schedule = {.start = 0.5, .end = 0.9, .threshold = 4, .fall = 0.5, .increment = 0.1};
  config.noise_schedule = {.start = 1, .end = 0.25, .threshold = 3, .fall = 1, .increment = -0.5};
  return config;
}

void add(InstructSchedule& schedule, double loss, int times) {
  for (int i = 0; i < times; ++i) schedule.add(loss);
}

TEST(InstructSchedule, MovesByNotchesOfTheMeanOfTenLosses) {
  InstructSchedule schedule(scheduled());
  EXPECT_EQ(schedule.now().cosine, 0.5);
  add(schedule, 1.0, 9);  // nine losses are no mean yet
  EXPECT_EQ(schedule.now().cosine, 0.5);
  InstructSchedule slow(scheduled());
  add(slow, 4.2, 10);
  EXPECT_EQ(slow.now().cosine, 0.5);
  add(slow, 3.9, 10);  // below the threshold: the first notch
  EXPECT_NEAR(slow.now().cosine, 0.6, 1e-12);
  add(slow, 3.4, 10);  // 0.6 below: floor(1.2) + 1
  EXPECT_NEAR(slow.now().cosine, 0.7, 1e-12);
  EXPECT_EQ(slow.now().noise_scale, 1);
  add(slow, 2.5, 10);
  EXPECT_NEAR(slow.now().cosine, 0.9, 1e-12);  // four notches
  EXPECT_NEAR(slow.now().noise_scale, 0.5, 1e-12);
}

TEST(InstructSchedule, IsClampedAndNeverGoesBack) {
  InstructSchedule schedule(scheduled());
  add(schedule, 0.1, 10);
  EXPECT_EQ(schedule.now().cosine, 0.9);
  EXPECT_EQ(schedule.now().noise_scale, 0.25);
  add(schedule, 9.0, 30);
  EXPECT_EQ(schedule.now().cosine, 0.9);
}

TEST(InstructSchedule, WithoutScheduleTheValuesStay) {
  StepConfig::Instruct config;
  config.cosine = 0.7;
  InstructSchedule schedule(config);
  add(schedule, 0.1, 20);
  EXPECT_EQ(schedule.now().cosine, 0.7);
  EXPECT_EQ(schedule.now().noise_scale, 1);
}

}  // namespace
}  // namespace zerostep
