#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/zeroth_order_case.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

void expect_all(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_SAYS(text, part);
}

// Cross-entropy, but no number where a sample belongs to a step that is broken.
class Broken final : public Objective {
 public:
  Broken(std::set<int64_t> whole_steps, int64_t samples, double value)
      : whole_steps_(std::move(whole_steps)), samples_(samples), value_(value), inner_(make_cross_entropy()) {}
  at::Tensor sum(const Batch& batch, const TensorList& outputs) const override { return inner_->sum(batch, outputs); }
  at::Tensor value(const Batch& batch, const TensorList& outputs) const override {
    return whole_steps_.contains(batch.sample_ids.at(0) / samples_) ? inner_->value(batch, outputs) : at::full({}, value_, at::kDouble);
  }
  const char* name() const override { return "broken"; }
  ActivationCost activation_cost(const ActivationShape& shape, int64_t vocabulary) const override {
    return inner_->activation_cost(shape, vocabulary);
  }

 private:
  std::set<int64_t> whole_steps_;
  int64_t samples_;
  double value_;
  std::unique_ptr<Objective> inner_;
};

ZerothOrderCase small(Mode mode) {
  ZerothOrderCase test = ZerothOrderCase::tiny(mode);
  test.model.n_layer = 1;
  test.global_batch = 4;
  return test;
}

TEST(SkippedSteps, TwentyInARowEndARunOfQueries) {
  for (const double value : {-std::nan(""), std::numeric_limits<double>::infinity()})
    for (const int ranks : {1, 2})
      for (const Mode mode : {Mode::ZerothOrder, Mode::Instruct}) {
        ZerothOrderCase test = small(mode);
        if (mode == Mode::Instruct) test.config.step.bp_interval = 100;
        const Broken objective({0}, test.global_batch, value);
        const EngineSetup setup{.objective = &objective, .before_step = {}, .initial = {}};
        test.steps = 20;
        EXPECT_EQ(run_zeroth_order_threads(test, ranks, setup).skipped.back(), true);
        test.steps = 21;
        const std::string said = message_of<RunError>([&] { run_zeroth_order_threads(test, ranks, setup); });
        expect_all(said,
                   {"step 20: 20 steps in a row were skipped",
                    "the losses of 2 of its 2 directions are not finite (direction 0: " + std::string(std::isnan(value) ? "nan" : "inf"),
                    "as the last of 1 applied steps left them"});
        EXPECT_EQ(said.find("-nan"), std::string::npos) << said;
      }
}

TEST(SkippedSteps, AnAppliedStepStartsTheCountAnew) {
  ZerothOrderCase test = small(Mode::ZerothOrder);
  const Broken objective({19, 39}, test.global_batch, std::nan(""));
  test.steps = 59;
  std::vector<int64_t> counts;
  const auto look = [&](int64_t, Engine& engine) { counts.push_back(engine.progress().skipped_in_a_row); };
  const ZerothOrderOutcome run = run_zeroth_order_threads(test, 1, {.objective = &objective, .before_step = look, .initial = {}});
  EXPECT_EQ(run.skipped[19] || run.skipped[39], false);
  for (size_t s = 0; s < counts.size(); ++s) EXPECT_EQ(counts[s], static_cast<int64_t>(s) % 20) << s;
}

TEST(SkippedSteps, TheFirstStepsOfARunLeaveItsFirstValues) {
  ZerothOrderCase test = small(Mode::ZerothOrder);
  const Broken objective({}, test.global_batch, std::nan(""));
  test.steps = 20;
  expect_all(message_of<RunError>([&] { run_zeroth_order_threads(test, 1, {.objective = &objective, .before_step = {}, .initial = {}}); }),
             {"step 19: 20 steps", "The parameters are the first values"});
}

// Weights beyond the range of their type's products.
TEST(SkippedSteps, TwentyInARowEndBackpropInSixteenBits) {
  for (const DType type : {DType::BF16, DType::F16})
    for (const int ranks : {1, 2}) {
      TrainingCase test = TrainingCase::tiny();
      test.model.n_layer = 1;
      test.model.initializer_range = 1e20;
      test.config.precision.compute = type;
      test.config.precision.loss_scale = 128;
      test.set_micro_batch(8 / ranks, ranks);
      test.steps = 19;
      // Not by run_engine_threads(), which compares losses: these are no numbers.
      const auto run = [&] {
        bool skipped = false;
        run_local_ranks(ranks, {.timeout_seconds = 60}, [&](Communicator world) {
          const TrainingOutcome out = run_engine(test, world);
          if (world.rank() == 0) skipped = out.skipped.back();
        });
        return skipped;
      };
      EXPECT_TRUE(run());
      test.steps = 20;
      expect_all(message_of<RunError>([&] { run(); }),
                 {"step 19: 20 steps in a row were skipped", std::string(name_of(type)) + " gradients or its loss hold Inf or NaN",
                  type == DType::F16 ? "static loss scale 128" : "The parameters are the first values"});
    }
}

// A dynamic scale that still falls is no failure: 2^60 needs more than twenty halvings.
TEST(SkippedSteps, AFallingLossScaleDoesNotCount) {
  TrainingCase test = TrainingCase::tiny();
  test.model.n_layer = 1;
  test.config.precision.compute = DType::F16;
  test.config.precision.initial_scale_power = 60;
  test.config.precision.hysteresis = 1;
  test.steps = 60;
  const TrainingOutcome run = run_engine_threads(test, 1);
  const auto applied = std::find(run.skipped.begin(), run.skipped.end(), false);
  EXPECT_GT(applied - run.skipped.begin(), 20);
  EXPECT_NE(applied, run.skipped.end());
}

TEST(SkippedSteps, TheCountGoesOnWithTheRun) {
  ZerothOrderCase test = small(Mode::ZerothOrder);
  test.share_over(1);
  const Broken objective({}, test.global_batch, std::nan(""));
  const auto model = make_gpt2(test.model);
  const auto step_on = [&](const TrainingProgress& from, int64_t begin, int64_t end) {
    TrainingProgress out;
    run_local_ranks(1, {}, [&](Communicator world) {
      const auto initial = [&](const ParameterInfo& info, int64_t first, int64_t count, float* values) {
        initial_values(info, test.config.seed, first, count, values);
      };
      Engine engine(test.config, *model, objective, plan_training(test.config, *model, objective, 1), initial, world);
      engine.restore(from, [](const ParameterInfo&, int, int64_t, int64_t count, float* values) { std::fill_n(values, count, 0.0f); });
      for (int64_t step = begin; step < end; ++step) engine.train_step(step, test.batches(step, 0, 1));
      out = engine.progress();
    });
    return out;
  };
  const TrainingProgress before = step_on({}, 0, 15);
  EXPECT_EQ(before.skipped_in_a_row, 15);
  EXPECT_EQ(step_on(before, 15, 19).skipped_in_a_row, 19);
  EXPECT_EQ(message_of<RunError>([&] { step_on(before, 15, 19); }), "nothing thrown");
  expect_all(message_of<RunError>([&] { step_on(before, 15, 20); }), {"step 19: 20 steps in a row"});
}

}  // namespace
}  // namespace zerostep::testing
