#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "offload/host_optimizer.h"
#include "runtime/strategy/zeroth_order.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/zeroth_order_reference.h"

namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;
using Optimizer = OptimizerConfig::Type;

ZerothOrderCase sgd(double lr) {
  ZerothOrderCase test = ZerothOrderCase::tiny();
  test.config.optimizer.type = Optimizer::SGD;
  test.config.optimizer.type_name = "SGD";
  test.config.optimizer.lr = lr;
  test.config.optimizer.weight_decay = 0;
  return test;
}

ZerothOrderCase without_masters(ZerothOrderCase test, DType type) {
  test.config.precision.compute = type;
  test.config.step.masters = false;
  return test;
}

std::vector<std::vector<float>> before_the_first_step(ZerothOrderCase test) {
  test.steps = 0;
  return run_zeroth_order_threads(test, 1).parameters;
}

TEST(ZerothOrderUpdate, ALearningRateOfZeroLeavesEveryBit) {
  for (const Optimizer optimizer : {Optimizer::AdamW, Optimizer::SGD, Optimizer::Lion})
    for (const DType type : {DType::F32, DType::BF16, DType::F16})
      for (const bool masters : {true, false}) {
        if (!masters && type == DType::F32) continue;
        ZerothOrderCase test = ZerothOrderCase::tiny();
        test.config.optimizer.type = optimizer;
        test.config.optimizer.lr = 0;
        test.config.optimizer.weight_decay = 0.1;
        test.config.precision.compute = type;
        test.config.step.masters = masters;
        test.config.step.queries = 1;
        test.global_batch = 2;
        test.steps = optimizer == Optimizer::AdamW ? 200 : 20;
        EXPECT_EQ(run_zeroth_order_threads(test, 1).parameters, before_the_first_step(test))
            << test.name() << (masters ? "" : " without masters");
      }
}

TEST(ZerothOrderUpdate, AThousandProbesLeaveEveryBit) {
  ZerothOrderCase test = sgd(0);
  test.model.n_layer = 1;
  test.global_batch = 2;
  test.config.step.queries = 1;
  test.steps = 1000;
  EXPECT_EQ(run_zeroth_order_threads(test, 1).parameters, first_values(test));
}

// Updates much smaller than the distance of two 16-bit numbers: rounding to the nearest would leave the weights where they are.
TEST(ZerothOrderUpdate, WithoutMastersTinyUpdatesMoveTheMeanAsInFp32) {
  for (const DType type : {DType::BF16, DType::F16}) {
    ZerothOrderCase exact = sgd(type == DType::BF16 ? 1e-6 : 2e-7);
    exact.config.gradient_clipping = 0;
    const ZerothOrderCase rounded = without_masters(exact, type);
    const auto model = make_gpt2(exact.model);
    const auto objective = make_cross_entropy();
    const auto after = [&](const ZerothOrderCase& test, int64_t steps) {
      std::vector<std::vector<float>> values;
      run_local_ranks(1, {}, [&](Communicator one) {
        // Both begin at 16-bit numbers.
        const auto initial = [&](const ParameterInfo& info, int64_t begin, int64_t count, float* out) {
          initial_values(info, 7, begin, count, out);
          std::vector<uint16_t> halves(static_cast<size_t>(count));
          cast_from_fp32(out, halves.data(), type, count);
          cast_to_fp32(halves.data(), type, out, count);
        };
        Engine engine(test.config, *model, *objective, plan_training(test.config, *model, *objective, 1), initial, one);
        for (int64_t step = 0; step < steps; ++step) engine.replay({step, test.config.optimizer.lr, 1, {1.0, -0.5}, false});
        for (size_t u = 0; u < model->units().size(); ++u)
          for (size_t p = 0; p < model->units()[u].parameters.size(); ++p)
            if (model->units()[u].parameters[p].shape.size() == 2)
              engine.read_parameter(static_cast<int>(u), static_cast<int>(p), values.emplace_back());
      });
      return values;
    };
    const auto first = after(exact, 0), in_fp32 = after(exact, 400), in_16bit = after(rounded, 400);
    EXPECT_EQ(after(rounded, 0), first);
    // The slope of the 16-bit displacement on the exact one: 1 where unbiased.
    double product = 0, squares = 0, noise = 0, steps = 0, n = 0;
    for (size_t p = 0; p < first.size(); ++p)
      for (size_t i = 0; i < first[p].size(); ++i) {
        const double d = static_cast<double>(in_fp32[p][i]) - static_cast<double>(first[p][i]);
        const double difference = static_cast<double>(in_16bit[p][i]) - static_cast<double>(in_fp32[p][i]);
        const double spacing =
            std::exp2(std::floor(std::log2(std::abs(static_cast<double>(first[p][i])) + 1e-30)) - (type == DType::BF16 ? 7 : 10));
        product += d * difference;
        squares += d * d;
        noise += d * d * difference * difference;
        steps += spacing > 4 * exact.config.optimizer.lr ? 1 : 0;
        n += 1;
      }
    EXPECT_GT(steps / n, 0.9);  // an update is less than half the distance of two 16-bit numbers: to the nearest, nothing moves
    const double sigma = std::sqrt(noise) / squares;
    EXPECT_LT(sigma, 0.15);  // else the test could not tell 1 from 0
    EXPECT_LT(std::abs(product / squares), 5 * sigma) << name_of(type);
  }
}

