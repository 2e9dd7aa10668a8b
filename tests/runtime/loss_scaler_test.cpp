#include "runtime/optim/loss_scaler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"

namespace zerostep {
namespace {

PrecisionConfig fp16(int power, int window, int hysteresis, bool consecutive = false, double smallest = 1) {
  PrecisionConfig precision;
  precision.compute = DType::F16;
  precision.initial_scale_power = power;
  precision.loss_scale_window = window;
  precision.hysteresis = hysteresis;
  precision.consecutive_hysteresis = consecutive;
  precision.min_loss_scale = smallest;
  return precision;
}

// x: the step overflowed. The expected scales are what DeepSpeed 0.19.8's DynamicLossScaler gives after each update.
LossScaler expect_scales(const PrecisionConfig& precision, const std::string& steps, const std::vector<double>& expected) {
  LossScaler scaler(precision);
  for (size_t i = 0; i < steps.size(); ++i) {
    scaler.update(steps[i] == 'x');
    EXPECT_EQ(scaler.scale(), expected[i]) << "after step " << i;
  }
  return scaler;
}

TEST(LossScaler, GrowsFirstAfterTheWindowAndOneMoreStep) {
  const LossScaler scaler = expect_scales(fp16(4, 3, 2), "........", {16, 16, 16, 32, 32, 32, 64, 64});
  EXPECT_EQ(scaler.state().iteration, 8);
  EXPECT_EQ(scaler.state().last_overflow, -1);
  EXPECT_EQ(scaler.state().hysteresis, 2);
}

TEST(LossScaler, HysteresisRefillsOnlyAtGrowth) {
  const LossScaler scaler = expect_scales(fp16(8, 3, 2), "xx..x.....xx", {256, 128, 128, 128, 64, 64, 64, 64, 128, 128, 128, 64});
  EXPECT_EQ(scaler.state().hysteresis, 1);
  EXPECT_EQ(scaler.state().last_overflow, 11);
}

TEST(LossScaler, ConsecutiveHysteresisRefillsAtEveryGoodStep) {
  expect_scales(fp16(8, 4, 2, true), "x.x.xx......", {256, 256, 256, 256, 256, 128, 128, 128, 128, 128, 256, 256});
}

TEST(LossScaler, AWindowOfOneGrowsEveryStep) { expect_scales(fp16(2, 1, 1), ".....x...", {4, 8, 16, 32, 64, 32, 32, 64, 128}); }

TEST(LossScaler, HalvesOncePerSkippedStepWithoutHysteresis) {
  LossScaler scaler(fp16(40, 1000, 1));
  for (int skipped = 1; skipped <= 30; ++skipped) {
    scaler.update(true);
    EXPECT_EQ(scaler.scale(), std::exp2(40 - skipped));
  }
}

TEST(LossScaler, AnOverflowAtTheSmallestScaleEndsTheRun) {
  LossScaler scaler = expect_scales(fp16(2, 4, 1), "xx", {2, 1});
  EXPECT_THROW(scaler.update(true), RunError);
  // Halving stops at a minimum that is no power of two, and the next overflow is the last.
  LossScaler odd = expect_scales(fp16(2, 4, 1, false, 3), "x", {3});
  EXPECT_THROW(odd.update(true), RunError);
}

TEST(LossScaler, AStaticScaleNeverMoves) {
  PrecisionConfig precision = fp16(16, 2, 1);
  precision.loss_scale = 128;
  EXPECT_FALSE(LossScaler(precision).is_dynamic());
  EXPECT_TRUE(LossScaler(fp16(16, 2, 1)).is_dynamic());
  expect_scales(precision, "x..x....x", {128, 128, 128, 128, 128, 128, 128, 128, 128});
}

TEST(LossScaler, Bf16HasNoScale) {
  PrecisionConfig precision;
  precision.compute = DType::BF16;
  LossScaler scaler(precision);
  EXPECT_FALSE(scaler.is_dynamic());
  for (int i = 0; i < 100; ++i) scaler.update(true);
  EXPECT_EQ(scaler.scale(), 1);
}

TEST(LossScaler, Fp32EndsAtOnce) {
  LossScaler scaler{PrecisionConfig{}};
  scaler.update(false);
  EXPECT_EQ(scaler.scale(), 1);
  EXPECT_THROW(scaler.update(true), RunError);
}

TEST(LossScaler, GoesOnFromASavedState) {
  const std::string steps = "xx..x.....xx....x..x.....";
  for (size_t cut = 0; cut < steps.size(); ++cut) {
    LossScaler first(fp16(8, 3, 2)), second(fp16(8, 3, 2));
    for (size_t i = 0; i < cut; ++i) first.update(steps[i] == 'x');
    second.restore(first.state());
    for (size_t i = cut; i < steps.size(); ++i) {
      first.update(steps[i] == 'x');
      second.update(steps[i] == 'x');
      EXPECT_EQ(first.scale(), second.scale()) << "cut at " << cut << ", step " << i;
    }
  }
}

}  // namespace
}  // namespace zerostep
