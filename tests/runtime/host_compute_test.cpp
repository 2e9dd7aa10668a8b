#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>
#include <set>

#include "sharding/local_ranks.h"
#include "tests/runtime/support/host_compute_case.h"

// Updates of what has its state in memory of the host or in files run in a lane of their own, under the next forward. What
// comes out is what immediate updates on the device give, to the bit, whoever looks in between.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

class HostCompute : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Stages, HostCompute, ::testing::Values(1, 2, 3));

TEST_P(HostCompute, GivesTheBitsOfTheDevice) {
  constexpr Rest kPlaces[] = {{Tier::Device, Tier::Host}, {Tier::Host, Tier::Host},    {Tier::Host, Tier::File},
                              {Tier::File, Tier::Host},   {Tier::File, Tier::File, 1}, {Tier::File, Tier::File, 2},
                              {Tier::File, Tier::File, 5}};
  struct Kind {
    DType type;
    int ranks;
    int64_t accumulation;
  };
  // Each pair of values occurs.
  constexpr Kind kKinds[] = {{DType::F32, 1, 2},  {DType::F32, 2, 1}, {DType::BF16, 1, 1},
                             {DType::BF16, 2, 2}, {DType::F16, 1, 1}, {DType::F16, 2, 2}};
  int64_t skipped = 0;
  for (int64_t kind = 0; kind < std::ssize(kKinds); ++kind) {
    const auto& [type, ranks, accumulation] = kKinds[kind];
    ZerothOrderCase test = case_of(GetParam(), type, accumulation);
    const ScratchFolder folder;
    // Who looks at what before which step goes around. Every place meets every type, on one rank or on two.
    int64_t turn = 0;
    for (const Rest& rest : kPlaces) {
      if ((&rest - kPlaces) % 2 == kind % 2) continue;
      const Look how = static_cast<Look>(turn % 4);
      const int64_t at = 1 + turn++ % test.steps;
      put(test.config, {Tier::Device, Tier::Device}, folder);
      const Outcome expected = run(test, ranks, Updates::Immediate, how, at);
      put(test.config, rest, folder);
      for (const std::optional<Updates> updates : {std::optional(Updates::Immediate), std::optional<Updates>()}) {
        SCOPED_TRACE(fmt::format("{}, {} ranks, accumulation {}, parameters on {}, state on {} with {} buffers, look {} before {}, {}",
                                 name_of(type), ranks, accumulation, name_of(rest.parameters), name_of(rest.state), rest.buffers,
                                 static_cast<int>(how), at, updates ? "immediate" : "deferred"));
        const Outcome found = run(test, ranks, updates, how, at);
        expect_same(found.run, expected.run);
        EXPECT_EQ(found.run.skipped, expected.run.skipped);
        EXPECT_EQ(found.seen, expected.seen);
      }
      skipped += std::count(expected.run.skipped.begin(), expected.run.skipped.end(), true);
      EXPECT_FALSE(expected.run.skipped.back());
    }
  }
  EXPECT_GT(skipped, 0);
}

// Which steps leave their update to the next: of backprop, where state rests elsewhere and elements are updated by themselves.
TEST(HostComputePlan, DefersUpdatesOfBackpropWhereStateRestsElsewhere) {
  using Update = StepKind::Update;
  const ScratchFolder folder;
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct, Mode::Alternating})
    for (const Tier state : {Tier::Device, Tier::Host, Tier::File})
      for (const bool is_muon : {false, true})
        for (const int stage : {1, 2, 3}) {
          ZerothOrderCase test = ZerothOrderCase::tiny(mode);
          test.config.zero.stage = stage;
          if (is_muon) test.config.optimizer.type = OptimizerConfig::Type::Muon;
          put(test.config, {Tier::Device, state}, folder);
          test.share_over(2);
          for (const auto& [kind, step] : plan_of(test.config, 2).steps) {
            SCOPED_TRACE(fmt::format("mode {}, {}, state on {}, stage {}, {}", static_cast<int>(mode), name_of(kind), name_of(state), stage,
                                     is_muon ? "Muon" : "AdamW"));
            EXPECT_EQ(step.defers_update, kind.update == Update::Gradient && state != Tier::Device && !is_muon);
          }
        }
}

