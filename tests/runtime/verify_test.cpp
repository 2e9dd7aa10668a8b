#include "runtime/plan/verify.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "runtime/report/plan_report.h"
#include "tests/runtime/support/zeroth_order_case.h"

// The proof that a step's lanes cannot race: it holds for every plan that is made, and a plan with a wait less is found.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

// What changes the actions beside mode, stage and limits.
enum class Kind : uint8_t {
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
constexpr Kind kKinds[] = {Kind::Plain,
                           Kind::SixteenBit,
                           Kind::SixteenBitMessages,
                           Kind::Muon,
                           Kind::Recompute,
                           Kind::HostCheckpoints,
                           Kind::LowRank,
                           Kind::NoReduceScatter,
                           Kind::OwnGradients,
                           Kind::Deferred,
                           Kind::Host,
                           Kind::Files,
                           Kind::InBackward,
                           Kind::OneBuffer,
                           Kind::GpuHost,
                           Kind::GpuFiles};

struct PlanCase {
  Mode mode;
  int stage, world;
  bool overlap;
  int64_t live, prefetch, bucket, accumulation;
  Kind kind = Kind::Plain;
  std::string text() const {
    return fmt::format("mode {} stage {} world {} overlap {} live {} prefetch {} bucket {} accumulation {} kind {}", static_cast<int>(mode),
                       stage, world, overlap, live, prefetch, bucket, accumulation, static_cast<int>(kind));
  }
};

TrainingPlan plan_of(const PlanCase& c, ZerothOrderCase& test) {
  test = ZerothOrderCase::tiny(c.mode);
  Config& config = test.config;
  config.zero.stage = c.stage;
  config.zero.overlap_comm = c.overlap;
  config.zero.stage3_max_live_parameters = c.live;
  config.zero.stage3_prefetch_bucket_size = c.prefetch;
  config.zero.reduce_bucket_size = config.zero.allgather_bucket_size = c.bucket;
  config.step.bp_interval = c.mode == Mode::Calibrate || c.mode == Mode::Instruct ? 2 : config.step.bp_interval;
  config.step.monitor_interval = c.mode == Mode::Calibrate ? 2 : 0;
  const int64_t micro = ZerothOrderCase::kMicroBatch, all = micro * c.world * c.accumulation;
  config.batch = config.step.query_batch = {all, micro, c.accumulation};
  if (c.kind == Kind::SixteenBit || c.kind == Kind::SixteenBitMessages) config.precision.compute = DType::BF16;
  if (c.kind == Kind::SixteenBitMessages) config.communication_data_type = DType::BF16;
  if (c.kind == Kind::Muon) config.optimizer.type = OptimizerConfig::Type::Muon;
  if (c.kind == Kind::Recompute) config.number_checkpoints = 2;
  if (c.kind == Kind::HostCheckpoints) {
    test.model.n_layer = 5;
    config.number_checkpoints = -1;
    config.cpu_checkpointing = true;
  }
  if (c.kind == Kind::LowRank) config.step.perturbation = StepConfig::Perturbation::LowRank;
  if (c.kind == Kind::NoReduceScatter) config.zero.reduce_scatter = false;
  if (c.kind == Kind::OwnGradients) config.zero.contiguous_gradients = false;
  if (c.kind == Kind::Host || c.kind == Kind::Files || c.kind == Kind::InBackward || c.kind == Kind::OneBuffer) {
    const Tier tier = c.kind == Kind::Host ? Tier::Host : Tier::File;
    if (c.stage == 3) config.zero.offload_param.tier = tier;
    if (c.stage > 0) config.zero.offload_optimizer.tier = tier;
  }
  if (c.kind == Kind::GpuHost || c.kind == Kind::GpuFiles) {  // parameters that the GPU updates
    config.run.device = "cuda";
    config.optimizer.type = OptimizerConfig::Type::SGD;
    config.optimizer.momentum = 0;
    if (c.stage == 3) config.zero.offload_param.tier = c.kind == Kind::GpuHost ? Tier::Host : Tier::File;
  }
  if (c.kind == Kind::OneBuffer) {
    config.zero.offload_param.buffer_count = config.zero.offload_optimizer.buffer_count = 1;
    config.zero.offload_optimizer.pipeline_read = config.zero.offload_optimizer.pipeline_write = false;
    config.zero.offload_param.max_in_cpu = 1000;
    config.zero.offload_optimizer.ratio = 0.5;
  }
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  const bool defers =
      c.kind == Kind::Deferred || c.kind == Kind::Host || c.kind == Kind::Files || c.kind == Kind::GpuHost || c.kind == Kind::GpuFiles;
  if (c.kind == Kind::InBackward) {
    config.gradient_clipping = 0;
    config.zero.sub_group_size = 200;  // several updates a group
  }
  return plan_training(config, *model, *objective, c.world,
                       c.kind == Kind::InBackward ? Updates::InBackward
                       : defers                   ? Updates::Deferred
                                                  : Updates::Immediate);
}

std::vector<PlanCase> all_cases() {
  std::vector<PlanCase> out;
  constexpr int64_t kAll = int64_t{1} << 40;
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct, Mode::Alternating})
    for (const int stage : {0, 1, 2, 3})
      for (const int world : {1, 2, 4, 7})
        for (const bool overlap : {false, true})
          for (const int64_t live : {int64_t{0}, kAll})
            for (const int64_t prefetch : {int64_t{0}, int64_t{1000}, kAll})
              for (const int64_t bucket : {int64_t{300}, kAll})
                for (const int64_t accumulation : {1, 3}) {
                  if (stage < 3 && (live == 0 || prefetch != kAll)) continue;
                  for (const Kind kind : kKinds) out.push_back({mode, stage, world, overlap, live, prefetch, bucket, accumulation, kind});
                }
  return out;
}

