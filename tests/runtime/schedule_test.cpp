#include "runtime/optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/error.h"

namespace zerostep {
namespace {

using Type = SchedulerConfig::Type;

OptimizerConfig adam() {
  OptimizerConfig optimizer;
  optimizer.lr = 0.02;
  optimizer.beta1 = 0.8;
  optimizer.beta2 = 0.95;
  return optimizer;
}

void expect_lr(const SchedulerConfig& scheduler, const std::vector<double>& expected, const OptimizerConfig& optimizer = adam()) {
  const auto schedule = make_lr_schedule(scheduler, optimizer);
  for (size_t k = 0; k < expected.size(); ++k) {
    EXPECT_NEAR(schedule->at(static_cast<int64_t>(k)).lr, expected[k], 1e-15) << "applied step " << k;
  }
}

void expect_betas(const SchedulerConfig& scheduler, const std::vector<double>& beta1, double beta2) {
  const auto schedule = make_lr_schedule(scheduler, adam());
  for (size_t k = 0; k < beta1.size(); ++k) {
    EXPECT_NEAR(schedule->at(static_cast<int64_t>(k)).beta1, beta1[k], 1e-15) << "applied step " << k;
    EXPECT_EQ(schedule->at(static_cast<int64_t>(k)).beta2, beta2) << "applied step " << k;
  }
}

// The numbers below are what DeepSpeed 0.19.8's classes give, one optimizer step after another, for lr 0.02 and betas (0.8, 0.95).

TEST(Schedule, WithoutOneEverythingStaysTheOptimizers) {
  const auto schedule = make_lr_schedule({}, adam());
  for (int64_t k : {0, 1, 1000000}) {
    const ScheduledValues values = schedule->at(k);
    EXPECT_EQ(values.lr, 0.02);
    EXPECT_EQ(values.beta1, 0.8);
    EXPECT_EQ(values.beta2, 0.95);
  }
}

TEST(Schedule, WarmupLR) {
  SchedulerConfig s{.type = Type::WarmupLR, .warmup_min_lr = 0.001, .warmup_max_lr = 0.01, .warmup_num_steps = 5};
  expect_lr(s, {0.001, 0.001, 0.0048760890226605385, 0.007143455750373869, 0.008752178045321076, 0.01, 0.01, 0.01, 0.01});
  s = {.type = Type::WarmupLR, .warmup_min_lr = 0, .warmup_max_lr = 0.02, .warmup_num_steps = 4, .warmup_log = false};
  expect_lr(s, {0.0, 0.0, 0.005, 0.01, 0.015, 0.02, 0.02, 0.02});
}

TEST(Schedule, AWarmupOfOneStepLastsTwo) {
  expect_lr({.type = Type::WarmupLR, .warmup_min_lr = 0, .warmup_max_lr = 0.01, .warmup_num_steps = 1, .warmup_log = false},
            {0.0, 0.0, 0.005, 0.01, 0.01});
}

TEST(Schedule, WarmupDecayLR) {
  expect_lr({.type = Type::WarmupDecayLR, .warmup_min_lr = 0.001, .warmup_max_lr = 0.01, .warmup_num_steps = 4, .total_num_steps = 10},
            {0.001, 0.001, 0.0055, 0.008132331253245204, 0.01, 0.01, 0.0085, 0.007, 0.0055, 0.004, 0.0025, 0.001, 0.001, 0.001});
  // Fewer steps than the warm-up: DeepSpeed falls to the minimum as soon as the warm-up ends.
  expect_lr({.type = Type::WarmupDecayLR,
             .warmup_min_lr = 0,
             .warmup_max_lr = 0.01,
             .warmup_num_steps = 4,
             .total_num_steps = 3,
             .warmup_log = false},
            {0.0, 0.0, 0.0025, 0.005, 0.0075, 0.0, 0.0, 0.0});
}

TEST(Schedule, WarmupCosineLR) {
  SchedulerConfig s{.type = Type::WarmupCosineLR,
                    .warmup_num_steps = 3,
                    .total_num_steps = 10,
                    .warmup_log = false,
                    .warmup_min_ratio = 0.1,
                    .cos_min_ratio = 0.05};
  expect_lr(s, {0.0, 0.002, 0.008, 0.013999999999999999, 0.019059204245072982, 0.01642315311765797, 0.012613948872584987,
                0.008386051127415013, 0.004576846882342032, 0.001940795754927019, 0.001, 0.001, 0.001, 0.001});
  s = {.type = Type::WarmupCosineLR, .warmup_num_steps = 3, .total_num_steps = 10};
  expect_lr(s, {0.0, 0.0, 0.012618595071429147, 0.02, 0.019009787710156288, 0.016235274528785478, 0.012225986818629186,
                0.007776013181370813, 0.003766725471214524, 0.000992212289843712, 2e-06, 2e-06, 2e-06, 2e-06});
}

TEST(Schedule, OneCycleMovesRateAndBetasAndThenDecays) {
  const SchedulerConfig s{.type = Type::OneCycle,
                          .cycle_min_lr = 0.001,
                          .cycle_max_lr = 0.011,
                          .decay_lr_rate = 0.5,
                          .decay_mom_rate = 0.25,
                          .cycle_first_step_size = 4,
                          .cycle_second_step_size = 6,
                          .decay_step_size = 2};
  expect_lr(s, {0.001, 0.0035, 0.006, 0.0085, 0.011, 0.009333333333333332, 0.0076666666666666645, 0.006, 0.004333333333333332,
                0.002666666666666668, 0.001, 0.0008, 0.0006666666666666666, 0.0005714285714285715, 0.0005, 0.00044444444444444447});
  expect_betas(s,
               {0.8, 0.875, 0.85, 0.825, 0.8, 0.8166666666666667, 0.8333333333333334, 0.85, 0.8666666666666667, 0.8833333333333333, 0.9,
                1.0125, 1.125, 1.2375, 1.35, 1.4625},
               0.99);
}

TEST(Schedule, OneCycleWithoutDecayStaysAtItsMinimum) {
  const SchedulerConfig s{.type = Type::OneCycle,
                          .cycle_min_lr = 0.001,
                          .cycle_max_lr = 0.01,
                          .decay_lr_rate = 0.5,
                          .cycle_min_mom = 0.85,
                          .cycle_max_mom = 0.95,
                          .decay_mom_rate = 0.25,
                          .cycle_first_step_size = 3,
                          .cycle_second_step_size = 3};
  expect_lr(s, {0.001, 0.004, 0.007, 0.01, 0.007, 0.004, 0.001, 0.001, 0.001, 0.001});
  expect_betas(s, {0.85, 0.9166666666666666, 0.8833333333333333, 0.85, 0.8833333333333333, 0.9166666666666666, 0.95, 0.95, 0.95, 0.95},
               0.99);
}

TEST(Schedule, OneCycleDecaysRateAndMomentumEachOnItsOwn) {
  SchedulerConfig s{.type = Type::OneCycle,
                    .cycle_min_lr = 0.001,
                    .cycle_max_lr = 0.01,
                    .decay_mom_rate = 0.1,
                    .cycle_first_step_size = 2,
                    .cycle_second_step_size = 2,
                    .decay_step_size = 2};
  expect_lr(s, {0.001, 0.0055, 0.01, 0.0055, 0.001, 0.001, 0.001, 0.001});
  expect_betas(s, {0.8, 0.85, 0.8, 0.85, 0.9, 0.945, 0.99, 1.035}, 0.99);
  s.decay_lr_rate = 0.3;
  s.decay_mom_rate = 0;
  expect_lr(s, {0.001, 0.0055, 0.01, 0.0055, 0.001, 0.0008695652173913044, 0.0007692307692307692, 0.0006896551724137932});
  expect_betas(s, {0.8, 0.85, 0.8, 0.85, 0.9, 0.9, 0.9, 0.9}, 0.99);
}

TEST(Schedule, OneCycleWithoutASecondHalf) {
  expect_lr({.type = Type::OneCycle,
             .cycle_min_lr = 0.001,
             .cycle_max_lr = 0.01,
             .decay_lr_rate = 0.3,
             .cycle_first_step_size = 3,
             .cycle_second_step_size = 0,
             .decay_step_size = 2},
            {0.001, 0.004, 0.007, 0.001, 0.0008695652173913044, 0.0007692307692307692, 0.0006896551724137932, 0.000625});
}

TEST(Schedule, OneCycleInStairs) {
  const SchedulerConfig s{.type = Type::OneCycle,
                          .cycle_min_lr = 0,
                          .cycle_max_lr = 0.012,
                          .decay_lr_rate = 0.1,
                          .cycle_first_step_size = 6,
                          .cycle_second_step_size = 4,
                          .cycle_first_stair_count = 3,
                          .cycle_second_stair_count = 2,
                          .decay_step_size = 1,
                          .cycle_momentum = false};
  expect_lr(s, {0.0, 0.0, 0.004, 0.004, 0.008, 0.008, 0.012, 0.006, 0.006, 0.0, 0.0, 0.0, 0.0, 0.0});
  expect_betas(s, {0.8, 0.8, 0.8}, 0.95);
}

TEST(Schedule, OneCycleLeavesSgdsMomentumAlone) {
  OptimizerConfig sgd = adam();
  sgd.type = OptimizerConfig::Type::SGD;
  sgd.momentum = 0.7;
  const auto schedule = make_lr_schedule(
      {.type = Type::OneCycle, .cycle_min_lr = 0.001, .cycle_max_lr = 0.01, .cycle_first_step_size = 2, .cycle_second_step_size = 2}, sgd);
  EXPECT_EQ(schedule->at(2).momentum, 0.7);
  EXPECT_EQ(schedule->at(2).beta1, 0.8);
  EXPECT_NEAR(schedule->at(2).lr, 0.01, 1e-15);
}

TEST(Schedule, LRRangeTest) {
  SchedulerConfig s{.type = Type::LRRangeTest, .lr_range_test_min_lr = 0.001, .lr_range_test_step_rate = 2.0, .lr_range_test_step_size = 3};
  expect_lr(s, {0.001, 0.0016666666666666666, 0.002333333333333333, 0.003, 0.0036666666666666666, 0.004333333333333334, 0.005,
                0.005666666666666667});
  s.lr_range_test_staircase = true;
  expect_lr(s, {0.001, 0.001, 0.001, 0.003, 0.003, 0.003, 0.005, 0.005});
}

TEST(Schedule, CosineWarmsUpPeaksAndEndsAtItsFloor) {
  const SchedulerConfig s{.type = Type::Cosine, .warmup_num_steps = 4, .total_num_steps = 12, .min_lr_ratio = 0.1};
  const double peak = 0.02, floor = 0.002, half = floor + (peak - floor) / 2;
  const double quarter = floor + (peak - floor) * (1 + std::sqrt(0.5)) / 2;
  const auto schedule = make_lr_schedule(s, adam());
  for (int64_t k = 0; k < 4; ++k) EXPECT_NEAR(schedule->at(k).lr, peak * static_cast<double>(k + 1) / 4, 1e-15);
  EXPECT_NEAR(schedule->at(4).lr, peak, 1e-15);
  EXPECT_NEAR(schedule->at(6).lr, quarter, 1e-15);
  EXPECT_NEAR(schedule->at(8).lr, half, 1e-15);
  for (int64_t k : {12, 13, 1000}) EXPECT_NEAR(schedule->at(k).lr, floor, 1e-15);
  expect_lr({.type = Type::Cosine, .warmup_num_steps = 0, .total_num_steps = 2}, {0.02, 0.01, 0.0, 0.0});
}

TEST(Schedule, ATotalThatNobodyFilledInIsNotGuessed) {
  for (Type type : {Type::WarmupDecayLR, Type::WarmupCosineLR, Type::Cosine}) {
    EXPECT_THROW(make_lr_schedule({.type = type, .total_num_steps = 0}, adam()), ProtocolError);
  }
}

}  // namespace
}  // namespace zerostep