// Updates stand in the order in which units are visited and, as far as slots allow, before the visits under which they work; no deferral
// takes memory.
TEST(HostComputePlan, StandsAheadOfTheForward) {
  const ScratchFolder folder;
  for (const int stage : {1, 2, 3})
    for (const int ranks : {1, 2})
      for (const Rest& rest :
           {Rest{Tier::Host, Tier::Host}, Rest{Tier::Host, Tier::File}, Rest{Tier::File, Tier::File}, Rest{Tier::File, Tier::File, 1}}) {
        SCOPED_TRACE(fmt::format("stage {}, {} ranks, state on {} with {} buffers", stage, ranks, name_of(rest.state), rest.buffers));
        ZerothOrderCase test = case_of(stage, DType::F32, 1);
        test.share_over(ranks);
        put(test.config, rest, folder);
        const TrainingPlan plan = plan_of(test.config, ranks);
        const Plan& step = plan.any_step();
        const auto first_use = [&](int group) {
          const auto uses_parameters = [&](const Action& a) {
            const bool is_use = a.kind == ActionKind::Gather || a.kind == ActionKind::Visit;
            return is_use && std::any_of(a.uses.begin(), a.uses.end(), [&](const BufferUse& use) {
                     return use.group == group || use.buffer == Buffer{BufferKind::Parameters, group};
                   });
          };
          return std::find_if(step.actions.begin(), step.actions.end(), uses_parameters) - step.actions.begin();
        };
        int64_t ahead = 0, former = 0;  // updates that stand before the first visit; first use of what is updated before
        bool has_visited = false;
        for (int64_t i = 0; i < std::ssize(step.actions); ++i) {
          const Action& a = step.action(static_cast<int>(i));
          has_visited |= a.kind == ActionKind::Visit;
          if (a.kind != ActionKind::Update) continue;
          EXPECT_EQ(a.lane, Lane::HostCompute);
          EXPECT_LT(i, first_use(a.group)) << describe(plan.layout, step, a);
          if (!plan.layout.group(a.group).persistent) {  // those go together, with the first of them
            EXPECT_LE(former, first_use(a.group)) << describe(plan.layout, step, a);
            former = first_use(a.group);
          }
          ahead += has_visited ? 0 : 1;
        }
        // Of parameters in files there are as many ahead as have slots: all units of this model, or one at a time.
        const int64_t all =
            std::count_if(step.actions.begin(), step.actions.end(), [](const Action& a) { return a.kind == ActionKind::Update; });
        const bool has_all_slots = stage < 3 || rest.parameters != Tier::File || rest.buffers > 1;
        if (has_all_slots)
          EXPECT_EQ(ahead, all);
        else
          EXPECT_LT(ahead, all);
        const Plan immediate = plan_of(test.config, ranks, Updates::Immediate).any_step();
        EXPECT_EQ(step.arena_bytes, immediate.arena_bytes);
        for (const Action& a : immediate.actions)
          EXPECT_EQ(a.lane == Lane::HostCompute, a.kind == ActionKind::Update) << describe(plan.layout, immediate, a);
        // Each chunk is read and written as often as by immediate updates, which find some gradients still in their slots.
        const auto transfers = [](const Plan& of) {
          return std::count_if(of.actions.begin(), of.actions.end(),
                               [](const Action& a) { return a.kind == ActionKind::Load || a.kind == ActionKind::Store; });
        };
        int64_t gradient_slots = 0;
        for (const StagingRing& ring : step.staging_rings) gradient_slots += ring.kind == BufferKind::Gradients ? ring.num_slots : 0;
        EXPECT_LE(transfers(step), transfers(immediate) + gradient_slots);
      }
}

// Where only a part of the state is offloaded, the rest is updated by the device.
TEST(HostComputePlan, UpdatesByTheHostWhatRestsThere) {
  const ScratchFolder folder;
  ZerothOrderCase test = case_of(2, DType::BF16, 1);
  test.share_over(2);
  put(test.config, {Tier::Device, Tier::Host}, folder);
  test.config.zero.offload_optimizer.ratio = 0.5;
  const TrainingPlan plan = plan_of(test.config, 2);
  std::set<Tier> tiers;
  for (const Action& a : plan.any_step().actions) {
    if (a.kind != ActionKind::Update) continue;
    const Tier tier = plan.layout.group(a.group).state_tier;
    EXPECT_EQ(a.lane, tier == Tier::Host ? Lane::HostCompute : Lane::Compute);
    tiers.insert(tier);
  }
  EXPECT_EQ(tiers, (std::set{Tier::Device, Tier::Host}));
}

// The work of the lane is in the trace and in the timers, beside that of the rank's own thread.
TEST(HostComputeRun, IsTracedAndTimed) {
  for (const bool is_deferred : {true, false}) {
    ZerothOrderCase test = case_of(3, DType::F32, 1);
    const ScratchFolder folder;
    put(test.config, {Tier::Host, Tier::Host}, folder);
    test.config.run.trace = true;
    std::mutex mutex;
    const auto check = [&](int64_t step, Engine& engine) {
      if (step != 4) return;
      const std::lock_guard lock(mutex);
      int64_t updates = 0;
      for (const Trace::Interval& i : engine.trace()->intervals()) {
        if (i.name.rfind("update ", 0) != 0) continue;
        EXPECT_STREQ(i.row, "host computation");
        ++updates;
      }
      EXPECT_GT(updates, 0);
      EXPECT_EQ(engine.timers().host_update > 0, is_deferred);
    };
    run_zeroth_order_threads(test, 2, {.before_step = check, .updates = is_deferred ? std::optional<Updates>() : Updates::Immediate});
  }
}

// A step that fails after its agreement has applied the update of the step before: the parameters are those of the last complete step.
TEST(HostComputeRun, AStepOfNoNumbersLeavesTheParameters) {
  std::vector<std::vector<float>> left;
  for (const std::optional<Updates> updates : {std::optional(Updates::Immediate), std::optional<Updates>()})
    run_local_ranks(1, {}, [&](Communicator world) {
      ZerothOrderCase test = case_of(1, DType::F32, 1);
      const ScratchFolder folder;
      put(test.config, {Tier::Device, Tier::Host}, folder);
      test.config.optimizer.lr = 1e30;  // the forward after the first update overflows
      test.share_over(1);
      const auto model = make_gpt2(test.model);
      const auto objective = make_cross_entropy();
      const auto initial = [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) {
        initial_values(info, test.config.seed, begin, count, values);
      };
      Engine engine(test.config, *model, *objective, plan_of(test.config, 1, updates), initial, world);
      engine.train_step(0, test.batches(0, 0, 1));
      EXPECT_THROW(engine.train_step(1, test.batches(1, 0, 1)), RunError);
      engine.read_parameter(2, 3, left.emplace_back());
    });
  ASSERT_EQ(left.size(), 2u);
  EXPECT_EQ(left[0], left[1]);
  EXPECT_GT(std::abs(left[0].at(0)), 1e20f);
}

}  // namespace
}  // namespace zerostep::testing
