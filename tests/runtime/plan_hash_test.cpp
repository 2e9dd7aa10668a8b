#include "runtime/plan/plan_hash.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

// Whatever changes what a plan does changes its hash; what things are called does not.
namespace zerostep {
namespace {

Plan small_plan() {
  Plan plan;
  plan.visits = {{.unit = 0, .kind = VisitKind::Forward}, {.unit = 1, .kind = VisitKind::Backward}};
  Action gather{.kind = ActionKind::Gather, .group = 1, .slot = 0, .bytes = 64};
  Action reduce{.kind = ActionKind::Reduce, .parts = {{1, 0, 2, 0}}, .uses = {{{BufferKind::Gradients, 1, 0}, true, true}}};
  plan.actions = {gather, reduce};
  plan.buffers = {{.id = {BufferKind::Gradients, 1, 0}, .name = "gradients", .bytes = 128}};
  plan.parameter_rings = {{.name = "ring", .groups = {}}};
  return plan;
}

TEST(PlanHash, HasEverythingThatMatters) {
  const std::string before = plan_hash(small_plan());
  EXPECT_EQ(plan_hash(small_plan()), before);
  const std::vector<std::function<void(Plan&)>> changes{
      [](Plan& p) { p.visits[0].kind = VisitKind::ForwardOnly; },
      [](Plan& p) { p.visits[1].reads_gradient = true; },
      [](Plan& p) { p.visits[1].pass = 1; },
      [](Plan& p) { p.visits[1].weight_copies = 2; },
      [](Plan& p) { std::swap(p.actions[0], p.actions[1]); },
      [](Plan& p) { p.actions[0].slot = 1; },
      [](Plan& p) { p.actions[0].bytes = 65; },
      [](Plan& p) { p.actions[0].flops = 0.5; },
      [](Plan& p) { p.actions[0].lane = Lane::Gather; },
      [](Plan& p) {
        p.actions[0].parameters = {{1, 0}};
      },
      [](Plan& p) {
        p.actions[0].summed_gradients = {{1, 0}};
      },
      [](Plan& p) {
        p.actions[0].gradients = {{1, 0, true}};
      },
      [](Plan& p) {
        p.actions[1].gradients = {{1, 0, true}};
      },
      [](Plan& p) { p.actions[1].accumulate = true; },
      [](Plan& p) { p.actions[1].final_reduction = true; },
      [](Plan& p) { p.actions[1].reads_gradient = true; },
      [](Plan& p) { p.actions[1].agreement = Agreement::Losses; },
      [](Plan& p) { p.actions[1].parts[0].slice_end = 3; },
      [](Plan& p) { p.actions[1].uses[0].writes = false; },
      [](Plan& p) { p.actions[1].uses[0].group = 1; },
      [](Plan& p) { p.actions[1].waits = {0}; },
      [](Plan& p) { p.buffers[0].tier = Tier::Host; },
      [](Plan& p) { p.buffers[0].num_chunks = 2; },
      [](Plan& p) { p.staging_rings = {{.kind = BufferKind::UpdateState, .name = "", .slot_bytes = 8, .num_slots = 2}}; },
      [](Plan& p) { p.defers_update = true; },
      [](Plan& p) { p.updates_in_backward = true; },
  };
  std::set<std::string> hashes{before};
  for (size_t i = 0; i < changes.size(); ++i) {
    Plan plan = small_plan();
    changes[i](plan);
    EXPECT_TRUE(hashes.insert(plan_hash(plan)).second) << "change " << i;
  }
  Plan named = small_plan();
  named.buffers[0].name = named.parameter_rings[0].name = "another";
  named.options.stage = 3;
  EXPECT_EQ(plan_hash(named), before);
}

}  // namespace
}  // namespace zerostep