TEST(ZerothOrderUpdate, StochasticRoundingIsAFunctionOfSeedStepAndElement) {
  for (const DType type : {DType::BF16, DType::F16}) {
    ZerothOrderCase test = without_masters(ZerothOrderCase::tiny(), type);
    test.config.step.epsilon = 1e-2;
    const ZerothOrderOutcome first = run_zeroth_order_threads(test, 1);
    expect_same(run_zeroth_order_threads(test, 1), first);
    // Where scalars agree so do the rounded weights, whoever holds them.
    for (const int ranks : {1, 2, 4})
      for (const int stage : {0, 2, 3}) {
        ZerothOrderCase one_step = test;
        one_step.steps = 1;
        const ZerothOrderOutcome one = run_zeroth_order_threads(one_step, 1);
        one_step.config.zero.stage = stage;
        const ZerothOrderOutcome other = run_zeroth_order_threads(one_step, ranks);
        ASSERT_EQ(other.scalars, one.scalars);
        EXPECT_EQ(other.parameters, one.parameters) << ranks << " ranks, stage " << stage;
      }
    ZerothOrderCase other_seed = test;
    other_seed.config.seed = 8;
    EXPECT_NE(run_zeroth_order_threads(other_seed, 1).parameters, first.parameters);
    // Two bytes a matrix element: every value is a 16-bit number.
    for (const auto& values : first.parameters) {
      if (values.size() <= static_cast<size_t>(3 * test.model.n_embd)) continue;  // vectors stay in fp32
      std::vector<uint16_t> halves(values.size());
      std::vector<float> back(values.size());
      cast_from_fp32(values.data(), halves.data(), type, static_cast<int64_t>(values.size()));
      cast_to_fp32(halves.data(), type, back.data(), static_cast<int64_t>(values.size()));
      EXPECT_EQ(back, values);
    }
  }
}

TEST(ZerothOrderUpdate, WithoutMastersAMatrixElementTakesTwoBytes) {
  ZerothOrderCase with = sgd(1e-3);
  with.config.precision.compute = DType::BF16;
  const auto parameter_bytes = [](const ZerothOrderCase& test) {
    const auto model = make_gpt2(test.model);
    const auto objective = make_cross_entropy();
    const TrainingPlan plan = plan_training(test.config, *model, *objective, 1);
    int64_t bytes = 0;
    for (const PlannedBuffer& b : plan.any_step().buffers) bytes += b.name.starts_with("copies") ? 0 : b.bytes;
    return bytes;
  };
  int64_t matrices = 0, vectors = 0, padding = 0;
  const auto gpt2 = make_gpt2(with.model);
  for (const UnitInfo& unit : gpt2->units())
    for (const ParameterInfo& p : unit.parameters) {
      (p.shape.size() == 2 ? matrices : vectors) += p.num_elements();
      padding += 2 * 64;
    }
  EXPECT_NEAR(static_cast<double>(parameter_bytes(with)), static_cast<double>(4 * (matrices + vectors)), static_cast<double>(padding));
  EXPECT_NEAR(static_cast<double>(parameter_bytes(without_masters(with, DType::BF16))), static_cast<double>(2 * matrices + 4 * vectors),
              static_cast<double>(padding));
}

