#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "runtime/plan/verify.h"
#include "tests/runtime/support/verify_case.h"

// What the proof finds in plans that are wrong in one place, within a step and between steps, and how it names that.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

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
