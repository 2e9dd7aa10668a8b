#include <gtest/gtest.h>

#include "runtime/engine/training_cost.h"
#include "runtime/strategy/make_strategy.h"
#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep::testing {
namespace {

using Estimator = StepConfig::Estimator;
using Perturbation = StepConfig::Perturbation;
using Mode = StepConfig::Mode;

struct Planned {
  std::unique_ptr<ModelDefinition> model;
  std::unique_ptr<Objective> objective;
  TrainingPlan plan;
  PlanCost cost;
};

Planned plan_of(ZerothOrderCase test, int ranks) {
  test.share_over(ranks);
  Planned out{make_gpt2(test.model), make_cross_entropy(), {}, {}};
  out.plan = plan_training(test.config, *out.model, *out.objective, ranks);
  out.cost = training_cost(test.config, out.plan, *out.model, *out.objective);
  return out;
}

// Elements that one rank sends in an all-gather of everything that the units use, each use by itself.
int64_t gathered_once(const ModelLayout& layout, int ranks) {
  int64_t elements = 0;
  for (int u = 0; u < static_cast<int>(layout.units.size()); ++u)
    for (const int g : layout.used_by(u)) elements += layout.groups[static_cast<size_t>(g)].full_elements() / ranks * (ranks - 1);
  return elements;
}

ZerothOrderCase one_live_unit(int stage) {
  ZerothOrderCase test = ZerothOrderCase::tiny();
  test.config.zero.stage = stage;
  test.config.zero.stage3_max_live_parameters = 1;
  test.config.zero.stage3_max_reuse_distance = 0;
  test.config.step.queries = 4;
  return test;
}

TEST(ZerothOrderPlan, StageThreeGathersEachUnitOnceAPass) {
  for (const int ranks : {2, 4})
    for (const int64_t per_pass : {1, 2, 3, 4}) {
      ZerothOrderCase test = one_live_unit(3);
      test.config.step.queries_per_pass = per_pass;
      const int64_t passes = (4 + per_pass - 1) / per_pass;
      const ZerothOrderOutcome engine = run_zeroth_order_threads(test, ranks);
      const ModelLayout layout = plan_of(test, ranks).plan.layout;
      // The tied matrix stays from the head of one pass to the embedding of the next.
      int64_t tied = 0;
      for (const FlatGroup& g : layout.groups) tied += g.borrowers.empty() ? 0 : g.full_elements() / ranks * (ranks - 1);
      EXPECT_GT(tied, 0);
      EXPECT_EQ(engine.last.elements_gathered, passes * gathered_once(layout, ranks) - (passes - 1) * tied);
      EXPECT_EQ(engine.last.elements_reduced, (ranks - 1) * (3 * 4 + 5));
    }
}

TEST(ZerothOrderPlan, LowerStagesMoveScalarsAndUpdatedParameters) {
  for (const int ranks : {2, 4})
    for (const int stage : {0, 1, 2}) {
      const ZerothOrderCase test = one_live_unit(stage);
      const ZerothOrderOutcome engine = run_zeroth_order_threads(test, ranks);
      int64_t padded = 0;
      for (const FlatGroup& g : plan_of(test, ranks).plan.layout.groups) padded += g.full_elements();
      // 3 q sums in fp64, and the five maxima of every step: memory, the wish to stop, resident memory, load and memory of a GPU.
      EXPECT_EQ(engine.last.elements_reduced, (ranks - 1) * (3 * 4 + 5));
      EXPECT_EQ(engine.last.elements_gathered, stage == 0 ? 0 : padded / ranks * (ranks - 1));
    }
}

TEST(ZerothOrderPlan, FrozenParametersHaveNoStateAndNoTrafficButTheGather) {
  ZerothOrderCase test = one_live_unit(3);
  test.config.step.queries_per_pass = 2;
  const ZerothOrderOutcome all = run_zeroth_order_threads(test, 2);
  test.config.step.scope = {"transformer.h.2.*"};
  const ZerothOrderOutcome some = run_zeroth_order_threads(test, 2);
  EXPECT_EQ(some.last.elements_gathered, some.planned_gathered);
  EXPECT_LE(some.last.elements_gathered, all.last.elements_gathered);
  test.config.zero.stage = 2;
  int64_t trained = 0;
  for (const FlatGroup& g : plan_of(test, 2).plan.layout.groups) trained += g.trainable ? g.full_elements() : 0;
  EXPECT_EQ(run_zeroth_order_threads(test, 2).last.elements_gathered, trained / 2);
  for (const FlatGroup& g : plan_of(test, 2).plan.layout.groups)
    for (const PlannedBuffer& b : plan_of(test, 2).plan.any_step().buffers)
      if (!g.trainable) {
        EXPECT_NE(b.name, "optimizer state " + g.name);
      }
}

// (unit, branches, copies) of each visit.
// Unit, branches, and how many forms of its weights a visit makes at a time.
std::vector<std::array<int, 3>> visits_of(const Plan& plan) {
  std::vector<std::array<int, 3>> out;
  for (const Visit& v : plan.visits) {
    EXPECT_EQ(v.kind, VisitKind::ForwardOnly);
    EXPECT_TRUE(!v.tiled || v.weight_copies == 0);
    out.push_back({v.unit, v.branches, v.tiled ? v.branches_together : v.weight_copies});
  }
  return out;
}

TEST(ZerothOrderPlan, WhatComesBeforeTheFirstPerturbedUnitIsComputedOnce) {
  using Visits = std::vector<std::array<int, 3>>;
  ZerothOrderCase test = ZerothOrderCase::tiny();
  test.config.step.queries = 3;
  test.config.step.scope = {"transformer.h.2.*"};
  test.config.step.queries_per_pass = 1;
  EXPECT_EQ(visits_of(plan_of(test, 1).plan.any_step()),
            (Visits{{0, 1, 0}, {1, 1, 0}, {2, 1, 0}, {3, 2, 2}, {4, 2, 0}, {3, 2, 2}, {4, 2, 0}, {3, 2, 2}, {4, 2, 0}}));
  test.config.step.queries_per_pass = 2;
  EXPECT_EQ(visits_of(plan_of(test, 1).plan.any_step()),
            (Visits{{0, 1, 0}, {1, 1, 0}, {2, 1, 0}, {3, 4, 2}, {4, 4, 0}, {3, 2, 2}, {4, 2, 0}}));
  test.config.step.queries_per_pass = 3;
  EXPECT_EQ(visits_of(plan_of(test, 1).plan.any_step()), (Visits{{0, 1, 0}, {1, 1, 0}, {2, 1, 0}, {3, 6, 2}, {4, 6, 0}}));
  // With a batch of its own each direction needs the first units' outputs on it.
  test.config.step.independent_data = true;
  EXPECT_EQ(visits_of(plan_of(test, 1).plan.any_step()), (Visits{{0, 3, 0}, {1, 3, 0}, {2, 3, 0}, {3, 6, 2}, {4, 6, 0}}));
  test.config.step.queries_per_pass = 2;
  EXPECT_EQ(visits_of(plan_of(test, 1).plan.any_step()),
            (Visits{{0, 2, 0}, {1, 2, 0}, {2, 2, 0}, {3, 4, 2}, {4, 4, 0}, {0, 1, 0}, {1, 1, 0}, {2, 1, 0}, {3, 2, 2}, {4, 2, 0}}));
  // One-sided: the unperturbed branch runs once a step, or once a direction with a batch of its own.
  test.config.step.estimator = Estimator::Forward;
  EXPECT_EQ(visits_of(plan_of(test, 1).plan.any_step()),
            (Visits{{0, 2, 0}, {1, 2, 0}, {2, 2, 0}, {3, 4, 1}, {4, 4, 0}, {0, 1, 0}, {1, 1, 0}, {2, 1, 0}, {3, 2, 1}, {4, 2, 0}}));
  test.config.step.independent_data = false;
  EXPECT_EQ(visits_of(plan_of(test, 1).plan.any_step()),
            (Visits{{0, 1, 0}, {1, 1, 0}, {2, 1, 0}, {3, 3, 1}, {4, 3, 0}, {3, 1, 1}, {4, 1, 0}}));
  // A tied head is perturbed with the embedding.
  test.config.step.scope = {"full"};
  test.config.step.estimator = Estimator::Central;
  test.config.step.queries_per_pass = 3;
  EXPECT_EQ(visits_of(plan_of(test, 1).plan.any_step()), (Visits{{0, 6, 2}, {1, 6, 2}, {2, 6, 2}, {3, 6, 2}, {4, 6, 2}}));
}

TEST(ZerothOrderPlan, QueriesPerPassAreChosenByMemoryAndRecorded) {
  ZerothOrderCase test = one_live_unit(3);
  test.config.step.queries = 8;
  const auto peak_at = [&](int64_t per_pass) {
    ZerothOrderCase given = test;
    given.config.step.queries_per_pass = per_pass;
    EXPECT_EQ(plan_of(given, 2).plan.queries_per_pass, per_pass);
    return plan_of(given, 2).cost.device_peak_bytes;
  };
  // The least limit of which nine tenths hold the peak: the tenth is left to the libraries.
  const auto limit_for = [](int64_t peak) { return (10 * peak + 8) / 9; };
  for (const int64_t per_pass : {1, 2, 4, 8}) {
    test.config.run.device_memory = limit_for(peak_at(per_pass));
    EXPECT_EQ(plan_of(test, 2).plan.queries_per_pass, per_pass);
    EXPECT_EQ(run_zeroth_order_threads(test, 2).queries_per_pass, per_pass);
  }
  test.config.run.device_memory = limit_for(peak_at(4)) - 1;
  EXPECT_EQ(plan_of(test, 2).plan.queries_per_pass, 2);
  // Where nothing is gathered more at a time save nothing.
  test.config.run.device_memory = 0;
  EXPECT_EQ(plan_of(test, 1).plan.queries_per_pass, 1);
  test.config.zero.stage = 2;
  EXPECT_EQ(plan_of(test, 2).plan.queries_per_pass, 1);
}

TEST(ZerothOrderPlan, TheSharesOfTheRanksCoverEveryQueryOnce) {
  StepConfig step;
  step.queries = 4;
  for (const auto& [groups, world] : {std::pair{1, 4}, {2, 4}, {4, 4}, {4, 8}, {8, 8}, {8, 16}}) {
    step.direction_parallel = groups;
    std::map<std::tuple<int64_t, bool, int>, int> seen;  // direction, sign, part of the samples
    for (int rank = 0; rank < world; ++rank) {
      const QueryShare share = query_share(step, rank, world);
      EXPECT_EQ(share.data_ranks, world / groups);
      for (int64_t d = share.first_direction; d < share.first_direction + share.num_directions; ++d) {
        if (share.plus) ++seen[{d, true, share.data_rank}];
        if (share.minus) ++seen[{d, false, share.data_rank}];
      }
    }
    EXPECT_EQ(seen.size(), static_cast<size_t>(4 * 2 * world / groups));
    for (const auto& [what, times] : seen) EXPECT_EQ(times, 1);
  }
}

TEST(ZerothOrderPlan, PlannedPeaksAreMeasuredPeaks) {
  for (const Mode mode : {Mode::ZerothOrder, Mode::Calibrate, Mode::Alternating})
    for (const int stage : {0, 2, 3})
      for (const DType type : {DType::F32, DType::BF16})
        for (const Estimator estimator : {Estimator::Central, Estimator::Forward}) {
          ZerothOrderCase test = one_live_unit(stage);
          StepConfig step = ZerothOrderCase::tiny(mode).config.step;
          step.estimator = estimator;
          step.queries = 3;
          step.queries_per_pass = 2;
          test.config.step = step;
          test.model = {.n_layer = 4,
                        .n_embd = 64,
                        .n_head = 4,
                        .n_positions = 32,
                        .vocab_size = 301,
                        .resid_pdrop = 0,
                        .embd_pdrop = 0,
                        .attn_pdrop = 0};
          test.sequence = test.config.step.query_sequence_length = test.config.data.sequence_length = 32;
          test.config.precision.compute = type;
          test.steps = 2;
          const ZerothOrderOutcome engine = run_zeroth_order_threads(test, 2);
          EXPECT_NEAR(static_cast<double>(engine.planned_peak) / static_cast<double>(engine.measured_peak), 1, 0.03)
              << test.name() << " stage " << stage << ": planned " << engine.planned_peak << ", measured " << engine.measured_peak;
        }
}

TEST(ZerothOrderPlan, PeaksOfRestrictedAndIndependentQueriesAreMeasuredPeaks) {
  for (const bool independent : {false, true})
    for (const bool masters : {true, false})
      for (const Perturbation perturbation : {Perturbation::Gaussian, Perturbation::LowRank}) {
        ZerothOrderCase test = one_live_unit(3);
        test.model = {.n_layer = 4,
                      .n_embd = 64,
                      .n_head = 4,
                      .n_positions = 32,
                      .vocab_size = 301,
                      .resid_pdrop = 0,
                      .embd_pdrop = 0,
                      .attn_pdrop = 0};
        test.sequence = test.config.step.query_sequence_length = test.config.data.sequence_length = 32;
        test.config.step.independent_data = independent;
        test.config.step.queries_per_pass = 2;
        test.config.step.perturbation = perturbation;
        test.config.step.masters = masters;
        if (!masters) test.config.precision.compute = DType::BF16;
        if (masters) test.config.step.scope = {"reduced"};
        test.steps = 2;
        const ZerothOrderOutcome engine = run_zeroth_order_threads(test, 2);
        EXPECT_NEAR(static_cast<double>(engine.planned_peak) / static_cast<double>(engine.measured_peak), 1, 0.03)
            << test.name() << (independent ? " independent" : "") << (masters ? " reduced" : " without masters") << ": planned "
            << engine.planned_peak << ", measured " << engine.measured_peak;
      }
}

}  // namespace
}  // namespace zerostep::testing
