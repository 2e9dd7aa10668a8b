#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep::testing {

// What changes the actions beside mode, stage and limits.
enum class PlanKind : uint8_t {
  Plain,
  SixteenBit,
  SixteenBitMessages,
  Muon,
  Recompute,
  HostCheckpoints,
  LowRank,
  NoReduceScatter,
  OwnGradients,
  Deferred,
  Host,
  Files,
  InBackward,
  OneBuffer,
  GpuHost,
  GpuFiles
};
inline constexpr PlanKind kPlanKinds[] = {PlanKind::Plain,
                                          PlanKind::SixteenBit,
                                          PlanKind::SixteenBitMessages,
                                          PlanKind::Muon,
                                          PlanKind::Recompute,
                                          PlanKind::HostCheckpoints,
                                          PlanKind::LowRank,
                                          PlanKind::NoReduceScatter,
                                          PlanKind::OwnGradients,
                                          PlanKind::Deferred,
                                          PlanKind::Host,
                                          PlanKind::Files,
                                          PlanKind::InBackward,
                                          PlanKind::OneBuffer,
                                          PlanKind::GpuHost,
                                          PlanKind::GpuFiles};

struct PlanCase {
  StepConfig::Mode mode;
  int stage, world;
  bool overlap;
  int64_t live, prefetch, bucket, accumulation;
  PlanKind kind = PlanKind::Plain;
  std::string text() const {
    return fmt::format("mode {} stage {} world {} overlap {} live {} prefetch {} bucket {} accumulation {} kind {}", static_cast<int>(mode),
                       stage, world, overlap, live, prefetch, bucket, accumulation, static_cast<int>(kind));
  }
};

// `test`: what the case is made of.
TrainingPlan plan_of(const PlanCase& c, ZerothOrderCase& test);

}  // namespace zerostep::testing
