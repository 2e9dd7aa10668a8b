#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>
#include <set>

#include "sharding/local_ranks.h"
#include "tests/runtime/support/zeroth_order_case.h"
#include "tests/support/scratch_folder.h"

// Updates of what has its state in memory of the host or in files run in a lane of their own, under the backward or the next forward. What
// comes out is what immediate updates on the device give, to the bit, whoever looks in between.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

struct Rest {
  Tier parameters, state;
  int64_t buffers = 4;
};

void put(Config& config, const Rest& rest, const ScratchFolder& folder) {
  ZeroConfig& zero = config.zero;
  zero.offload_param.tier = zero.stage == 3 ? rest.parameters : Tier::Device;
  zero.offload_optimizer.tier = rest.state;
  zero.offload_param.buffer_count = zero.offload_optimizer.buffer_count = rest.buffers;
  zero.offload_param.nvme_paths = zero.offload_optimizer.nvme_paths = {folder.path("files")};
}

ZerothOrderCase case_of(int stage, DType type, int64_t accumulation) {
  ZerothOrderCase test = ZerothOrderCase::tiny(Mode::FirstOrder);
  test.global_batch = 4 * accumulation;
  test.config.zero.stage = stage;
  test.config.zero.overlap_comm = true;
  test.config.zero.stage3_prefetch_bucket_size = 2000;
  test.config.zero.stage3_param_persistence_threshold = 20;  // some groups stay whole
  test.config.zero.allgather_bucket_size = 1000;
  test.config.zero.sub_group_size = 700;
  test.config.gradient_clipping = 0.1;
  test.config.precision.compute = type;
  test.config.precision.initial_scale_power = 20;  // the first steps of fp16 overflow
  test.config.precision.hysteresis = 1;
  test.steps = 5;
  return test;
}

// What somebody finds between two steps: a parameter, all of the state, or the loss of an evaluation.
struct Seen {
  std::vector<float> parameter;
  std::map<std::pair<std::string, int>, std::vector<std::byte>> state;  // by parameter and array
  double loss = 0;
  bool operator==(const Seen&) const = default;
};
enum class Look : uint8_t { No, Read, Save, Evaluate };

Seen look_at(Engine& engine, Look how, const ZerothOrderCase& test, int ranks) {
  Seen out;
  if (how == Look::Read) engine.read_parameter(2, 3, out.parameter);
  if (how == Look::Evaluate)
    out.loss = engine.evaluate(1, [&](int64_t) { return Engine::EvaluationBatch{test.batch(9, 0, engine.rank(), ranks), true}; }).loss;
  if (how != Look::Save) return out;
  // Element by element: how the state is cut into pieces depends on where it rests.
  const std::vector<StatePiece> pieces = owned_state(engine.plan(), engine.rank());
  std::vector<std::byte*> targets;
  for (const StatePiece& s : pieces) {
    std::vector<std::byte>& array = out.state[{s.parameter->name, s.array}];
    array.resize(static_cast<size_t>(num_bytes(s.parameter->num_elements(), s.type)));
    targets.push_back(array.data() + num_bytes(s.begin, s.type));
  }
  engine.copy_state(targets);
  return out;
}

struct Outcome {
  ZerothOrderOutcome run;
  std::vector<Seen> seen;  // per rank
};