// A loss that is no number for one sample of one step.
class BrokenObjective final : public Objective {
 public:
  BrokenObjective(int64_t sample, double value) : sample_(sample), value_(value), inner_(make_cross_entropy()) {}
  at::Tensor sum(const Batch& batch, const TensorList& outputs) const override { return inner_->sum(batch, outputs); }
  at::Tensor value(const Batch& batch, const TensorList& outputs) const override {
    for (const int64_t id : batch.sample_ids)
      if (id == sample_) return at::full({}, value_, at::kDouble);
    return inner_->value(batch, outputs);
  }
  const char* name() const override { return "broken"; }
  ActivationCost activation_cost(const ActivationShape& shape, int64_t vocabulary) const override {
    return inner_->activation_cost(shape, vocabulary);
  }

 private:
  int64_t sample_;
  double value_;
  std::unique_ptr<Objective> inner_;
};

TEST(ZerothOrderUpdate, ALossThatIsNoNumberSkipsTheStepOnAllRanks) {
  for (const double value : {std::nan(""), std::numeric_limits<double>::infinity()})
    for (const int ranks : {1, 2, 4})
      for (const int stage : {0, 2, 3}) {
        ZerothOrderCase test = ZerothOrderCase::tiny();
        test.config.zero.stage = stage;
        test.steps = 4;
        // The last sample of step 1: on the last rank alone.
        const BrokenObjective objective(1 * test.global_batch + test.global_batch - 1, value);
        std::vector<std::vector<float>> before, after;
        const auto look = [&](int64_t step, Engine& engine) {
          if (ranks > 1 || step < 1 || step > 2) return;
          std::vector<float> values;
          auto& out = step == 1 ? before : after;
          for (int u = 0; u < 5; ++u)
            for (size_t p = 0; p < engine.plan().layout.units[static_cast<size_t>(u)].parameters.size(); ++p)
              engine.read_parameter(u, static_cast<int>(p), out.emplace_back());
          EXPECT_EQ(engine.progress().applied.all(), 1);
        };
        const ZerothOrderOutcome engine =
            run_zeroth_order_threads(test, ranks, {.objective = &objective, .before_step = look, .initial = {}});
        EXPECT_EQ(engine.skipped, (std::vector<bool>{false, true, false, false}));
        EXPECT_EQ(after, before);
        EXPECT_FALSE(std::isfinite(engine.losses[1].value()));
        // Steps that were skipped do not count in AdamW's bias correction.
        expect_like(engine, run_zeroth_order_reference(test, {1}), test);
      }
}

// From the first values and what a log holds, skipped steps included: bit for bit, unsharded, whoever trained.
TEST(ZerothOrderUpdate, ReplayingALogMakesTheSameWeights) {
  for (const Optimizer optimizer : {Optimizer::AdamW, Optimizer::SGD, Optimizer::Lion})
    for (const int ranks : {1, 2}) {
      ZerothOrderCase test = ZerothOrderCase::tiny();
      test.config.optimizer.type = optimizer;
      test.config.optimizer.momentum = 0.9;
      test.config.zero.stage = ranks == 1 ? 0 : 3;
      test.steps = 4;
      const BrokenObjective objective(1 * test.global_batch, std::nan(""));
      const ZerothOrderOutcome trained = run_zeroth_order_threads(test, ranks, {.objective = &objective, .before_step = {}, .initial = {}});
      EXPECT_TRUE(trained.skipped[1]);
      ZerothOrderCase again = test;
      again.steps = 1;
      again.config.zero.stage = 0;
      again.config.optimizer.lr = 0;  // the step after the replay only ends the run
      const auto replay = [&](int64_t, Engine& engine) {
        for (size_t s = 0; s < trained.losses.size(); ++s)
          engine.replay(
              {static_cast<int64_t>(s), test.config.optimizer.lr, trained.clip_scales[s], trained.scalars[s], trained.skipped[s]});
        EXPECT_EQ(engine.progress().applied.all(), 3);
      };
      EXPECT_EQ(run_zeroth_order_threads(again, 1, {.objective = nullptr, .before_step = replay, .initial = {}}).parameters,
                trained.parameters);
    }
}

