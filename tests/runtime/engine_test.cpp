#include "runtime/engine/engine.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "runtime/memory/memory_meter.h"
#include "sharding/local_ranks.h"
#include "tests/runtime/support/training_case.h"

namespace zerostep::testing {
namespace {

void expect_same_run(const TrainingOutcome& a, const TrainingOutcome& b) {
  EXPECT_EQ(a.losses, b.losses);
  ASSERT_EQ(a.norms.size(), b.norms.size());
  for (size_t i = 0; i < a.norms.size(); ++i)
    EXPECT_TRUE(a.norms[i] == b.norms[i] || (std::isnan(a.norms[i]) && std::isnan(b.norms[i]))) << a.norms[i] << " " << b.norms[i];
  EXPECT_EQ(a.skipped, b.skipped);
  EXPECT_EQ(a.loss_scales, b.loss_scales);
  ASSERT_EQ(a.parameters.size(), b.parameters.size());
  for (size_t i = 0; i < a.parameters.size(); ++i) EXPECT_EQ(a.parameters[i], b.parameters[i]) << "parameter " << i;
}

struct MatrixCase {
  int stage, ranks;
  int64_t micro_batch;
  DType type;
  int64_t segments;
};

std::string name_of_case(const ::testing::TestParamInfo<MatrixCase>& info) {
  const MatrixCase& c = info.param;
  return fmt::format("stage{}_ranks{}_micro{}_{}_{}", c.stage, c.ranks, c.micro_batch, name_of(c.type),
                     c.segments == 0 ? "plain" : "recompute");
}

class EquivalenceMatrix : public ::testing::TestWithParam<MatrixCase> {};

// Every stage, world size, accumulation, precision and recomputation gives, bit for bit, what a rank-ordered plain LibTorch loop gives.
TEST_P(EquivalenceMatrix, EqualsThePlainLoopBitwise) {
  const MatrixCase& c = GetParam();
  TrainingCase test = TrainingCase::tiny();
  test.config.zero.stage = c.stage;
  test.config.zero.overlap_comm = c.stage == 3;
  test.config.precision.compute = c.type;
  test.config.precision.initial_scale_power = 12;
  test.config.number_checkpoints = c.segments;
  if (c.ranks == 3) test.global_batch = 12;
  if (c.ranks == 7) test.global_batch = 14;
  test.set_micro_batch(c.micro_batch, c.ranks);
  const TrainingOutcome reference = run_reference(test, c.ranks);
  const TrainingOutcome engine = run_engine_threads(test, c.ranks);
  expect_same_run(engine, reference);
  EXPECT_LT(engine.losses.back(), engine.losses.front());
  EXPECT_EQ(engine.last.elements_gathered, engine.planned_gathered);
  EXPECT_EQ(engine.last.elements_reduced, engine.planned_reduced);
}

std::vector<MatrixCase> all_cases() {
  std::vector<MatrixCase> out;
  for (int stage : {0, 1, 2, 3})
    for (int ranks : {1, 2, 4})
      for (bool accumulate : {false, true})
        for (DType type : {DType::F32, DType::BF16, DType::F16})
          for (int64_t segments : {int64_t{0}, int64_t{-1}})
            out.push_back({stage, ranks, accumulate ? 8 / (4 * ranks) + (ranks == 4) : 8 / ranks, type, segments});
  for (int stage : {0, 1, 2, 3}) {
    out.push_back({stage, 3, 2, DType::F32, 0});
    out.push_back({stage, 7, 1, DType::F32, 0});
  }
  return out;
}
INSTANTIATE_TEST_SUITE_P(All, EquivalenceMatrix, ::testing::ValuesIn(all_cases()), name_of_case);

TrainingCase case_of_stage(int stage, int ranks) {
  TrainingCase test = TrainingCase::tiny();
  test.config.zero.stage = stage;
  test.set_micro_batch(8 / (2 * ranks), ranks);
  return test;
}

TEST(Engine, LimitsPrefetchAndOverlapChangeNoBit) {
  TrainingCase test = case_of_stage(3, 2);
  const TrainingOutcome loose = run_engine_threads(test, 2);
  for (const bool overlap : {false, true})
    for (const int64_t live : {int64_t{1}, int64_t{6000}, int64_t{1} << 40}) {
      test.config.zero.overlap_comm = overlap;
      test.config.zero.stage3_max_live_parameters = live;
      test.config.zero.stage3_max_reuse_distance = live == 1 ? 0 : INT64_MAX;
      expect_same_run(run_engine_threads(test, 2), loose);
    }
}

TEST(Engine, BucketsRoundRobinAndCollectiveKindsChangeResultsByRoundingOfTheNormOnly) {
  for (const int stage : {1, 2, 3}) {
    TrainingCase test = case_of_stage(stage, 2);
    test.config.gradient_clipping = 0;  // without it no bit depends on who owns which element
    const TrainingOutcome first = run_engine_threads(test, 2);
    const auto same_parameters = [&](const TrainingOutcome& other) {
      EXPECT_EQ(other.losses, first.losses) << "stage " << stage;
      EXPECT_EQ(other.parameters, first.parameters) << "stage " << stage;
      EXPECT_EQ(other.last.elements_gathered, other.planned_gathered);
      EXPECT_EQ(other.last.elements_reduced, other.planned_reduced);
    };
    TrainingCase changed = test;
    changed.config.zero.reduce_bucket_size = 500;
    changed.config.zero.allgather_bucket_size = 700;
    same_parameters(run_engine_threads(changed, 2));
    changed = test;
    changed.config.zero.round_robin_gradients = true;
    same_parameters(run_engine_threads(changed, 2));
    changed = test;
    changed.config.zero.reduce_scatter = false;
    changed.config.zero.allgather_partitions = false;
    same_parameters(run_engine_threads(changed, 2));
    changed = test;
    changed.config.zero.stage3_param_persistence_threshold = 100;
    same_parameters(run_engine_threads(changed, 2));
    changed = test;
    changed.config.zero.sub_group_size = 100;
    same_parameters(run_engine_threads(changed, 2));
  }
}

TEST(Engine, GradientsThatAreNotContiguousAreTheSameUpToTheOrderOfSums) {
  for (const int stage : {0, 1, 2, 3}) {
    TrainingCase test = case_of_stage(stage, 2);
    test.config.gradient_clipping = 0;
    const auto with_own_gradients = [](TrainingCase changed) {
      changed.config.zero.contiguous_gradients = false;
      return run_engine_threads(changed, 2);
    };
    const TrainingOutcome direct = run_engine_threads(test, 2), added = with_own_gradients(test);
    EXPECT_EQ(added.last.elements_reduced, direct.last.elements_reduced);
    EXPECT_GT(added.planned_peak, direct.planned_peak) << "stage " << stage;
    EXPECT_NEAR(static_cast<double>(added.planned_peak) / static_cast<double>(added.measured_peak), 1, 0.05) << "stage " << stage;
    for (size_t i = 0; i < direct.losses.size(); ++i) {
      EXPECT_NEAR(added.losses[i].value() / direct.losses[i].value(), 1, 1e-6);
      EXPECT_NEAR(added.norms[i] / direct.norms[i], 1, 1e-6);
    }
    // One micro-batch and no tied weight: every gradient is made once and copied, nothing is summed in another order.
    test.model.tie_word_embeddings = false;
    test.set_micro_batch(4, 2);
    expect_same_run(with_own_gradients(test), run_engine_threads(test, 2));
  }
}

TEST(Engine, SixteenBitCommunicationRoundsMessagesAndNothingElse) {
  TrainingCase test = case_of_stage(2, 2);
  test.config.gradient_clipping = 0;
  const TrainingOutcome exact = run_engine_threads(test, 2);
  test.config.communication_data_type = DType::BF16;
  std::vector<TrainingOutcome> rounded;
  for (const int stage : {0, 1, 2, 3}) {
    test.config.zero.stage = stage;
    rounded.push_back(run_engine_threads(test, 2));
    EXPECT_EQ(rounded.back().last.elements_gathered, rounded.back().planned_gathered);
    EXPECT_EQ(rounded.back().last.elements_reduced, rounded.back().planned_reduced);
  }
  EXPECT_EQ(rounded[0].parameters, rounded[1].parameters);
  EXPECT_EQ(rounded[2].parameters, rounded[3].parameters);
  for (const TrainingOutcome& r : rounded) {
    EXPECT_EQ(r.losses[0], exact.losses[0]);
    EXPECT_NE(r.norms[0], exact.norms[0]);
    EXPECT_NEAR(r.norms[0] / exact.norms[0], 1, 2e-3);  // 2^-9 is bf16's rounding
  }
}

TEST(Engine, AveragingByPredivideOrPrescaleIsTheSameUpToRounding) {
  TrainingCase test = case_of_stage(1, 2);
  const TrainingOutcome plain = run_engine_threads(test, 2);
  for (const bool prescale : {false, true}) {
    test.config.prescale_gradients = prescale;
    test.config.gradient_predivide_factor = prescale ? 1 : 2;
    expect_same_run(run_engine_threads(test, 2), plain);  // powers of two round nothing
    expect_same_run(run_engine_threads(test, 2), run_reference(test, 2));
  }
}

TEST(Engine, DropoutIsTheSameAtEveryStageSplitAndWithRecomputation) {
  TrainingCase test = case_of_stage(0, 1);
  test.model.resid_pdrop = test.model.embd_pdrop = test.model.attn_pdrop = 0.2;
  test.config.gradient_clipping = 0;
  const TrainingOutcome one = run_engine_threads(test, 1);
  TrainingCase without = case_of_stage(0, 1);
  EXPECT_NE(run_engine_threads(without, 1).losses, one.losses);
  test.config.number_checkpoints = -1;
  expect_same_run(run_engine_threads(test, 1), one);
  for (const int ranks : {2, 4})
    for (const int stage : {1, 3}) {
      TrainingCase split = test;
      split.config.zero.stage = stage;
      split.set_micro_batch(8 / ranks, ranks);
      const TrainingOutcome many = run_engine_threads(split, ranks);
      for (size_t i = 0; i < one.losses.size(); ++i)
        EXPECT_NEAR(many.losses[i].value() / one.losses[i].value(), 1, 1e-5) << ranks << " ranks";
    }
}

TEST(Engine, FrozenParametersKeepTheirBitsAndTheRestTrainsAsInThePlainLoop) {
  for (const int stage : {0, 2, 3}) {
    TrainingCase test = case_of_stage(stage, 2);
    test.config.model.trainable = {"transformer.h.2.*", "transformer.ln_f.*"};
    const TrainingOutcome engine = run_engine_threads(test, 2);
    expect_same_run(engine, run_reference(test, 2));
    std::vector<float> initial(static_cast<size_t>(test.model.vocab_size * test.model.n_embd));
    const auto model = make_gpt2(test.model);
    initial_values(model->units()[0].parameters[0], test.config.seed, 0, static_cast<int64_t>(initial.size()), initial.data());
    EXPECT_EQ(engine.parameters[0], initial);
  }
}

TEST(Engine, OverflowSkipsTheStepTheSameWayAtEveryStage) {
  for (const int stage : {0, 1, 2, 3}) {
    TrainingCase test = case_of_stage(stage, 2);
    test.steps = 16;
    test.config.precision.compute = DType::F16;
    test.config.precision.initial_scale_power = 28;
    test.config.precision.hysteresis = 1;
    const TrainingOutcome engine = run_engine_threads(test, 2);
    expect_same_run(engine, run_reference(test, 2));
    EXPECT_TRUE(engine.skipped.front());
    EXPECT_FALSE(engine.skipped.back());
    EXPECT_EQ(engine.loss_scales.front(), std::exp2(27));
  }
}

// The same micro-batches overflow whoever runs them: which steps are skipped does not depend on the ranks.
TEST(Engine, OverflowIsOfAMicroBatchWhateverTheNumberOfRanks) {
  for (const DType communication : {DType::F32, DType::BF16}) {
    std::vector<bool> skipped;
    for (const int ranks : {1, 2, 4, 8}) {
      TrainingCase test = TrainingCase::tiny();
      test.set_micro_batch(1, ranks);
      test.steps = 16;
      test.config.precision.compute = DType::F16;
      test.config.precision.initial_scale_power = 28;
      test.config.precision.hysteresis = 1;
      test.config.communication_data_type = communication;
      test.config.zero.stage = ranks % 4;
      const TrainingOutcome run = run_engine_threads(test, ranks);
      if (skipped.empty()) skipped = run.skipped;
      EXPECT_EQ(run.skipped, skipped) << ranks << " ranks";
      EXPECT_EQ(run.loss_scales.back(), std::exp2(28 - std::count(skipped.begin(), skipped.end(), true)));
    }
    EXPECT_TRUE(skipped.front());
    EXPECT_FALSE(skipped.back());
  }
}

// Averaging in fp16 is that of fp32, whatever stands before and after the sums.
TEST(Engine, GradientsOfFp16HaveTheNormOfFp32) {
  for (const DType communication : {DType::F32, DType::F16})
    for (const bool prescale : {false, true})
      for (const int stage : {0, 2}) {
        TrainingCase test = case_of_stage(stage, 2);
        test.steps = 1;
        test.config.prescale_gradients = prescale;
        test.config.gradient_predivide_factor = prescale ? 1 : 1.5;
        const double exact = run_engine_threads(test, 2).norms[0];
        test.config.precision.compute = DType::F16;
        test.config.precision.loss_scale = 64;
        test.config.communication_data_type = communication;
        EXPECT_NEAR(run_engine_threads(test, 2).norms[0] / exact, 1, 5e-3);  // a few roundings of 2^-11 on the way
      }
}

TEST(Engine, NonFiniteGradientsInFp32EndTheRunAndLeaveTheParameters) {
  TrainingCase test = case_of_stage(3, 2);
  test.config.optimizer.lr = 1e30;  // the first update throws the parameters far out; the second forward overflows
  test.config.gradient_clipping = 0;
  try {
    run_engine_threads(test, 2);
    FAIL() << "expected an error";
  } catch (const RunError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("step 1"), std::string::npos) << text;
    EXPECT_NE(text.find("rank "), std::string::npos) << text;
    EXPECT_TRUE(text.find("loss is") != std::string::npos || text.find("transformer.") != std::string::npos) << text;
  }
}

TEST(Engine, AFailingVisitNamesRankStepUnitAndOperation) {
  TrainingCase test = case_of_stage(3, 2);
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  install_metered_allocator();
  try {
    run_local_ranks(2, {.timeout_seconds = 30}, [&](Communicator world) {
      Engine engine(
          test.config, *model, *objective, plan_training(test.config, *model, *objective, 2),
          [&](const ParameterInfo& info, int64_t begin, int64_t count, float* out) { initial_values(info, 7, begin, count, out); }, world);
      for (int step = 0; step < 3; ++step)
        engine.train_step(step, [&](int64_t m) {
          Batch batch = test.batch(step, m, world.rank(), 2);
          if (step == 1 && world.rank() == 1) batch.tokens.fill_(1000000);
          return batch;
        });
    });
    FAIL() << "expected an error";
  } catch (const RunError& error) {
    const std::string text = error.what();
    for (const char* word : {"rank 1", "step 1", "forward", "embedding"})
      EXPECT_NE(text.find(word), std::string::npos) << word << " in: " << text;
  }
}

TEST(Engine, AllocatesNothingAfterTheSecondStep) {
  TrainingCase test = case_of_stage(3, 2);
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  install_metered_allocator();
  run_local_ranks(2, {.timeout_seconds = 30}, [&](Communicator world) {
    at::set_num_threads(1);
    Engine engine(
        test.config, *model, *objective, plan_training(test.config, *model, *objective, 2),
        [&](const ParameterInfo& info, int64_t begin, int64_t count, float* out) { initial_values(info, 7, begin, count, out); }, world);
    const int64_t arenas = engine.arena_bytes();
    EXPECT_EQ(arenas, engine.plan().any_step().device_arena_bytes());
    int64_t peak = 0;
    for (int step = 0; step < 6; ++step) {
      engine.train_step(step, [&](int64_t m) { return test.batch(step, m, world.rank(), 2); });
      if (step == 1) peak = engine.device_peak_bytes();
    }
    EXPECT_EQ(engine.arena_bytes(), arenas);
    EXPECT_EQ(engine.device_peak_bytes(), peak);
  });
}

TEST(Engine, EvaluationIsTheForwardLossAndChangesNothing) {
  for (const int stage : {0, 3}) {
    TrainingCase test = case_of_stage(stage, 2);
    test.steps = 1;
    const TrainingOutcome trained = run_engine_threads(test, 2);
    const auto model = make_gpt2(test.model);
    const auto objective = make_cross_entropy();
    run_local_ranks(2, {.timeout_seconds = 30}, [&](Communicator world) {
      Engine engine(
          test.config, *model, *objective, plan_training(test.config, *model, *objective, 2),
          [&](const ParameterInfo& info, int64_t begin, int64_t count, float* out) { initial_values(info, 7, begin, count, out); }, world);
      const int64_t micro_batches = test.config.batch.accumulation_steps;
      const EvaluationResult before = engine.evaluate(micro_batches + 1, [&](int64_t i) {
        // One batch more that does not count.
        return Engine::EvaluationBatch{test.batch(0, std::min(i, micro_batches - 1), world.rank(), 2), i < micro_batches};
      });
      EXPECT_NEAR(before.loss, trained.losses[0].value(), 1e-6);
      EXPECT_EQ(before.tokens, test.batch(0, 0, 0, 2).global_valid_tokens);
      EXPECT_EQ(engine.train_step(0, [&](int64_t m) { return test.batch(0, m, world.rank(), 2); }).loss, trained.losses[0]);
    });
  }
}

}  // namespace
}  // namespace zerostep::testing
