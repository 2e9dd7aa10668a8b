#include <gtest/gtest.h>

#include "runtime/strategy/zeroth_order.h"
#include "tests/runtime/support/zeroth_order_reference.h"

namespace zerostep::testing {
namespace {

using Estimator = StepConfig::Estimator;
using Mode = StepConfig::Mode;
using Optimizer = OptimizerConfig::Type;
using Kind = StepConfig::Transform::Kind;

// Unsharded on one rank, and sharded over two.
void expect_plain_loop(ZerothOrderCase test, const Tolerance& tolerance = {}) {
  const ZerothOrderOutcome reference = run_zeroth_order_reference(test);
  for (const int ranks : {1, 2}) {
    test.config.zero.stage = ranks == 1 ? 0 : 3;
    SCOPED_TRACE(fmt::format("{} on {} ranks", test.name(), ranks));
    expect_like(run_zeroth_order_threads(test, ranks), reference, test, tolerance);
  }
}

struct OptimizerCase {
  Optimizer type;
  const char* name;
  double lr, momentum;
  bool nesterov;
};
constexpr OptimizerCase kOptimizers[] = {{Optimizer::AdamW, "AdamW", 1e-2, 0, false},
                                         {Optimizer::SGD, "SGD", 1e-3, 0, false},
                                         {Optimizer::SGD, "SGD", 1e-3, 0.9, false},
                                         {Optimizer::SGD, "SGD", 1e-3, 0.9, true},
                                         {Optimizer::Lion, "Lion", 1e-3, 0, false}};

ZerothOrderCase case_of(const OptimizerCase& c, DType type, Mode mode = Mode::ZerothOrder) {
  ZerothOrderCase test = ZerothOrderCase::tiny(mode);
  test.config.optimizer.type = c.type;
  test.config.optimizer.type_name = c.name;
  test.config.optimizer.lr = c.lr;
  test.config.optimizer.momentum = c.momentum;
  test.config.optimizer.nesterov = c.nesterov;
  test.config.precision.compute = type;
  return test;
}

Tolerance tolerance_of(const OptimizerCase& c, Tolerance tolerance) {
  if (c.type == Optimizer::Lion) tolerance.parameters = sign_tolerance(tolerance.scalars);
  return tolerance;
}

TEST(ZerothOrderOptions, EveryOptimizerIsItsFormulaOnTheEstimate) {
  for (const OptimizerCase& c : kOptimizers) expect_plain_loop(case_of(c, DType::F32), tolerance_of(c, {}));
}

// Masters in fp32, perturbed in fp32 and then cast. A last bit of a master may fall on the other side of a 16-bit rounding.
TEST(ZerothOrderOptions, SixteenBitCopiesAreCastFromPerturbedMasters) {
  for (const DType type : {DType::BF16, DType::F16})
    for (const OptimizerCase& c : kOptimizers) {
      ZerothOrderCase test = case_of(c, type);
      test.config.step.epsilon = 1e-2;
      expect_plain_loop(test, tolerance_of(c, {.loss = 1e-5, .scalars = 2e-3, .parameters = 5e-3}));
    }
}

TEST(ZerothOrderOptions, AlternatingHasOneStateOrTwoAndALearningRateOfItsOwn) {
  for (const OptimizerCase& c : kOptimizers)
    for (const bool separate : {false, true}) {
      // Gradients of the keys' biases are zero but for rounding, and Lion takes their signs.
      if (c.type == Optimizer::Lion) continue;
      ZerothOrderCase test = case_of(c, DType::F32, Mode::Alternating);
      test.steps = 5;
      test.config.step.zo_steps = 2;
      test.config.step.separate_state = separate;
      test.config.step.bp_lr = 3 * c.lr;
      expect_plain_loop(test);
    }
}

TEST(ZerothOrderOptions, StatesDifferWhereTheyAreSeparate) {
  ZerothOrderCase test = ZerothOrderCase::tiny(Mode::Alternating);
  const ZerothOrderOutcome shared = run_zeroth_order_threads(test, 1);
  test.config.step.separate_state = true;
  const ZerothOrderOutcome separate = run_zeroth_order_threads(test, 1);
  EXPECT_EQ(separate.losses[0], shared.losses[0]);
  EXPECT_GT(relative_difference(separate.parameters, shared.parameters, first_values(test)), 0.1);
  EXPECT_GT(separate.planned_peak, shared.planned_peak);
}

TEST(ZerothOrderOptions, CalibrateTakesTheGradientAtItsIntervals) {
  for (const int64_t interval : {1, 2, 3}) {
    ZerothOrderCase test = ZerothOrderCase::tiny(Mode::Calibrate);
    test.config.step.bp_interval = interval;
    test.steps = 4;
    const ZerothOrderOutcome engine = run_zeroth_order_threads(test, 1);
    for (int64_t step = 0; step < test.steps; ++step)
      EXPECT_EQ(engine.scalars[static_cast<size_t>(step)].empty(), (step + 1) % interval == 0) << interval << " " << step;
    expect_plain_loop(test);
  }
}

// Bit for bit: the same plan of visits, the same products.
TEST(ZerothOrderOptions, MixturesAreZerothOrderUntilTheirFirstGradient) {
  for (const auto perturbation :
       {StepConfig::Perturbation::Gaussian, StepConfig::Perturbation::Rademacher, StepConfig::Perturbation::LowRank})
    for (const int ranks : {1, 2}) {
      ZerothOrderCase test = ZerothOrderCase::tiny();
      test.config.step.perturbation = perturbation;
      test.config.step.queries = 2;
      test.config.zero.stage = ranks == 2 ? 3 : 0;
      test.steps = 3;
      const ZerothOrderOutcome alone = run_zeroth_order_threads(test, ranks);
      test.config.step.bp_interval = 4;
      for (const Mode mode : {Mode::Calibrate, Mode::Instruct}) {
        test.config.step.mode = mode;
        const ZerothOrderOutcome mixture = run_zeroth_order_threads(test, ranks);
        EXPECT_EQ(mixture.scalars, alone.scalars) << ranks;
        EXPECT_EQ(mixture.losses, alone.losses) << ranks;
        EXPECT_EQ(mixture.parameters, alone.parameters) << ranks;
      }
    }
}

TEST(ZerothOrderOptions, TheExactNormIsThatOfTheEstimate) {
  for (const auto perturbation : {StepConfig::Perturbation::Gaussian, StepConfig::Perturbation::LowRank}) {
    ZerothOrderCase test = ZerothOrderCase::tiny();
    test.config.step.perturbation = perturbation;
    test.config.step.queries = 3;
    test.config.gradient_clipping = 0.5;
    const double expected = run_zeroth_order_threads(test, 1).norms[0];
    test.config.step.exact_norm = true;
    expect_plain_loop(test);
    EXPECT_GT(std::abs(run_zeroth_order_threads(test, 1).norms[0] / expected - 1), 1e-3);
    test.config.zero.stage = 3;
    const ZerothOrderOutcome sharded = run_zeroth_order_threads(test, 4);
    EXPECT_EQ(sharded.last.elements_reduced, sharded.planned_reduced);
  }
}

TEST(ZerothOrderOptions, EachDirectionMayHaveItsOwnBatch) {
  for (const Estimator estimator : {Estimator::Central, Estimator::Forward})
    for (const int64_t per_pass : {int64_t{1}, int64_t{2}, int64_t{3}}) {
      ZerothOrderCase test = ZerothOrderCase::tiny();
      test.config.step.estimator = estimator;
      test.config.step.independent_data = true;
      test.config.step.queries = 3;
      test.config.step.queries_per_pass = per_pass;
      expect_plain_loop(test);
      test.config.step.scope = {"transformer.h.2.*"};
      expect_plain_loop(test);
    }
}

TEST(ZerothOrderOptions, ScopesLimitWhatIsPerturbedAndTrained) {
  const std::vector<std::vector<std::string>> scopes = {{"reduced"},
                                                        {"transformer.h.2.*"},
                                                        {"transformer.h.1.attn.c_attn.bias", "transformer.ln_f.*"},
                                                        {"transformer.wpe.weight"},
                                                        {"transformer.wte.weight"}};
  for (const auto& scope : scopes)
    for (const bool tied : {true, false})
      for (const Mode mode : {Mode::ZerothOrder, Mode::Calibrate, Mode::Alternating}) {
        // Linear in the estimate: no sign of an entry near zero decides.
        ZerothOrderCase test = case_of(kOptimizers[2], DType::F32, mode);
        test.config.step.scope = scope;
        test.config.gradient_clipping = 0;
        test.model.tie_word_embeddings = tied;
        SCOPED_TRACE(scope[0] + (tied ? " tied" : " untied"));
        // A scope of few parameters has small projected gradients, in which the same rounding of the losses weighs more.
        expect_plain_loop(test, {.scalars = 4e-3, .parameters = 3e-3});
        const ZerothOrderOutcome engine = run_zeroth_order_threads(test, 1);
        const auto first = first_values(test);
        size_t moved = 0;
        for (size_t p = 0; p < first.size(); ++p) moved += engine.parameters[p] != first[p] ? 1 : 0;
        const size_t expected[] = {9, 12, 3, 1, 1};
        EXPECT_EQ(moved, expected[&scope - scopes.data()]);
      }
}

TEST(ZerothOrderOptions, FrozenParametersAndScopesNarrowEachOther) {
  ZerothOrderCase test = ZerothOrderCase::tiny();
  test.config.model.trainable = {"transformer.h.*"};
  test.config.step.scope = {"*.bias"};
  ZerothOrderCase both = ZerothOrderCase::tiny();
  both.config.step.scope = {"transformer.h.*.bias"};
  expect_same(run_zeroth_order_threads(test, 2), run_zeroth_order_threads(both, 2));
}

TEST(ZerothOrderOptions, SixteenBitScopesLeaveTheRestInSixteenBits) {
  ZerothOrderCase test = ZerothOrderCase::tiny();
  test.config.precision.compute = DType::BF16;
  test.config.step.scope = {"reduced"};
  test.config.step.epsilon = 1e-2;
  expect_plain_loop(test, {.loss = 1e-5, .scalars = 2e-3, .parameters = 5e-3});
}

TEST(ZerothOrderOptions, TransformsChangeTheUpdateAndNotTheScalars) {
  for (const Kind kind : {Kind::None, Kind::Clip, Kind::Normalise, Kind::LeaveOneOut}) {
    ZerothOrderCase test = ZerothOrderCase::tiny();
    test.config.step.queries = 4;
    test.config.step.transform = {kind, 0.8};
    if (kind == Kind::LeaveOneOut) test.config.step.estimator = Estimator::Forward;
    expect_plain_loop(test);
    ZerothOrderCase plain = test;
    plain.config.step.transform = {};
    const ZerothOrderOutcome with = run_zeroth_order_threads(test, 1), without = run_zeroth_order_threads(plain, 1);
    EXPECT_EQ(with.scalars[0], without.scalars[0]);
    EXPECT_EQ(with.parameters == without.parameters, kind == Kind::None);
  }
}

TEST(ZerothOrderOptions, LowRankFactorsLiveAsLongAsTheirRefresh) {
  for (const int64_t refresh : {1, 2, 50})
    for (const int64_t rank : {1, 3}) {
      ZerothOrderCase test = ZerothOrderCase::tiny();
      test.config.step.perturbation = StepConfig::Perturbation::LowRank;
      test.config.step.refresh = refresh;
      test.config.step.rank = rank;
      // The first step of AdamW is the estimate's sign, as Lion's is.
      expect_plain_loop(test, {.parameters = sign_tolerance(Tolerance().scalars)});
    }
}

}  // namespace
}  // namespace zerostep::testing