TEST(Verify, EveryPlanIsFreeOfRaces) {
  int64_t plans = 0, actions = 0;
  double seconds = 0;
  for (const PlanCase& c : all_cases()) {
    ZerothOrderCase test;
    const TrainingPlan plan = plan_of(c, test);
    const auto start = std::chrono::steady_clock::now();
    for (const NamedPlan& one : plan.plans()) {
      const PlanProof proof = verify(plan.layout, *one.plan);
      ASSERT_EQ(proof.problems, std::vector<std::string>{}) << c.text();
      const std::vector<Action>& all = one.plan->actions;
      const bool communicates = std::any_of(all.begin(), all.end(), [](const Action& a) { return a.lane != Lane::Compute; });
      EXPECT_EQ(proof.waits > 0, communicates) << c.text();
      ++plans;
      actions += proof.actions;
    }
    const PlanProof proof = verify(plan.layout, plan.plans());
    ASSERT_EQ(proof.problems, std::vector<std::string>{}) << c.text();
    EXPECT_GT(proof.conflicts, 0) << c.text();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  RecordProperty("plans", static_cast<int>(plans));
  std::printf("%ld plans of steps, %ld actions, %.1f us a plan\n", static_cast<long>(plans), static_cast<long>(actions),
              1e6 * seconds / static_cast<double>(plans));
}

// Every single wait of some plans is taken away in turn. What follows a step may be any of the plans.
TEST(Verify, AMissingWaitIsFound) {
  int64_t removed = 0;
  std::set<ActionKind> kinds;               // of those that wait
  std::set<std::pair<Lane, Lane>> of_host;  // which waits for which, where one is the host's
  constexpr int64_t kAll = int64_t{1} << 40;
  for (const auto& [mode, kind] : {std::pair{Mode::FirstOrder, Kind::Plain},
                                   {Mode::FirstOrder, Kind::SixteenBitMessages},
                                   {Mode::FirstOrder, Kind::Muon},
                                   {Mode::FirstOrder, Kind::Recompute},
                                   {Mode::FirstOrder, Kind::HostCheckpoints},
                                   {Mode::ZerothOrder, Kind::Plain},
                                   {Mode::ZerothOrder, Kind::Muon},
                                   {Mode::Calibrate, Kind::Plain},
                                   {Mode::Instruct, Kind::LowRank},
                                   {Mode::FirstOrder, Kind::Deferred},
                                   {Mode::Alternating, Kind::Deferred},
                                   {Mode::FirstOrder, Kind::Host},
                                   {Mode::Alternating, Kind::Host},
                                   {Mode::FirstOrder, Kind::Files},
                                   {Mode::FirstOrder, Kind::InBackward},
                                   {Mode::ZerothOrder, Kind::Files},
                                   {Mode::ZerothOrder, Kind::GpuHost},
                                   {Mode::Alternating, Kind::GpuFiles}})
    for (const int stage : {0, 1, 2, 3}) {
      ZerothOrderCase test;
      const PlanCase c{mode, stage, 2, true, kAll, 1000, 300, 2, kind};
      TrainingPlan plan = plan_of(c, test);
      for (TrainingPlan::Step& step : plan.steps)
        for (size_t i = 0; i < step.plan.actions.size(); ++i) {
          std::vector<int>& waits = step.plan.actions[i].waits;
          for (size_t w = 0; w < waits.size(); ++w) {
            const std::vector<int> all = waits;
            waits.erase(waits.begin() + static_cast<std::ptrdiff_t>(w));
            EXPECT_FALSE(verify(plan.layout, plan.plans(), 1).problems.empty())
                << c.text() << ": action " << i << " (" << describe(plan.layout, step.plan, step.plan.actions[i]) << ") does not wait for "
                << all[w];
            waits = all;
            ++removed;
            kinds.insert(step.plan.actions[i].kind);
            const Lane waits_in = step.plan.actions[i].lane, for_what = step.plan.action(all[w]).lane;
            if (waits_in == Lane::HostCompute || for_what == Lane::HostCompute) of_host.insert({waits_in, for_what});
          }
        }
    }
  EXPECT_GT(removed, 300);
  using enum ActionKind;
  EXPECT_EQ(kinds, (std::set{Gather, BringShard, ReturnShard, GatherGradient, Visit, Release, Reduce, Agree, GatherMatrices,
                             MakeMatrixUpdates, ScatterMatrixUpdates, ApplyMatrixUpdates, Update, GatherUpdated, Load, Store, Drop, End}));
  // The host's updates wait for the beginning and for what is read from files; gathers, visits and files wait for them.
  constexpr std::pair<Lane, Lane> kNeeded[] = {{Lane::HostCompute, Lane::Compute},
                                               {Lane::HostCompute, Lane::FileRead},
                                               {Lane::Gather, Lane::HostCompute},
                                               {Lane::FileWrite, Lane::HostCompute},
                                               {Lane::Compute, Lane::HostCompute}};
  for (const auto& [waits_in, for_what] : kNeeded)
    EXPECT_TRUE(of_host.contains({waits_in, for_what})) << name_of(waits_in) << " for " << name_of(for_what);
}

// Without a load a slot holds something else, or nothing; without a store its chunk is lost.
TEST(Verify, AMissingTransferIsFound) {
  int64_t removed = 0;
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder})
    for (const Kind kind : {Kind::Files, Kind::InBackward, Kind::OneBuffer})
      for (const int ranks : {1, 2}) {
        ZerothOrderCase test;
        const PlanCase c{mode, 3, ranks, true, int64_t{1} << 40, 1000, 300, 2, kind};
        TrainingPlan plan = plan_of(c, test);
        Plan& step = plan.steps.front().plan;
        for (Action& a : step.actions) {
          if (a.kind != ActionKind::Load && a.kind != ActionKind::Store) continue;
          const std::vector<BufferUse> uses = std::exchange(a.uses, {});
          EXPECT_FALSE(verify(plan.layout, step).problems.empty()) << c.text() << ": " << describe(plan.layout, step, a);
          a.uses = uses;
          ++removed;
        }
      }
  EXPECT_GT(removed, 100);
}