Outcome run(const ZerothOrderCase& test, int ranks, std::optional<Updates> updates, Look how, int64_t before_step) {
  Outcome out;
  out.seen.resize(static_cast<size_t>(ranks));
  const auto look = [&](int64_t step, Engine& engine) {
    if (step == before_step) nth(out.seen, engine.rank()) = look_at(engine, how, test, ranks);
  };
  out.run = run_zeroth_order_threads(test, ranks, {.before_step = look, .updates = updates});
  for (double& norm : out.run.norms)
    if (std::isnan(norm)) norm = -1;  // of a skipped step: equal to itself
  return out;
}

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
  for (const auto& [type, ranks, accumulation] : kKinds) {
    ZerothOrderCase test = case_of(GetParam(), type, accumulation);
    const ScratchFolder folder;
    // Who looks at what before which step goes around.
    int64_t turn = 0;
    for (const Rest& rest : kPlaces) {
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

// What a step does before its agreement.
std::vector<Action> before_agreement(const Plan& step) { return {step.actions.begin(), step.actions.begin() + step.agreement}; }
int64_t count(const std::vector<Action>& actions, ActionKind kind) {
  return std::count_if(actions.begin(), actions.end(), [&](const Action& a) { return a.kind == kind; });
}

// Updates that nothing of the whole gradient decides on.
ZerothOrderCase unclipped_case(int stage, DType type, int64_t accumulation) {
  ZerothOrderCase test = case_of(stage, type, accumulation);
  test.config.gradient_clipping = 0;
  test.config.precision.check_overflow = false;
  return test;
}

TEST_P(HostCompute, InTheBackwardGivesTheBitsOfTheDevice) {
  constexpr Rest kPlaces[] = {
      {Tier::Device, Tier::Host}, {Tier::Host, Tier::File}, {Tier::File, Tier::File, 1}, {Tier::File, Tier::File, 5}};
  struct Kind {
    DType type;
    int ranks;
    int64_t accumulation, segments;
  };
  constexpr Kind kKinds[] = {{DType::F32, 1, 2, 0}, {DType::F32, 2, 1, 2}, {DType::BF16, 1, 1, -1}, {DType::BF16, 4, 2, 0}};
  for (const auto& [type, ranks, accumulation, segments] : kKinds) {
    ZerothOrderCase test = unclipped_case(GetParam(), type, accumulation);
    test.config.number_checkpoints = segments;
    if (ranks > 2) test.global_batch *= 2;
    const ScratchFolder folder;
    int64_t turn = 0;
    for (const Rest& rest : kPlaces) {
      const Look how = static_cast<Look>(turn % 4);
      const int64_t at = 1 + turn++ % test.steps;
      SCOPED_TRACE(fmt::format("{}, {} ranks, accumulation {}, parameters on {}, state on {} with {} buffers, look {} before {}",
                               name_of(type), ranks, accumulation, name_of(rest.parameters), name_of(rest.state), rest.buffers,
                               static_cast<int>(how), at));
      put(test.config, {Tier::Device, Tier::Device}, folder);
      const Outcome expected = run(test, ranks, Updates::Immediate, how, at);
      put(test.config, rest, folder);
      const Outcome found = run(test, ranks, {}, how, at);
      expect_same(found.run, expected.run);
      EXPECT_EQ(found.seen, expected.seen);
      for (size_t s = 0; s < found.run.traffic.size(); ++s) {
        EXPECT_EQ(found.run.traffic[s].file_bytes_read, found.run.planned_traffic[s].file_bytes_read);
        EXPECT_EQ(found.run.traffic[s].file_bytes_written, found.run.planned_traffic[s].file_bytes_written);
      }
    }
  }
}

TrainingPlan plan_of(const Config& config, int ranks, std::optional<Updates> updates = {}) {
  return plan_training(config, *make_gpt2(TrainingCase::tiny().model), *make_cross_entropy(), ranks, updates);
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

// Which steps make theirs in the backward: of backprop alone, where state rests elsewhere, no norm clips the gradient, and no step is
// skipped because of it.
TEST(HostComputePlan, UpdatesInTheBackwardWhatNothingDecidesOn) {
  const ScratchFolder folder;
  for (const Mode mode : {Mode::FirstOrder, Mode::Calibrate, Mode::Alternating})
    for (const Tier state : {Tier::Device, Tier::Host, Tier::File})
      for (const double clipping : {0.0, 1.0})
        for (const DType type : {DType::F32, DType::BF16, DType::F16})
          for (const bool is_checked : {true, false})
            for (const bool is_muon : {false, true}) {
              ZerothOrderCase test = ZerothOrderCase::tiny(mode);
              test.config.zero.stage = 2;
              test.config.gradient_clipping = clipping;
              test.config.precision.compute = type;
              test.config.precision.check_overflow = is_checked;
              if (is_muon) test.config.optimizer.type = OptimizerConfig::Type::Muon;
              put(test.config, {Tier::Device, state}, folder);
              test.share_over(2);
              SCOPED_TRACE(fmt::format("mode {}, state on {}, clipping {}, {}, {}, {}", static_cast<int>(mode), name_of(state), clipping,
                                       name_of(type), is_checked ? "checked" : "not checked", is_muon ? "Muon" : "AdamW"));
              const bool skips = type == DType::F16 || (type == DType::BF16 && is_checked);
              const bool expected = mode == Mode::FirstOrder && state != Tier::Device && clipping == 0 && !skips && !is_muon;
              for (const auto& [kind, step] : plan_of(test.config, 2).steps) {
                EXPECT_EQ(step.updates_in_backward, expected);
                if (expected) EXPECT_FALSE(step.defers_update);
                if (expected) EXPECT_FALSE(step.applies_pending);
                EXPECT_EQ(count(before_agreement(step), ActionKind::Update) > 0, expected || step.applies_pending);
              }
            }
}

// Each group is updated once, behind all that computes with it and before the backward of the unit before, with which it goes on; no memory
// is taken for it; and gradients that an update has read are not written to a file.
TEST(HostComputePlan, StandsInTheBackward) {
  const ScratchFolder folder;
  for (const int64_t accumulation : {1, 3})
    for (const int stage : {1, 2, 3})
      for (const int ranks : {1, 2})
        for (const Rest& rest : {Rest{Tier::Host, Tier::Host}, Rest{Tier::File, Tier::File}, Rest{Tier::File, Tier::File, 1}}) {
          SCOPED_TRACE(fmt::format("stage {}, {} ranks, accumulation {}, state on {} with {} buffers", stage, ranks, accumulation,
                                   name_of(rest.state), rest.buffers));
          ZerothOrderCase test = unclipped_case(stage, DType::F32, accumulation);
          test.config.zero.stage3_param_persistence_threshold = 0;
          test.config.zero.reduce_bucket_size = 1;  // each unit by itself
          test.share_over(ranks);
          put(test.config, rest, folder);
          const TrainingPlan plan = plan_of(test.config, ranks);
          const Plan& step = plan.any_step();
          EXPECT_EQ(step.arena_bytes, plan_of(test.config, ranks, Updates::Immediate).any_step().arena_bytes);
          std::map<int, int64_t> updated;  // per group, elements
          int backward_of = -1, last_reduction = 0, first_gather = step.agreement;
          int64_t gradient_stores = 0;
          for (int i = 0; i < step.agreement; ++i) {
            const Action& a = step.action(i);
            const bool is_visit = a.kind == ActionKind::Visit;
            if (is_visit && step.visit(a.visit).kind == VisitKind::Backward) backward_of = step.visit(a.visit).unit;
            if (is_visit)
              for (const int g : plan.layout.used_by(step.visit(a.visit).unit)) EXPECT_EQ(updated[g], 0) << describe(plan.layout, step, a);
            if (a.kind == ActionKind::Reduce) last_reduction = i;
            if (a.kind == ActionKind::GatherUpdated) first_gather = std::min(first_gather, i);
            gradient_stores += a.kind == ActionKind::Store && a.chunk.kind == BufferKind::Gradients ? 1 : 0;
            if (a.kind != ActionKind::Update) continue;
            EXPECT_EQ(a.lane, Lane::HostCompute);
            // Units smaller than a bucket are reduced with the next.
            EXPECT_LE(backward_of, plan.layout.group(a.group).unit) << describe(plan.layout, step, a);
            EXPECT_GE(backward_of, plan.layout.group(a.group).unit - 1) << describe(plan.layout, step, a);
            updated[a.group] += a.end - a.begin;
          }
          for (const FlatGroup& g : plan.layout.groups) EXPECT_EQ(updated[g.id], g.shard_elements()) << g.name;
          EXPECT_EQ(count(step.actions, ActionKind::Update), count(before_agreement(step), ActionKind::Update));
          EXPECT_EQ(count(step.actions, ActionKind::GatherUpdated), count(before_agreement(step), ActionKind::GatherUpdated));
          EXPECT_GT(first_gather, last_reduction);
          // Sums over micro-batches wait in files where other groups need their slot.
          const bool has_sums = step.visits.back().micro_batch > 0;
          if (has_sums && stage > 1 && rest.state == Tier::File && rest.buffers == 1)
            EXPECT_GT(gradient_stores, 0);
          else
            EXPECT_EQ(gradient_stores, 0);
        }
}

// What the device updates gains nothing there, and would keep the compute stream waiting for reductions: it stays at the end.
TEST(HostComputePlan, InTheBackwardStandsOnlyWhatTheHostUpdates) {
  const ScratchFolder folder;
  for (const int stage : {1, 2, 3}) {
    SCOPED_TRACE(fmt::format("stage {}", stage));
    ZerothOrderCase test = unclipped_case(stage, DType::F32, 1);
    test.config.zero.stage3_param_persistence_threshold = 500;  // at stage 3 some groups stay whole, and are gathered when they are updated
    test.share_over(2);
    put(test.config, {Tier::Device, Tier::Host}, folder);
    test.config.zero.offload_optimizer.ratio = 0.5;
    const TrainingPlan halves = plan_of(test.config, 2);
    const Plan& step = halves.any_step();
    EXPECT_TRUE(step.updates_in_backward);
    std::set<int> late;
    std::map<int, int64_t> updated;
    for (int i = 0; i < std::ssize(step.actions); ++i) {
      const Action& a = step.action(i);
      const bool is_late = i > step.agreement;
      if (a.kind == ActionKind::Update) {
        EXPECT_EQ(a.lane == Lane::HostCompute, !is_late) << describe(halves.layout, step, a);
        if (is_late) late.insert(a.group);
        updated[a.group] += a.end - a.begin;
      }
      if (a.kind == ActionKind::GatherUpdated)
        EXPECT_EQ(std::any_of(a.parts.begin(), a.parts.end(), [&](const CollectivePart& part) { return late.contains(part.group); }),
                  is_late)
            << describe(halves.layout, step, a);
    }
    EXPECT_FALSE(late.empty());
    EXPECT_LT(late.size(), halves.layout.groups.size());
    for (const FlatGroup& g : halves.layout.groups) EXPECT_EQ(updated[g.id], g.shard_elements()) << g.name;
    // A run of it gives the bits of the device, the late ones too.
    put(test.config, {Tier::Device, Tier::Device}, folder);
    const Outcome expected = run(test, 2, Updates::Immediate, Look::No, 0);
    put(test.config, {Tier::Device, Tier::Host}, folder);
    expect_same(run(test, 2, {}, Look::No, 0).run, expected.run);
    // Without momentum SGD has no state in fp32.
    test.config.zero.offload_optimizer.ratio = 1;
    test.config.optimizer.type = OptimizerConfig::Type::SGD;
    test.config.optimizer.momentum = 0;
    const Plan sgd = plan_of(test.config, 2).any_step();
    EXPECT_FALSE(sgd.updates_in_backward);
    EXPECT_EQ(count(before_agreement(sgd), ActionKind::Update), 0);
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

// One that fails where its own update stands in its backward leaves parameters of no step, and nobody is given them.
TEST(HostComputeRun, AStepOfNoNumbersThatWasUpdatedInItsBackwardIsNotRead) {
  for (const Tier state : {Tier::Host, Tier::File})
    for (const DType type : {DType::F32, DType::BF16})
      run_local_ranks(2, {}, [&](Communicator world) {
        ZerothOrderCase test = unclipped_case(2, type, 1);
        const ScratchFolder folder;
        put(test.config, {Tier::Device, state}, folder);
        test.config.optimizer.lr = 1e30;
        test.share_over(2);
        const auto model = make_gpt2(test.model);
        const auto objective = make_cross_entropy();
        const auto initial = [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) {
          initial_values(info, test.config.seed, begin, count, values);
        };
        Engine engine(test.config, *model, *objective, plan_of(test.config, 2), initial, world);
        engine.train_step(0, test.batches(0, world.rank(), 2));
        const auto expect_error = [](const auto& call, const std::vector<std::string>& words) {
          try {
            call();
            ADD_FAILURE() << "no error";
          } catch (const RunError& error) {
            for (const std::string& word : words) EXPECT_THAT(error.what(), ::testing::HasSubstr(word));
          }
        };
        expect_error([&] { engine.train_step(1, test.batches(1, world.rank(), 2)); },
                     {"step 1: rank 0: the loss is",
                      state == Tier::File ? "rank 1: the gradient of group embedding (tied) is"
                                          : "rank 1: the gradient of transformer.wte.weight is",
                      "The parameters are of no step"});
        std::vector<float> values;
        expect_error([&] { engine.read_parameter(2, 3, values); }, {"the parameters are of no step"});
      });
}

}  // namespace
}  // namespace zerostep::testing