TEST(ZerothOrderUpdate, ClippingScalesByTheExpectedNorm) {
  ZerothOrderCase test = sgd(1e-2);
  test.steps = 1;
  test.config.gradient_clipping = 0;
  const ZerothOrderOutcome whole = run_zeroth_order_threads(test, 1);
  double squares = 0;
  for (const double p : whole.scalars[0]) squares += p * p;
  const double norm = std::sqrt(static_cast<double>(make_gpt2(test.model)->num_elements()) * squares) / 2;
  EXPECT_NEAR(whole.norms[0] / norm, 1, 1e-12);
  EXPECT_EQ(whole.clip_scales[0], 1);
  const auto first = first_values(test);
  for (const double clip : {0.5, 3.0, norm / 2}) {
    test.config.gradient_clipping = clip;
    const ZerothOrderOutcome clipped = run_zeroth_order_threads(test, 1);
    EXPECT_EQ(clipped.scalars, whole.scalars);
    EXPECT_EQ(clipped.clip_scales[0], clip / (whole.norms[0] + 1e-6));
    double difference = 0, sum = 0;
    for (size_t p = 0; p < first.size(); ++p)
      for (size_t i = 0; i < first[p].size(); ++i) {
        const double moved = static_cast<double>(clipped.parameters[p][i]) - static_cast<double>(first[p][i]);
        const double full = (static_cast<double>(whole.parameters[p][i]) - static_cast<double>(first[p][i])) * clipped.clip_scales[0];
        difference += (moved - full) * (moved - full);
        sum += full * full;
      }
    EXPECT_LT(std::sqrt(difference / sum), 1e-4);  // the rounding of parameters that move by a thousandth of themselves
  }
  test.config.gradient_clipping = 2 * norm;
  EXPECT_EQ(run_zeroth_order_threads(test, 1).parameters, whole.parameters);
  // The norm of the scalars after their transform.
  test.config.step.transform = {StepConfig::Transform::Kind::Normalise, 3};
  const double deviation = std::abs(whole.scalars[0][0] - whole.scalars[0][1]) / std::sqrt(2.0);
  EXPECT_NEAR(run_zeroth_order_threads(test, 1).norms[0] * deviation / norm, 1, 1e-12);
}

