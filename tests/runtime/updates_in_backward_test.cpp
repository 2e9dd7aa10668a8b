#include <gtest/gtest.h>

#include <map>
#include <set>

#include "sharding/local_ranks.h"
#include "tests/runtime/support/host_compute_case.h"
#include "tests/support/expect_says.h"

// Updates of what has its state in memory of the host or in files, in the step's own backward, where nothing of the whole gradient decides
// on them. What comes out is what updates at the end on the device give, to the bit.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

// Updates that nothing of the whole gradient decides on.
ZerothOrderCase unclipped_case(int stage, DType type, int64_t accumulation) {
  ZerothOrderCase test = case_of(stage, type, accumulation);
  test.config.gradient_clipping = 0;
  test.config.precision.check_overflow = false;
  return test;
}

class UpdatesInBackward : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Stages, UpdatesInBackward, ::testing::Values(1, 2, 3));

TEST_P(UpdatesInBackward, GiveTheBitsOfTheDevice) {
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

// Which steps make theirs in the backward: of backprop alone, where state rests elsewhere, no norm clips the gradient, and no step is
// skipped because of it.
TEST(UpdatesInBackwardPlan, AreWhatNothingDecidesOn) {
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
                EXPECT_FALSE(expected && (step.defers_update || step.applies_pending));
                EXPECT_EQ(count(before_agreement(step), ActionKind::Update) > 0, expected || step.applies_pending);
              }
            }
}

// Each group is updated once, behind all that computes with it and before the backward of the unit before, with which it goes on; no memory
// is taken for it; and gradients that an update has read are not written to a file.
TEST(UpdatesInBackwardPlan, StandBehindTheLastUse) {
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
            if (is_visit) {
              for (const int g : plan.layout.used_by(step.visit(a.visit).unit)) EXPECT_EQ(updated[g], 0) << describe(plan.layout, step, a);
            }
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
TEST(UpdatesInBackwardPlan, AreTheHostsAlone) {
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
      if (a.kind == ActionKind::GatherUpdated) {
        EXPECT_EQ(std::any_of(a.parts.begin(), a.parts.end(), [&](const CollectivePart& part) { return late.contains(part.group); }),
                  is_late)
            << describe(halves.layout, step, a);
      }
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

// One that fails where its own update stands in its backward leaves parameters of no step, and nobody is given them.
TEST(UpdatesInBackwardRun, AStepOfNoNumbersIsNotRead) {
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
            for (const std::string& word : words) EXPECT_SAYS(std::string(error.what()), word);
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