// What is not stored because nothing reads it again is not read again, from a slot or from its file, where sums of earlier micro-batches
// lie.
TEST(Verify, AReadOfWhatWasNotStoredIsFound) {
  int64_t tried = 0;
  for (const int ranks : {1, 2}) {
    ZerothOrderCase test;
    TrainingPlan plan = plan_of({Mode::FirstOrder, 3, ranks, true, int64_t{1} << 40, 1000, 300, 2, Kind::InBackward}, test);
    Plan& step = plan.steps.front().plan;
    for (Action& a : step.actions) {
      if (a.kind != ActionKind::Update) continue;
      for (BufferUse& use : a.uses) {
        if (use.is_last || !use.reads || use.writes || use.buffer.kind != BufferKind::StagingSlot) continue;
        use.is_last = true;  // one update too early
        EXPECT_FALSE(verify(plan.layout, step).problems.empty()) << describe(plan.layout, step, a);
        use.is_last = false;
        ++tried;
      }
    }
    EXPECT_TRUE(verify(plan.layout, step).problems.empty());
  }
  EXPECT_GT(tried, 0);
}

TEST(Verify, AMissingTransferOfACheckpointIsFound) {
  ZerothOrderCase test;
  TrainingPlan plan = plan_of({Mode::FirstOrder, 1, 1, false, int64_t{1} << 40, 0, int64_t{1} << 40, 1, Kind::HostCheckpoints}, test);
  Plan& step = plan.steps.front().plan;
  std::map<ActionKind, std::vector<int>> moved;  // units
  for (Action& a : step.actions) {
    if (a.kind != ActionKind::Store && a.kind != ActionKind::Load && a.kind != ActionKind::Drop) continue;
    moved[a.kind].push_back(a.chunk.index);
    if (a.kind == ActionKind::Drop) continue;
    const std::vector<BufferUse> uses = std::exchange(a.uses, {});
    EXPECT_FALSE(verify(plan.layout, step).problems.empty()) << describe(plan.layout, step, a);
    a.uses = uses;
  }
  EXPECT_EQ(moved[ActionKind::Store], (std::vector{1, 2, 3, 4}));
  EXPECT_EQ(moved[ActionKind::Drop], (std::vector{1, 2, 3, 4}));
  EXPECT_EQ(moved[ActionKind::Load], (std::vector{4, 3, 2, 1}));
}

