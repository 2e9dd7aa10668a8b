#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/engine/engine.h"
#include "runtime/engine/training_cost.h"
#include "runtime/memory/memory_meter.h"
#include "runtime/strategy/joined_batch.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/training_case.h"

// Queries whose branches share products, against a plain loop that makes each branch's weights and runs it alone.
namespace zerostep {
namespace {

using testing::TrainingCase;
using Estimator = StepConfig::Estimator;
using Perturbation = StepConfig::Perturbation;

TrainingCase queries_case() {
  TrainingCase out = TrainingCase::tiny();
  StepConfig& step = out.config.step;
  step.mode = StepConfig::Mode::ZerothOrder;
  step.mode_name = "zo";
  step.perturbation = Perturbation::LowRank;
  step.queries = 3;
  step.query_sequence_length = out.sequence;
  out.config.optimizer.type = OptimizerConfig::Type::SGD;
  out.config.optimizer.lr = 0;
  out.config.gradient_clipping = 0;
  out.steps = 2;
  return out;
}

// Sample indices of a direction: its own where data is independent.
Batch query(const TrainingCase& test, int64_t step, int64_t direction, int64_t micro_batch) {
  return test.batch(test.config.step.independent_data ? 10 * step + direction : step, micro_batch, 0, 1);
}

struct Outcome {
  std::vector<double> scalars;
  int64_t planned = 0, measured = 0, per_pass = 0;
};

Outcome run_engine(TrainingCase test) {
  install_metered_allocator();
  at::set_num_threads(1);
  test.config.step.query_batch = test.config.batch;
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  TrainingPlan plan = plan_training(test.config, *model, *objective, 1);
  Outcome out;
  WorkspaceMeter workspaces;
  out.planned = training_cost(test.config, plan, *model, *objective, &workspaces).device_peak_bytes;
  out.per_pass = plan.queries_per_pass;
  run_local_ranks(1, {.timeout_seconds = 60}, [&](Communicator world) {
    Engine engine(
        test.config, *model, *objective, std::move(plan),
        [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) {
          initial_values(info, test.config.seed, begin, count, values);
        },
        world);
    for (int step = 0; step < test.steps; ++step) {
      const StepResult result =
          engine.train_step(step, StepBatches{{}, [&](int64_t direction, int64_t m) { return query(test, step, direction, m); }});
      out.scalars.insert(out.scalars.end(), result.scalars.begin(), result.scalars.end());
    }
    out.measured = engine.device_peak_bytes();
  });
  return out;
}

at::ScalarType scalar_type(const TrainingCase& test, const ParameterInfo& info) {
  const DType type = info.type(test.config.precision.compute);
  return type == DType::BF16 ? at::kBFloat16 : type == DType::F16 ? at::kHalf : at::kFloat;
}

// Sum of the objective at theta + epsilon z, and the tokens.
std::pair<double, double> plain_loss(const TrainingCase& test, int64_t step, int64_t direction, double epsilon) {
  const at::NoGradGuard no_grad;
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  const ModelLayout layout = plan_training(test.config, *model, *objective, 1).layout;
  const Directions directions(test.config.step, test.config.seed);
  std::vector<std::vector<at::Tensor>> parameters;
  for (const UnitInfo& unit : layout.units) {
    parameters.emplace_back();
    for (const ParameterInfo& info : unit.parameters) {
      at::Tensor value = at::empty(info.shape, at::kFloat), z = at::zeros(info.shape, at::kFloat);
      initial_values(info, test.config.seed, 0, info.num_elements(), value.data_ptr<float>());
      if (info.trainable) directions.values(step, direction, info, 0, info.num_elements(), z.data_ptr<float>());
      parameters.back().push_back(value.add_(z, epsilon).to(scalar_type(test, info)));
    }
  }
  double sum = 0, tokens = 0;
  for (int64_t m = 0; m < test.config.batch.accumulation_steps; ++m) {
    const Batch batch = query(test, step, direction, m);
    TensorList hidden;
    for (size_t u = 0; u < layout.units.size(); ++u) {
      std::vector<at::Tensor> of_unit = parameters[u];
      for (const BorrowedParameter& b : layout.units[u].borrowed)
        of_unit.push_back(parameters[static_cast<size_t>(b.unit)][static_cast<size_t>(b.parameter)]);
      hidden = model->make_unit(static_cast<int>(u), std::move(of_unit))->forward(hidden, {&batch, false, test.config.seed, step});
    }
    sum += objective->value(batch, hidden).item<double>();
    tokens += static_cast<double>(batch.valid_tokens);
  }
  return {sum, tokens};
}

std::vector<double> plain_scalars(const TrainingCase& test) {
  std::vector<double> out;
  const double epsilon = test.config.step.epsilon;
  const bool central = test.config.step.estimator == Estimator::Central;
  for (int64_t step = 0; step < test.steps; ++step)
    for (int64_t d = 0; d < test.config.step.queries; ++d) {
      const auto [plus, tokens] = plain_loss(test, step, d, epsilon);
      const double minus = plain_loss(test, step, d, central ? -epsilon : 0).first;
      out.push_back((plus - minus) / (central ? 2 * epsilon : epsilon) / tokens);
    }
  return out;
}

// As `zerostep plan` promises.
void expect_planned(const Outcome& found, const std::string& what) {
  const auto measured = static_cast<double>(found.measured), planned = static_cast<double>(found.planned);
  EXPECT_LE(measured, 1.02 * planned) << what;
  EXPECT_LE(planned, 1.10 * measured) << what;
}

void expect_plain_scalars(const TrainingCase& test, double tolerance, const char* what) {
  const Outcome found = run_engine(test);
  const std::vector<double> expected = plain_scalars(test);
  ASSERT_EQ(found.scalars.size(), expected.size()) << what;
  double largest = 0;
  for (double p : expected) largest = std::max(largest, std::abs(p));
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found.scalars[i], expected[i], tolerance * largest) << what << " " << i;
  expect_planned(found, what);
}

TEST(LowRank, ScalarsEqualThoseOfAPlainLoop) {
  for (const bool tied : {true, false}) {
    TrainingCase test = queries_case();
    test.model.tie_word_embeddings = tied;
    expect_plain_scalars(test, 2e-3, tied ? "tied" : "untied");
  }
  TrainingCase test = queries_case();
  test.set_micro_batch(2, 1);
  expect_plain_scalars(test, 2e-3, "micro-batches");
  test.config.step.independent_data = true;
  expect_plain_scalars(test, 2e-3, "independent data");
  test.config.step.estimator = Estimator::Forward;
  test.config.step.epsilon = 1e-2;
  expect_plain_scalars(test, 2e-3, "forward, independent data");
  test.config.step.independent_data = false;
  expect_plain_scalars(test, 2e-3, "forward");
}

TEST(LowRank, SixteenBitWeightsKeepTheirRounding) {
  TrainingCase test = queries_case();
  test.config.step.epsilon = 0.05;  // far above the rounding of either
  for (const DType type : {DType::BF16, DType::F16}) {
    test.config.precision.compute = type;
    expect_plain_scalars(test, type == DType::BF16 ? 0.1 : 0.02, name_of(type));
  }
}

TEST(LowRank, PassesDoNotChangeTheResult) {
  TrainingCase test = queries_case();
  const std::vector<double> all = run_engine(test).scalars;
  for (const int64_t per_pass : {1, 2, 3}) {
    test.config.step.queries_per_pass = per_pass;
    const std::vector<double> found = run_engine(test).scalars;
    for (size_t i = 0; i < all.size(); ++i) EXPECT_NEAR(found[i], all[i], 1e-3 * std::abs(all[0])) << per_pass;
  }
}

// Frozen units run all branches of a pass as one batch, whatever the noise; what comes before the first perturbed unit runs once.
TEST(JoinedBranches, FrozenUnitsInTheMiddle) {
  for (const auto perturbation : {Perturbation::LowRank, Perturbation::Gaussian, Perturbation::Rademacher})
    for (const bool independent : {false, true})
      for (const std::vector<std::string>& scope : {std::vector<std::string>{"transformer.wpe.weight", "transformer.h.1.*"},
                                                    {"transformer.h.0.mlp.*", "transformer.h.2.*"},
                                                    {"transformer.h.1.*", "transformer.ln_f.*"}}) {
        TrainingCase test = queries_case();
        test.set_micro_batch(4, 1);
        test.config.step.perturbation = perturbation;
        test.config.step.independent_data = independent;
        test.config.step.queries_per_pass = 3;
        test.config.step.scope = scope;
        // A scope that moves the loss little: its differences are nearer the rounding of fp32 losses.
        expect_plain_scalars(test, 4e-3, scope[0].c_str());
      }
}

TEST(JoinedBranches, ABatchOfBatchesHasAllThatUnitsRead) {
  TrainingCase test = queries_case();
  Batch a = test.batch(0, 0, 0, 1), b = test.batch(1, 0, 0, 1);
  for (Batch* batch : {&a, &b}) {
    batch->document_ids = batch->tokens % 2;
    batch->mask = batch->tokens > 4;
  }
  const Batch joined = joined_batch({&a, &b, &a});
  EXPECT_TRUE(joined.tokens.equal(at::cat({a.tokens, b.tokens, a.tokens})));
  EXPECT_TRUE(joined.document_ids.equal(at::cat({a.document_ids, b.document_ids, a.document_ids})));
  EXPECT_TRUE(joined.mask.equal(at::cat({a.mask, b.mask, a.mask})));
  EXPECT_FALSE(joined.positions.defined());
  EXPECT_EQ(joined.sample_ids.size(), 3 * a.sample_ids.size());
}

TEST(LowRank, PlanAndMeasuredMemoryAgree) {
  TrainingCase test = queries_case();
  test.model.n_embd = 64;
  test.model.n_head = 4;
  test.model.n_inner = 0;
  test.model.n_positions = 64;
  test.model.vocab_size = 997;
  test.sequence = test.config.step.query_sequence_length = 64;
  test.config.step.queries = 8;
  for (const int64_t micro : {2, 8})
    for (const DType type : {DType::F32, DType::BF16})
      for (const int64_t per_pass : {0, 1, 8}) {
        test.set_micro_batch(micro, 1);
        test.config.precision.compute = type;
        test.config.step.queries_per_pass = per_pass;
        expect_planned(run_engine(test), fmt::format("{} samples, {}, {} a pass", micro, name_of(type), per_pass));
      }
  // Of a high rank what rows are times the factors is 3 % of the highest moment, which is in an MLP where there are few words.
  test.model.vocab_size = 61;
  test.config.step.rank = 32;
  test.config.precision.compute = DType::F32;
  expect_planned(run_engine(test), "rank 32");
}

TEST(LowRank, TakesAsManyDirectionsAPassAsMemoryAllows) {
  TrainingCase test = queries_case();
  test.config.step.queries = 4;
  test.config.run.device_memory = int64_t{1} << 30;
  EXPECT_EQ(run_engine(test).per_pass, 4);
  test.config.step.perturbation = Perturbation::Gaussian;
  EXPECT_EQ(run_engine(test).per_pass, 1);
}

}  // namespace
}  // namespace zerostep