// An instructed step follows the blend of gradient and estimate, and it is that blend's norm that is told and cut.
TEST(ZerothOrderUpdate, InstructedStepsAreClippedByTheNormOfTheirBlend) {
  const auto norm_of_move = [](const ZerothOrderCase& test, const ZerothOrderOutcome& run) {
    double squares = 0;
    const auto first = first_values(test);
    for (size_t p = 0; p < first.size(); ++p)
      for (size_t i = 0; i < first[p].size(); ++i)
        squares += std::pow(static_cast<double>(run.parameters[p][i]) - static_cast<double>(first[p][i]), 2);
    return std::sqrt(squares);
  };
  for (const auto& [stage, ranks] : {std::pair{0, 1}, {0, 2}, {2, 2}, {3, 2}})
    for (const double blend : {0.0, 0.5}) {
      SCOPED_TRACE(fmt::format("stage {} ranks {} blend {}", stage, ranks, blend));
      ZerothOrderCase test = sgd(1);
      test.config.step = ZerothOrderCase::tiny(Mode::Instruct).config.step;
      test.config.step.bp_interval = 1;
      test.config.step.blend = blend;
      test.config.step.instruct.cosine = 0.05;
      test.config.zero.stage = stage;
      test.steps = 1;
      test.config.gradient_clipping = 0;
      const ZerothOrderOutcome whole = run_zeroth_order_threads(test, ranks);
      ZerothOrderCase backprop = test;
      backprop.config.step.mode = Mode::Calibrate;
      // Not the gradient's: that of an estimate along directions far from it, on samples of its own.
      EXPECT_GT(whole.norms[0], 1.2 * run_zeroth_order_threads(backprop, ranks).norms[0]);
      ASSERT_GT(whole.norms[0], 1.2);
      // Rounding of the largest weights, 1, in all 11,000 of them: 2^-25 sqrt(11000), 3e-6 of a move of 1.
      EXPECT_NEAR(norm_of_move(test, whole) / whole.norms[0], 1, 1e-5);
      test.config.gradient_clipping = 1;
      const ZerothOrderOutcome clipped = run_zeroth_order_threads(test, ranks);
      EXPECT_EQ(clipped.norms[0], whole.norms[0]);
      EXPECT_EQ(clipped.clip_scales[0], 1 / (whole.norms[0] + 1e-6));
      EXPECT_NEAR(norm_of_move(test, clipped), 1, 1e-5);
    }
}

// The estimate's norm is worked out, not measured; in many dimensions the two agree.
TEST(ZerothOrderUpdate, TheExpectedNormIsTheNormOfTheUpdate) {
  ZerothOrderCase test = sgd(1e-2);
  test.steps = 1;
  test.config.gradient_clipping = 0;
  test.config.step.queries = 4;
  const ZerothOrderOutcome engine = run_zeroth_order_threads(test, 1);
  double squares = 0;
  const auto first = first_values(test);
  for (size_t p = 0; p < first.size(); ++p)
    for (size_t i = 0; i < first[p].size(); ++i)
      squares += std::pow((static_cast<double>(engine.parameters[p][i]) - static_cast<double>(first[p][i])) / 1e-2, 2);
  EXPECT_NEAR(std::sqrt(squares) / engine.norms[0], 1, 5 / std::sqrt(static_cast<double>(make_gpt2(test.model)->num_elements())));
}

TEST(ZerothOrderUpdate, TheShareOfWeightsThatEpsilonLeavesUnchangedIsMeasured) {
  for (const double epsilon : {1e-2, 1e-3, 1e-4}) {
    ZerothOrderCase test = sgd(0);
    test.steps = 1;
    test.config.step.epsilon = epsilon;
    EXPECT_FALSE(run_zeroth_order_threads(test, 1).last.unchanged_share);
    test.config.precision.compute = DType::BF16;
    int64_t unchanged = 0, all = 0;
    const auto model = make_gpt2(test.model);
    const auto bf16 = [](float x) {
      uint16_t half = 0;
      cast_from_fp32(&x, &half, DType::BF16, 1);
      return half;
    };
    for (const UnitInfo& unit : model->units())
      for (const ParameterInfo& p : unit.parameters) {
        if (p.shape.size() < 2) continue;
        const auto z = reference_direction(test.config.step, test.config.seed, 0, 0, p);
        std::vector<float> values(z.size());
        initial_values(p, test.config.seed, 0, p.num_elements(), values.data());
        for (size_t i = 0; i < z.size(); ++i)
          unchanged += bf16(std::fma(static_cast<float>(epsilon), z[i], values[i])) == bf16(values[i]) ? 1 : 0;
        all += p.num_elements();
      }
    for (const int ranks : {1, 2})
      EXPECT_EQ(run_zeroth_order_threads(test, ranks).last.unchanged_share,
                std::optional(static_cast<double>(unchanged) / static_cast<double>(all)));
    EXPECT_EQ(unchanged * 10 > all, epsilon == 1e-4);  // what the run warns of
  }
}

}  // namespace
}  // namespace zerostep::testing