TEST(Verify, AKeptInputIsPutBeforeItIsRead) {
  ZerothOrderCase test;
  TrainingPlan plan = plan_of({Mode::FirstOrder, 1, 1, false, int64_t{1} << 40, 0, int64_t{1} << 40, 1, Kind::Recompute}, test);
  Plan& step = plan.steps.front().plan;
  int64_t kept = 0;
  for (Action& a : step.actions) {
    if (a.kind != ActionKind::Visit || !step.visit(a.visit).keep_input) continue;
    ++kept;
    const std::vector<BufferUse> all = a.uses;
    std::erase_if(a.uses, [](const BufferUse& use) { return use.buffer.kind == BufferKind::Activation; });
    const std::vector<std::string> problems = verify(plan.layout, step).problems;
    ASSERT_FALSE(problems.empty());
    const std::string& unit = plan.layout.unit(step.visit(a.visit).unit).name;
    EXPECT_NE(problems.front().find("recompute " + unit), std::string::npos) << problems.front();
    EXPECT_NE(problems.front().find("reads the kept input of " + unit + ", which nothing has written"), std::string::npos)
        << problems.front();
    a.uses = all;
  }
  EXPECT_EQ(kept, 1);  // the last of two segments keeps its graph
}

// Plans that follow one another. Each of them may be right for itself.
class FoundBetween : public ::testing::Test {
 protected:
  FoundBetween() : plan_(plan_of({Mode::Alternating, 1, 2, true, int64_t{1} << 40, 0, 300, 1}, test_)) {}
  std::vector<std::string> problems() { return verify(plan_.layout, plan_.plans(), 1000).problems; }
  bool finds(const std::string& one, const std::string& other) {
    const std::vector<std::string> all = problems();
    return std::any_of(all.begin(), all.end(), [&](const std::string& p) {
      const size_t at = p.find(one);
      return at != std::string::npos && p.find(other, at) != std::string::npos;
    });
  }
  ZerothOrderCase test_;
  TrainingPlan plan_;
};

TEST_F(FoundBetween, AnEndThatDoesNotWait) {
  EXPECT_EQ(problems(), std::vector<std::string>{});
  const std::vector<NamedPlan> all = plan_.plans();
  ASSERT_EQ(all.size(), 4u);  // two kinds of steps, an evaluation, an update
  const std::string steps[] = {all[0].name, all[1].name};
  ASSERT_NE(steps[0], steps[1]);
  for (int i : {0, 1}) {
    std::vector<int>& waits = plan_.steps[static_cast<size_t>(i)].plan.actions.back().waits;
    const std::vector<int> before = std::exchange(waits, {});
    ASSERT_FALSE(before.empty());
    for (const std::string& next : {steps[0], steps[1], all[2].name, all[3].name})
      EXPECT_TRUE(finds("of " + next + " (", "of " + steps[i] + " (gather updated")) << next << " after " << steps[i];
    EXPECT_FALSE(finds("of " + steps[0] + " (", "of " + all[3].name + " ("));
    waits = before;
  }
  plan_.update.actions.back().waits.clear();
  EXPECT_TRUE(finds("of a batch of evaluation (forward", "of an update alone (gather updated"));
}

