#include "runtime/strategy/zeroth_order.h"

#include <gtest/gtest.h>

#include <map>

#include "sharding/local_ranks.h"
#include "tests/runtime/support/zeroth_order_reference.h"

namespace zerostep::testing {
namespace {

using Estimator = StepConfig::Estimator;
using Perturbation = StepConfig::Perturbation;
using Mode = StepConfig::Mode;

struct MatrixCase {
  Mode mode;
  Estimator estimator;
  Perturbation perturbation;
  int stage, ranks;
};

ZerothOrderCase case_of(const MatrixCase& c) {
  ZerothOrderCase test = ZerothOrderCase::tiny(c.mode);
  test.config.step.estimator = c.estimator;
  test.config.step.perturbation = c.perturbation;
  if (c.mode == Mode::Calibrate) test.config.step.monitor_interval = 1;
  test.config.zero.stage = c.stage;
  test.config.zero.overlap_comm = c.stage == 3;
  return test;
}

std::string name_of_case(const ::testing::TestParamInfo<MatrixCase>& info) {
  return fmt::format("{}_stage{}_ranks{}", case_of(info.param).name(), info.param.stage, info.param.ranks);
}

// The plain loop knows neither stages nor ranks.
const ZerothOrderOutcome& reference_of(const ZerothOrderCase& test) {
  static std::map<std::string, ZerothOrderOutcome> known;
  const auto found = known.find(test.name());
  if (found != known.end()) return found->second;
  return known[test.name()] = run_zeroth_order_reference(test);
}

class ZerothOrderMatrix : public ::testing::TestWithParam<MatrixCase> {};

TEST_P(ZerothOrderMatrix, IsThePlainLoopAndMovesWhatThePlanSays) {
  const ZerothOrderCase test = case_of(GetParam());
  const ZerothOrderOutcome& reference = reference_of(test);
  const ZerothOrderOutcome engine = run_zeroth_order_threads(test, GetParam().ranks);
  expect_like(engine, reference, test);
  EXPECT_EQ(engine.last.elements_gathered, engine.planned_gathered);
  EXPECT_EQ(engine.last.elements_reduced, engine.planned_reduced);
  ASSERT_EQ(engine.cosines.size(), reference.cosines.size());
  for (size_t i = 0; i < engine.cosines.size(); ++i) EXPECT_NEAR(engine.cosines[i], reference.cosines[i], 1e-5);
  EXPECT_EQ(engine.cosines.size(), GetParam().mode == Mode::Calibrate ? 1u : 0u);
}

std::vector<MatrixCase> all_cases() {
  std::vector<MatrixCase> out;
  for (const int stage : {0, 2, 3})
    for (const int ranks : {1, 2, 4}) {
      for (const Estimator estimator : {Estimator::Central, Estimator::Forward})
        for (const Perturbation p : {Perturbation::Gaussian, Perturbation::Rademacher, Perturbation::LowRank})
          out.push_back({Mode::ZerothOrder, estimator, p, stage, ranks});
      out.push_back({Mode::Calibrate, Estimator::Central, Perturbation::Gaussian, stage, ranks});
      out.push_back({Mode::Alternating, Estimator::Central, Perturbation::Gaussian, stage, ranks});
    }
  return out;
}
INSTANTIATE_TEST_SUITE_P(All, ZerothOrderMatrix, ::testing::ValuesIn(all_cases()), name_of_case);

TEST(ZerothOrder, StagesChangeNoBitOnOneRank) {
  for (const Mode mode : {Mode::ZerothOrder, Mode::Calibrate, Mode::Alternating})
    for (const Perturbation perturbation : {Perturbation::Gaussian, Perturbation::Rademacher, Perturbation::LowRank})
      for (const DType type : {DType::F32, DType::BF16}) {
        MatrixCase c{mode, Estimator::Central, perturbation, 0, 1};
        ZerothOrderCase test = case_of(c);
        test.config.precision.compute = type;
        SCOPED_TRACE(test.name());
        const ZerothOrderOutcome first = run_zeroth_order_threads(test, 1);
        for (const int stage : {1, 2, 3}) {
          test.config.zero.stage = stage;
          expect_same(run_zeroth_order_threads(test, 1), first);
        }
      }
}

// Sums over samples are exact enough in fp64 that ranks, stages, buckets and slots leave the same scalars.
TEST(ZerothOrder, RanksAndLimitsChangeScalarsInTheLastDigitsOnly) {
  ZerothOrderCase test = ZerothOrderCase::tiny();
  const ZerothOrderOutcome one = run_zeroth_order_threads(test, 1);
  for (const int ranks : {2, 4})
    for (const int stage : {0, 1, 2, 3})
      for (const bool tight : {false, true}) {
        test.config.zero = {};
        test.config.zero.stage = stage;
        test.config.zero.overlap_comm = stage == 3 && tight;
        test.config.zero.stage3_param_persistence_threshold = tight ? 100 : 0;
        if (tight) test.config.zero.stage3_max_live_parameters = test.config.zero.sub_group_size = 500;
        if (tight) test.config.zero.allgather_bucket_size = 700;
        const ZerothOrderOutcome other = run_zeroth_order_threads(test, ranks);
        EXPECT_LT(relative_difference({other.scalars[0]}, {one.scalars[0]}), 1e-12);
        expect_like(other, one, test);
        EXPECT_EQ(other.last.elements_gathered, other.planned_gathered);
        EXPECT_EQ(other.last.elements_reduced, other.planned_reduced);
      }
}

// Many rows run on perturbed copies of a unit, few on tiles made with their products.
TEST(ZerothOrder, TilesAndCopiesProbeTheSameWeights) {
  for (const Estimator estimator : {Estimator::Central, Estimator::Forward})
    for (const Perturbation perturbation : {Perturbation::Gaussian, Perturbation::Rademacher}) {
      ZerothOrderCase test = ZerothOrderCase::tiny();
      test.config.step.estimator = estimator;
      test.config.step.perturbation = perturbation;
      test.sequence = test.config.step.query_sequence_length = test.config.data.sequence_length = 16;
      test.model.n_positions = 16;
      test.global_batch = 64;
      test.steps = 2;
      ZerothOrderOutcome outcomes[2];
      for (const bool copies : {false, true}) {
        test.config.step.query_batch = copies ? BatchConfig{64, 64, 1} : BatchConfig{64, 2, 32};
        const TrainingPlan plan = plan_training(test.config, *make_gpt2(test.model), *make_cross_entropy(), 1);
        for (const Visit& visit : plan.any_step().visits) {
          EXPECT_EQ(visit.tiled, !copies);
          EXPECT_EQ(visit.weight_copies, !copies ? 0 : estimator == Estimator::Central ? 2 : 1);
        }
        run_local_ranks(1, {}, [&](Communicator world) { outcomes[copies ? 1 : 0] = run_zeroth_order(test, world); });
      }
      expect_like(outcomes[0], outcomes[1], test);
    }
}

// A micro-batch of another size changes the order of sums in the products.
TEST(ZerothOrder, TheSplitIntoMicroBatchesChangesScalarsByRounding) {
  ZerothOrderCase test = ZerothOrderCase::tiny();
  const ZerothOrderOutcome split = run_zeroth_order_threads(test, 1);
  test.config.step.query_batch = {8, 8, 1};
  ZerothOrderOutcome joined;
  run_local_ranks(1, {}, [&](Communicator world) { joined = run_zeroth_order(test, world); });
  EXPECT_NEAR(joined.losses[0].value() / split.losses[0].value(), 1, 1e-6);
  EXPECT_LT(relative_difference({joined.scalars[0]}, {split.scalars[0]}), 5e-4);
}

}  // namespace
}  // namespace zerostep::testing
