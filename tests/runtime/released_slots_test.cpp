#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "base/poison.h"
#include "models/objective.h"
#include "runtime/engine/unit_weights.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/training_case.h"

namespace zerostep::testing {
namespace {

bool is_nan(const void* data, int64_t i, DType type) {
  if (type == DType::F32) return std::isnan(static_cast<const float*>(data)[i]);
  return std::isnan(std::bit_cast<float>(static_cast<uint32_t>(static_cast<const uint16_t*>(data)[i]) << 16));  // bf16
}

// A slot that was released holds what was gathered, or NaNs where the build asks for it, and nothing in between.
void expect_released_slots(Communicator world, DType type) {
  TrainingCase test = TrainingCase::tiny();
  test.config.zero.stage = 3;
  test.config.precision.compute = type;
  test.set_micro_batch(4, world.size());
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  const TrainingPlan plan = plan_training(test.config, *model, *objective, world.size());
  MemoryMeter meter;
  Lanes lanes(Device::cpu(), host_kernels(), world, {}, meter, nullptr);
  ShardedState state(plan.layout, plan.any_step(), world, Device::cpu());
  UnitStreamer streamer(*model, state, lanes);
  const Directions directions(test.config.step, test.config.seed);
  const UnitWeights weights(state, streamer, directions);
  for (const FlatGroup& g : plan.layout.groups) {
    if (plan.any_step().parameter_ring_of[static_cast<size_t>(g.id)] < 0) continue;
    streamer.gather(g.id, 0, false);
    weights.poison(g.id, 0);
    const void* slot = state.parameter_slot(g.id, 0);
    int64_t nans = 0;
    for (int64_t i = 0; i < g.full_elements(); ++i) nans += is_nan(slot, i, g.type) ? 1 : 0;
    EXPECT_EQ(nans, kPoisonsReleasedSlots ? g.full_elements() : 0) << g.name;
  }
}

TEST(ReleasedSlots, AreFilledWithNansWhereTheBuildAsksForIt) {
  for (const DType type : {DType::F32, DType::BF16})
    run_local_ranks(2, {}, [&](Communicator world) { expect_released_slots(std::move(world), type); });
}

}  // namespace
}  // namespace zerostep::testing