// A gather lane that changes what a compute lane reads: each plan follows itself without a race, and not the other.
TEST_F(FoundBetween, WhatNoPlanShowsByItself) {
  Plan changes = plan_.update, reads = plan_.evaluate;
  const Buffer weights{BufferKind::Parameters, 0};
  changes.actions = {{.kind = ActionKind::Begin}, {.kind = ActionKind::GatherUpdated}, {.kind = ActionKind::End}};
  changes.actions[1].lane = Lane::Gather;
  changes.actions[1].uses = {{weights, true, true}};
  changes.actions[1].waits = {0};
  reads.actions = {{.kind = ActionKind::Begin}, {.kind = ActionKind::Visit, .visit = 0}, {.kind = ActionKind::End}};
  reads.actions[1].uses = {{weights, true, false}};
  const auto problems_of = [&](const std::vector<NamedPlan>& plans) { return verify(plan_.layout, plans).problems; };
  const NamedPlan one{"the change", &changes}, other{"the reader", &reads};
  EXPECT_EQ(problems_of({one}), std::vector<std::string>{});
  EXPECT_EQ(problems_of({other}), std::vector<std::string>{});
  const std::vector<std::string> found = problems_of({one, other});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].find("action 1 of the reader ("), 0u) << found[0];
  EXPECT_NE(found[0].find("while action 1 of the change ("), std::string::npos) << found[0];
  changes.actions[2].waits = {1};
  EXPECT_EQ(problems_of({one, other}), std::vector<std::string>{});
  // A skipped step ends where its ranks agree, and every lane is waited for.
  changes.actions.insert(changes.actions.begin() + 2, {.kind = ActionKind::Agree});
  changes.actions[3].waits = {1};
  EXPECT_EQ(problems_of({one, other}), std::vector<std::string>{});
  changes.actions[3].waits = {};
  EXPECT_EQ(problems_of({one, other}), found);
}

class FoundIn : public ::testing::Test {
 protected:
  FoundIn() : plan_(plan_of({Mode::FirstOrder, 3, 2, true, int64_t{1} << 40, 1000, 300, 1}, test_)) {}
  Plan& train() { return plan_.steps.front().plan; }
  Action& first(ActionKind kind) {
    for (Action& a : train().actions)
      if (a.kind == kind) return a;
    throw std::logic_error("no such action");
  }
  std::string problem() {
    const PlanProof proof = verify(plan_.layout, plan_.any_step());
    return proof.problems.empty() ? "" : proof.problems.front();
  }
  ZerothOrderCase test_;
  TrainingPlan plan_;
};

TEST_F(FoundIn, BothActionsAndTheBufferAreNamed) {
  EXPECT_EQ(problem(), "");
  first(ActionKind::Visit).waits.clear();
  const std::string found = problem();
  for (const char* part : {"forward embedding", "compute lane", "reads slot 0 of parameters like", "gather embedding", "gather lane",
                           "neither waits for the other"})
    EXPECT_NE(found.find(part), std::string::npos) << part << " is not in: " << found;
}

TEST_F(FoundIn, AReleaseThatIsMissing) {
  auto& actions = train().actions;
  for (Action& a : actions)
    if (a.kind == ActionKind::Release) a.uses.clear();
  EXPECT_NE(problem().find("is not released"), std::string::npos) << problem();
}

TEST_F(FoundIn, AReadOfWhatNothingHasWritten) {
  for (Action& a : train().actions)
    if (a.kind == ActionKind::Reduce)
      std::erase_if(a.uses, [](const BufferUse& use) { return use.buffer.kind == BufferKind::SquaredNorm; });
  EXPECT_NE(problem().find("reads the squared norm of"), std::string::npos) << problem();
  EXPECT_NE(problem().find("nothing has written in this step"), std::string::npos) << problem();
}

TEST_F(FoundIn, AGradientThatIsWrittenOverBeforeItIsReduced) {
  for (Action& a : train().actions)
    if (a.kind == ActionKind::Reduce)
      std::erase_if(a.uses, [](const BufferUse& use) { return use.buffer.kind == BufferKind::GradientSlot; });
  EXPECT_NE(problem().find("nothing has read the gradients of"), std::string::npos) << problem();
}

TEST_F(FoundIn, ASlotThatHoldsAnotherGroup) {
  Action& visit = first(ActionKind::Visit);
  for (BufferUse& use : visit.uses)
    if (use.buffer.kind == BufferKind::ParameterSlot) use.group += 1;
  EXPECT_NE(problem().find("and it holds"), std::string::npos) << problem();
}

TEST_F(FoundIn, AWaitForWhatComesLater) {
  first(ActionKind::Gather).waits.push_back(static_cast<int>(train().actions.size()) - 1);
  EXPECT_NE(problem().find("which is not before it"), std::string::npos) << problem();
}

}  // namespace
}  // namespace zerostep::testing
