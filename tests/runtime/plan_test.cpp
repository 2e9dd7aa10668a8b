#include "runtime/plan/plan.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"

namespace zerostep {
namespace {

// embedding (a big table, tied or not, and a small one), five equal blocks with vectors, a head.
std::vector<UnitInfo> model(bool tied) {
  int64_t first = 0;
  const auto parameter = [&](std::string name, std::vector<int64_t> shape) {
    ParameterInfo info;
    info.name = std::move(name);
    info.shape = std::move(shape);
    info.first = first;
    first += info.num_elements();
    return info;
  };
  const auto unit = [](std::string name, std::vector<ParameterInfo> parameters) {
    UnitInfo info;
    info.name = std::move(name);
    info.parameters = std::move(parameters);
    return info;
  };
  std::vector<UnitInfo> units;
  units.push_back(unit("embedding", {parameter("wte.weight", {1000, 16}), parameter("wpe.weight", {32, 16})}));
  units.back().backward_needs_parameters = false;
  for (int i = 0; i < 5; ++i) {
    const std::string h = "h." + std::to_string(i);
    units.push_back(unit(h, {parameter(h + ".weight", {16, 48}), parameter(h + ".bias", {48}), parameter(h + ".proj", {17, 16})}));
  }
  units.push_back(unit("head", {parameter("ln_f.weight", {16})}));
  if (tied)
    units.back().borrowed.push_back({0, 0});
  else
    units.back().parameters.push_back(parameter("lm_head.weight", {1000, 16}));
  return units;
}

ModelLayout layout_of(int stage, int ranks, bool tied = false, int64_t slice = 0) {
  LayoutOptions options;
  options.stage = stage;
  options.shard_ranks = ranks;
  options.max_slice_elements = slice;
  return ModelLayout::make(model(tied), options);
}

PlanOptions plan_options(int stage, int ranks) {
  PlanOptions options;
  options.stage = stage;
  options.world = ranks;
  options.optimizer_state_values = 2;
  return options;
}

int64_t padded_elements(const ModelLayout& layout) {
  int64_t n = 0;
  for (const FlatGroup& g : layout.groups) n += g.full_elements();
  return n;
}

// Replays a plan and checks everything that the executor relies on. Returns the highest number of live gathered elements.
int64_t replay(const Plan& plan, const ModelLayout& layout) {
  std::map<int, int> live;                           // group -> slot
  std::map<std::pair<int, int>, int> slot_owner;     // (ring, slot) -> group
  std::map<std::pair<int, int>, int> gradient_open;  // (ring, slot) -> group whose gradient is not reduced yet
  std::map<int, int> reduced;                        // group -> times, per slice set
  int64_t highest = 0;
  bool seen_scalars = false;
  for (const Action& a : plan.actions) {
    switch (a.kind) {
      case ActionKind::Begin:
      case ActionKind::BringShard:
      case ActionKind::ReturnShard:
      case ActionKind::Load:
      case ActionKind::Store:
      case ActionKind::Drop:
      case ActionKind::End:
        break;
      case ActionKind::Gather: {
        const int ring = plan.parameter_ring_of[static_cast<size_t>(a.group)];
        EXPECT_LT(a.slot, plan.parameter_rings[static_cast<size_t>(ring)].num_slots);
        EXPECT_LE(num_bytes(layout.groups[static_cast<size_t>(a.group)].full_elements(), DType::F32),
                  plan.parameter_rings[static_cast<size_t>(ring)].slot_bytes);
        EXPECT_FALSE(live.contains(a.group));
        EXPECT_FALSE(slot_owner.contains({ring, a.slot})) << "slot in use";
        live[a.group] = a.slot;
        slot_owner[{ring, a.slot}] = a.group;
        int64_t elements = 0;
        for (const auto& [g, slot] : live) elements += layout.groups[static_cast<size_t>(g)].full_elements();
        highest = std::max(highest, elements);
        break;
      }
      case ActionKind::Release:
        EXPECT_TRUE(live.contains(a.group));
        slot_owner.erase({plan.parameter_ring_of[static_cast<size_t>(a.group)], live[a.group]});
        live.erase(a.group);
        break;
      case ActionKind::Visit: {
        const Visit& visit = plan.visits[static_cast<size_t>(a.visit)];
        if (visit.kind != VisitKind::Backward || layout.units[static_cast<size_t>(visit.unit)].backward_needs_parameters)
          for (int g : layout.used_by(visit.unit))
            if (plan.parameter_ring_of[static_cast<size_t>(g)] >= 0) {
              EXPECT_TRUE(live.contains(g)) << "visit " << a.visit << " reads a group that is not gathered";
            }
        for (const GradientUse& use : a.gradients) {
          if (use.slot < 0) continue;
          const int ring = plan.gradient_ring_of[static_cast<size_t>(use.group)];
          EXPECT_LT(use.slot, plan.gradient_rings[static_cast<size_t>(ring)].num_slots);
          if (use.fresh) {
            EXPECT_FALSE(gradient_open.contains({ring, use.slot})) << "a gradient slot is overwritten before it is reduced";
            gradient_open[{ring, use.slot}] = use.group;
          } else {
            EXPECT_EQ((gradient_open[{ring, use.slot}]), use.group);
          }
        }
        break;
      }
      case ActionKind::Reduce:
        EXPECT_FALSE(seen_scalars);
        for (const CollectivePart& part : a.parts) {
          if (part.slice_end != static_cast<int>(layout.groups[static_cast<size_t>(part.group)].layout.slices().size())) continue;
          ++reduced[part.group];
          std::erase_if(gradient_open, [&](const auto& open) { return open.second == part.group; });
        }
        break;
      case ActionKind::Agree:
        seen_scalars = true;
        break;
      case ActionKind::GatherGradient:
        EXPECT_FALSE(seen_scalars);
        break;
      case ActionKind::GatherMatrices:
      case ActionKind::MakeMatrixUpdates:
      case ActionKind::ScatterMatrixUpdates:
      case ActionKind::ApplyMatrixUpdates:
        EXPECT_TRUE(seen_scalars);
        break;
      case ActionKind::Update:
      case ActionKind::GatherUpdated:
        EXPECT_TRUE(seen_scalars);
        break;
    }
  }
  EXPECT_TRUE(live.empty());
  EXPECT_TRUE(gradient_open.empty());
  const int micro_batches = plan.visits.back().micro_batch + 1;
  if (plan.options.world > 1 && plan.options.update) {
    for (const FlatGroup& g : layout.groups)
      EXPECT_EQ(reduced[g.id], !g.trainable ? 0 : plan.options.stage >= 2 ? micro_batches : 1) << g.name;
  }
  return highest;
}

TEST(Plan, MovesTheElementsOfTheDesignsTable) {
  for (const int micro_batches : {1, 4})
    for (const int stage : {0, 1, 2, 3}) {
      const ModelLayout layout = layout_of(stage, 4);
      const int64_t padded = padded_elements(layout) * 3 / 4;
      PlanOptions options = plan_options(stage, 4);
      options.max_live_parameters = 1;
      options.max_reuse_distance = 0;
      const Plan plan = make_plan(layout, first_order_visits(7, micro_batches, 0, 0), options);
      replay(plan, layout);
      const int64_t scalars = 3 * 7;  // two sums and five maxima from each of the other ranks
      const int64_t embedding = layout.groups[static_cast<size_t>(layout.own[0][0])].full_elements() * 3 / 4;
      const int64_t head = layout.groups[static_cast<size_t>(layout.own[6][0])].full_elements() * 3 / 4;
      switch (stage) {
        case 0:
          EXPECT_EQ(plan.elements_gathered, 0);
          EXPECT_EQ(plan.elements_reduced, 2 * padded + scalars);
          break;
        case 1:
          EXPECT_EQ(plan.elements_gathered, padded);
          EXPECT_EQ(plan.elements_reduced, padded + scalars);
          break;
        case 2:
          EXPECT_EQ(plan.elements_gathered, padded);
          EXPECT_EQ(plan.elements_reduced, micro_batches * padded + scalars);
          break;
        case 3:
          // Forward and backward, less the head, whose backward follows its forward, and the embedding, whose backward reads no parameter.
          EXPECT_EQ(plan.elements_gathered, micro_batches * (2 * padded - embedding - head));
          EXPECT_EQ(plan.elements_reduced, micro_batches * padded + scalars);
          break;
      }
    }
}

TEST(Plan, KeepsEverythingWhereTheLimitsAllowIt) {
  const ModelLayout layout = layout_of(3, 2);
  const Plan plan = make_plan(layout, first_order_visits(7, 3, 0, 0), plan_options(3, 2));
  EXPECT_EQ(replay(plan, layout), padded_elements(layout));
  EXPECT_EQ(plan.elements_gathered, padded_elements(layout) / 2);  // once, whatever the number of micro-batches
}

TEST(Plan, ObeysTheLimitOnLiveParameters) {
  const ModelLayout layout = layout_of(3, 2);
  const int64_t block = layout.groups[static_cast<size_t>(layout.own[1][0])].full_elements(), table = layout.groups[0].full_elements();
  int64_t last = INT64_MAX;
  for (const int64_t limit : {int64_t{1}, table + 1 * block, table + 2 * block, table + 4 * block, int64_t{1} << 30}) {
    PlanOptions options = plan_options(3, 2);
    options.overlap = true;
    options.prefetch_bucket = 2 * block;
    options.max_live_parameters = limit;
    const Plan plan = make_plan(layout, first_order_visits(7, 1, 0, 0), options);
    EXPECT_LE(replay(plan, layout), plan.limits.max_live_parameters);
    EXPECT_EQ(plan.limits.max_live_parameters, std::max(limit, table)) << "a limit below one unit rounds up to it";
    EXPECT_LE(plan.elements_gathered, last) << "more memory never moves more";
    last = plan.elements_gathered;
  }
}

TEST(Plan, GivesUpWhatIsUsedFarthestInTheFuture) {
  const ModelLayout layout = layout_of(3, 2);
  const int64_t block = layout.groups[static_cast<size_t>(layout.own[1][0])].full_elements(), table = layout.groups[0].full_elements();
  PlanOptions options = plan_options(3, 2);
  options.max_live_parameters = table + 2 * block;
  const Plan plan = make_plan(layout, first_order_visits(7, 1, 0, 0), options);
  replay(plan, layout);
  std::map<int, int> gathers;
  for (const Action& a : plan.actions)
    if (a.kind == ActionKind::Gather) ++gathers[layout.groups[static_cast<size_t>(a.group)].unit];
  // The last two blocks stay for the backward that comes first; the others come twice; the table is read once.
  EXPECT_EQ(gathers, (std::map<int, int>{{0, 1}, {1, 2}, {2, 2}, {3, 2}, {4, 1}, {5, 1}, {6, 1}}));
}

TEST(Plan, ReuseDistanceZeroKeepsNothingThatAnotherUnitComesBetween) {
  const ModelLayout layout = layout_of(3, 2);
  PlanOptions options = plan_options(3, 2);
  options.max_reuse_distance = 0;
  const Plan plan = make_plan(layout, first_order_visits(7, 1, 0, 0), options);
  std::map<int, int> gathers;
  for (const Action& a : plan.actions)
    if (a.kind == ActionKind::Gather) ++gathers[layout.groups[static_cast<size_t>(a.group)].unit];
  EXPECT_EQ(gathers[3], 2);
  EXPECT_EQ(gathers[6], 1);
}

TEST(Plan, PrefetchesAheadOfTheVisitWithinItsBucket) {
  const ModelLayout layout = layout_of(3, 2);
  const int64_t block = layout.groups[static_cast<size_t>(layout.own[1][0])].full_elements();
  const auto gathers_before_first_visit = [&](bool overlap, int64_t bucket) {
    PlanOptions options = plan_options(3, 2);
    options.overlap = overlap;
    options.prefetch_bucket = bucket;
    const Plan plan = make_plan(layout, first_order_visits(7, 1, 0, 0), options);
    replay(plan, layout);
    int count = 0;
    for (const Action& a : plan.actions) {
      if (a.kind == ActionKind::Visit) break;
      count += a.kind == ActionKind::Gather;
    }
    return count;
  };
  EXPECT_EQ(gathers_before_first_visit(true, 0), 1);
  EXPECT_EQ(gathers_before_first_visit(false, 1 << 30), 1) << "without overlap a prefetch only holds memory";
  EXPECT_EQ(gathers_before_first_visit(true, 1 << 30), 7);
  // Three blocks fit into the bucket, which is rounded up to the largest unit, the table: then all of the five blocks and not the head.
  EXPECT_LT(3 * block, 17000);
  EXPECT_EQ(gathers_before_first_visit(true, 1), 1 + 5);
}

TEST(Plan, HoldsATiedGradientUntilBothUsesAreDone) {
  const ModelLayout layout = layout_of(2, 2, true);
  const ModelLayout::Place tied = layout.places[0][0];
  EXPECT_NE(tied.group, layout.places[0][1].group) << "the borrowed weight is a group of its own";
  const Plan plan = make_plan(layout, first_order_visits(7, 2, 0, 0), plan_options(2, 2));
  replay(plan, layout);
  std::vector<std::pair<int, bool>> uses;
  for (const Action& a : plan.actions)
    for (const GradientUse& use : a.gradients)
      if (use.group == tied.group) uses.emplace_back(plan.visits[static_cast<size_t>(a.visit)].unit, use.fresh);
  EXPECT_EQ(uses, (std::vector<std::pair<int, bool>>{{6, true}, {0, false}, {6, true}, {0, false}}));
}

TEST(Plan, GathersATiedWeightForEachUnitThatUsesIt) {
  const ModelLayout layout = layout_of(3, 2, true);
  PlanOptions options = plan_options(3, 2);
  options.max_live_parameters = 1;
  options.max_reuse_distance = 0;
  const Plan plan = make_plan(layout, first_order_visits(7, 1, 0, 0), options);
  replay(plan, layout);
  int count = 0;
  for (const Action& a : plan.actions) count += a.kind == ActionKind::Gather && a.group == layout.places[0][0].group;
  EXPECT_EQ(count, 2);
}

TEST(Plan, BucketsSliceLargeUnitsAndCoalesceSmallOnes) {
  const ModelLayout whole = layout_of(2, 2);
  PlanOptions options = plan_options(2, 2);
  const auto reductions = [&](const ModelLayout& layout) {
    const Plan plan = make_plan(layout, first_order_visits(7, 1, 0, 0), options);
    replay(plan, layout);
    std::vector<int64_t> sizes;
    for (const Action& a : plan.actions) {
      if (a.kind != ActionKind::Reduce) continue;
      int64_t n = 0;
      for (const CollectivePart& part : a.parts)
        for (int s = part.slice_begin; s < part.slice_end; ++s)
          n += layout.groups[static_cast<size_t>(part.group)].layout.slices()[static_cast<size_t>(s)].per_rank * 2;
      sizes.push_back(n);
    }
    return sizes;
  };
  EXPECT_EQ(reductions(whole).size(), 1U) << "all of this model is less than one message worth sending by itself";
  const int64_t block = whole.groups[static_cast<size_t>(whole.own[1][0])].full_elements();
  options.reduce_bucket = 2 * block;
  for (int64_t n : reductions(layout_of(2, 2, false, 2 * block))) EXPECT_LE(n, 2 * block);
  options.reduce_bucket = 320;
  const auto small = reductions(layout_of(2, 2, false, 320));
  EXPECT_GT(small.size(), 30U);
  for (int64_t n : small) EXPECT_LE(n, 320);
}

TEST(Plan, PersistentParametersAreGatheredOnceAfterTheUpdate) {
  LayoutOptions layout_options;
  layout_options.stage = 3;
  layout_options.shard_ranks = 2;
  layout_options.persistence_threshold = 48;
  const ModelLayout layout = ModelLayout::make(model(false), layout_options);
  int64_t persistent = 0;
  for (const FlatGroup& g : layout.groups) {
    bool small = true;
    for (int p : g.parameters) small &= layout.units[static_cast<size_t>(g.unit)].parameters[static_cast<size_t>(p)].num_elements() <= 48;
    EXPECT_EQ(g.persistent, small) << g.name;
    persistent += g.persistent ? g.full_elements() : 0;
  }
  ASSERT_GT(persistent, 0);
  const Plan plan = make_plan(layout, first_order_visits(7, 2, 0, 0), plan_options(3, 2));
  replay(plan, layout);
  int64_t updated = 0;
  for (const Action& a : plan.actions) updated += a.kind == ActionKind::GatherUpdated ? a.elements_gathered : 0;
  EXPECT_EQ(updated, persistent / 2);
  layout_options.model_persistence_threshold = 100;  // room for two of the 48-element biases only
  int64_t kept = 0;
  for (const FlatGroup& g : ModelLayout::make(model(false), layout_options).groups)
    if (g.persistent)
      for (int p : g.parameters) kept += model(false)[static_cast<size_t>(g.unit)].parameters[static_cast<size_t>(p)].num_elements();
  EXPECT_EQ(kept, 96);
}

TEST(Plan, FrozenParametersHaveNoGradientStateOrUpdate) {
  LayoutOptions layout_options;
  layout_options.stage = 3;
  layout_options.shard_ranks = 2;
  layout_options.trainable = {"h.4.*", "ln_f.weight"};
  const ModelLayout layout = ModelLayout::make(model(false), layout_options);
  const Plan plan = make_plan(layout, first_order_visits(7, 1, 0, 5), plan_options(3, 2));
  replay(plan, layout);
  for (const Action& a : plan.actions) {
    if (a.kind == ActionKind::Visit) {
      const Visit& visit = plan.visits[static_cast<size_t>(a.visit)];
      EXPECT_EQ(visit.kind == VisitKind::ForwardOnly, visit.unit < 5);
    }
    for (const GradientUse& use : a.gradients) EXPECT_TRUE(layout.groups[static_cast<size_t>(use.group)].trainable);
    EXPECT_TRUE(a.kind != ActionKind::Update || layout.groups[static_cast<size_t>(a.group)].trainable);
  }
  for (const PlannedBuffer& b : plan.buffers)
    EXPECT_FALSE(b.name.starts_with("gradients h.0") || b.name.starts_with("optimizer state h.0")) << b.name;
  layout_options.trainable = {"nothing.like.this"};
  EXPECT_THROW(ModelLayout::make(model(false), layout_options), InputError);
}

TEST(Plan, UpdatesComeInSubGroups) {
  const ModelLayout layout = layout_of(1, 2);
  PlanOptions options = plan_options(1, 2);
  options.sub_group = 100;
  const Plan plan = make_plan(layout, first_order_visits(7, 1, 0, 0), options);
  std::map<int, int64_t> updated;
  for (const Action& a : plan.actions) {
    if (a.kind != ActionKind::Update) continue;
    EXPECT_LE(a.end - a.begin, 100);
    EXPECT_EQ(a.begin, updated[a.group]);
    updated[a.group] = a.end;
  }
  for (const FlatGroup& g : layout.groups) EXPECT_EQ(updated[g.id], g.shard_elements());
}

TEST(Plan, ArenaBytesAreTheTensorsOfTheStage) {
  // fp32 AdamW: parameters 4, gradients 4, state 8 bytes an element, each whole or halved; rings on top, and the scalars:
  // two losses, a norm a group, two of the agreement.
  for (const int stage : {0, 1, 2, 3}) {
    const ModelLayout layout = layout_of(stage, 2);
    PlanOptions options = plan_options(stage, 2);
    options.max_live_parameters = 1;
    const Plan plan = make_plan(layout, first_order_visits(7, 1, 0, 0), options);
    int64_t rings = 0;
    for (const auto* list : {&plan.parameter_rings, &plan.gradient_rings})
      for (const RingPlan& ring : *list) rings += ring.num_slots * ring.slot_bytes;
    const int64_t bytes[] = {16, 12, 10, 8};
    EXPECT_EQ(plan.device_arena_bytes(),
              bytes[stage] * padded_elements(layout) + rings + round_up(8 * (2 + std::ssize(layout.groups) + 2), 64))
        << "stage " << stage;
    EXPECT_EQ(rings > 0, stage >= 2);
  }
}

}  // namespace
}  // namespace zerostep
