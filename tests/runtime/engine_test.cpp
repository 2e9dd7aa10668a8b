#include "runtime/engine/engine.h"

#include <gtest/gtest.h>

#include "tests/runtime/support/training_case.h"

namespace zerostep::testing {
namespace {

void expect_same_run(const TrainingOutcome& a, const TrainingOutcome& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
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

}  // namespace
}  // namespace zerostep::testing
