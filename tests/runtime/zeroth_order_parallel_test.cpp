#include <gtest/gtest.h>

#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep::testing {
namespace {

using Estimator = StepConfig::Estimator;
using Perturbation = StepConfig::Perturbation;

ZerothOrderCase case_of(int64_t queries, Perturbation perturbation = Perturbation::Gaussian) {
  ZerothOrderCase test = ZerothOrderCase::tiny();
  test.config.zero.stage = 3;
  test.config.step.queries = queries;
  test.config.step.perturbation = perturbation;
  return test;
}

TEST(ZerothOrderParallel, QueriesPerPassChangeNoBit) {
  for (const Perturbation perturbation : {Perturbation::Gaussian, Perturbation::Rademacher})
    for (const DType type : {DType::F32, DType::BF16})
      for (const bool independent : {false, true})
        for (const int ranks : {1, 2}) {
          ZerothOrderCase test = case_of(4, perturbation);
          test.config.precision.compute = type;
          test.config.step.independent_data = independent;
          test.config.step.queries_per_pass = 1;
          const ZerothOrderOutcome one = run_zeroth_order_threads(test, ranks);
          for (const int64_t per_pass : {2, 3, 4}) {
            test.config.step.queries_per_pass = per_pass;
            expect_same(run_zeroth_order_threads(test, ranks), one);
          }
        }
}

TEST(ZerothOrderParallel, QueriesPerPassLeaveOneSidedAndLowRankScalarsToRounding) {
  for (const Estimator estimator : {Estimator::Central, Estimator::Forward})
    for (const Perturbation perturbation : {Perturbation::Gaussian, Perturbation::LowRank}) {
      ZerothOrderCase test = case_of(4, perturbation);
      test.config.step.estimator = estimator;
      test.config.step.queries_per_pass = 1;
      const ZerothOrderOutcome one = run_zeroth_order_threads(test, 2);
      for (const int64_t per_pass : {2, 4}) {
        test.config.step.queries_per_pass = per_pass;
        expect_like(run_zeroth_order_threads(test, 2), one, test);
      }
    }
}

struct ParallelCase {
  int ranks;
  int64_t queries, groups;
};

TEST(ZerothOrderParallel, GroupsOfRanksShareTheDirectionsOut) {
  const ParallelCase cases[] = {{2, 4, 2}, {2, 1, 2}, {4, 4, 2}, {4, 4, 4}, {4, 2, 2}, {4, 2, 4}, {4, 1, 2}, {8, 4, 4}, {8, 4, 8}};
  for (const ParallelCase& c : cases)
    for (const int stage : {0, 2, 3})
      for (const bool independent : {false, true}) {
        ZerothOrderCase test = case_of(c.queries);
        test.config.zero.stage = stage;
        test.config.step.independent_data = independent;
        test.steps = 2;
        SCOPED_TRACE(fmt::format("{} ranks, {} queries, {} groups, stage {}", c.ranks, c.queries, c.groups, stage));
        ZerothOrderCase grouped = test;
        grouped.config.step.direction_parallel = c.groups;
        const ZerothOrderOutcome together = run_zeroth_order_threads(test, std::min(c.ranks, 4));
        const ZerothOrderOutcome apart = run_zeroth_order_threads(grouped, c.ranks);
        EXPECT_LT(relative_difference({apart.scalars[0]}, {together.scalars[0]}), 1e-12);
        expect_like(apart, together, test);
        EXPECT_EQ(apart.last.elements_gathered, apart.planned_gathered);
        EXPECT_EQ(apart.last.elements_reduced, apart.planned_reduced);
      }
}

TEST(ZerothOrderParallel, GroupsShareOneSidedDifferencesOut) {
  for (const int64_t groups : {2, 4})
    for (const bool independent : {false, true}) {
      ZerothOrderCase test = case_of(4);
      test.config.step.estimator = Estimator::Forward;
      test.config.step.independent_data = independent;
      const ZerothOrderOutcome together = run_zeroth_order_threads(test, 4);
      test.config.step.direction_parallel = groups;
      const ZerothOrderOutcome apart = run_zeroth_order_threads(test, 4);
      EXPECT_LT(relative_difference({apart.scalars[0]}, {together.scalars[0]}), 1e-12);
      expect_like(apart, together, test);
    }
}

}  // namespace
}  // namespace zerostep::testing
