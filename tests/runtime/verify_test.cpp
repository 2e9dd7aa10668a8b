#include "runtime/plan/verify.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "runtime/report/plan_report.h"
#include "tests/runtime/support/verify_case.h"

// The proof that a step's lanes cannot race: it holds for every plan that is made, and a plan with a wait less is found.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

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
                  for (const PlanKind kind : kPlanKinds)
                    out.push_back({mode, stage, world, overlap, live, prefetch, bucket, accumulation, kind});
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
  for (const auto& [mode, kind] : {std::pair{Mode::FirstOrder, PlanKind::Plain},
                                   {Mode::FirstOrder, PlanKind::SixteenBitMessages},
                                   {Mode::FirstOrder, PlanKind::Muon},
                                   {Mode::FirstOrder, PlanKind::Recompute},
                                   {Mode::FirstOrder, PlanKind::HostCheckpoints},
                                   {Mode::ZerothOrder, PlanKind::Plain},
                                   {Mode::ZerothOrder, PlanKind::Muon},
                                   {Mode::Calibrate, PlanKind::Plain},
                                   {Mode::Instruct, PlanKind::LowRank},
                                   {Mode::FirstOrder, PlanKind::Deferred},
                                   {Mode::Alternating, PlanKind::Deferred},
                                   {Mode::FirstOrder, PlanKind::Host},
                                   {Mode::Alternating, PlanKind::Host},
                                   {Mode::FirstOrder, PlanKind::Files},
                                   {Mode::FirstOrder, PlanKind::InBackward},
                                   {Mode::ZerothOrder, PlanKind::Files},
                                   {Mode::ZerothOrder, PlanKind::GpuHost},
                                   {Mode::Alternating, PlanKind::GpuFiles}})
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
    for (const PlanKind kind : {PlanKind::Files, PlanKind::InBackward, PlanKind::OneBuffer})
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
    TrainingPlan plan = plan_of({Mode::FirstOrder, 3, ranks, true, int64_t{1} << 40, 1000, 300, 2, PlanKind::InBackward}, test);
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
  TrainingPlan plan = plan_of({Mode::FirstOrder, 1, 1, false, int64_t{1} << 40, 0, int64_t{1} << 40, 1, PlanKind::HostCheckpoints}, test);
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
  TrainingPlan plan = plan_of({Mode::FirstOrder, 1, 1, false, int64_t{1} << 40, 0, int64_t{1} << 40, 1, PlanKind::Recompute}, test);
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

}  // namespace
}  // namespace zerostep::testing
