#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/runtime/support/training_case.h"

// What training takes of the device against what its plan says.
namespace zerostep::testing {
namespace {

// What `zerostep plan` promises on any processor: the measured peak is at most 2 % above the planned one, the planned at most 10 % above
// it.
void expect_planned(const TrainingOutcome& engine, const std::string& what) {
  const auto planned = static_cast<double>(engine.planned_peak), measured = static_cast<double>(engine.measured_peak);
  EXPECT_LE(measured, 1.02 * planned) << what;
  EXPECT_LE(planned, 1.10 * measured) << what;
}

TrainingCase case_of_memory(DType type, int64_t width, int64_t sequence) {
  TrainingCase test = TrainingCase::tiny();
  test.model = {.n_layer = 5,
                .n_embd = width,
                .n_head = 4,
                .n_positions = sequence,
                .vocab_size = 301,
                .resid_pdrop = 0,
                .embd_pdrop = 0,
                .attn_pdrop = 0};
  test.sequence = sequence;
  test.config.precision.compute = type;
  return test;
}

TEST(Engine, PlannedPeaksAreMeasuredPeaks) {
  for (const int stage : {0, 1, 2, 3})
    for (const DType type : {DType::F32, DType::BF16})
      for (const int64_t segments : {int64_t{0}, int64_t{2}, int64_t{-1}}) {
        TrainingCase test = case_of_memory(type, 64, 32);
        if (segments < 0) {
          test.config.cpu_checkpointing = true;
          test.config.data.sequence_length = test.sequence;
        }
        test.set_micro_batch(2, 2);
        test.config.zero.stage = stage;
        test.config.number_checkpoints = segments;
        test.config.zero.stage3_max_live_parameters = 1;
        test.config.zero.stage3_max_reuse_distance = 0;
        expect_planned(run_engine_threads(test, 2), fmt::format("stage {} {} segments {}", stage, name_of(type), segments));
      }
}

// Matrices so large beside the rest that what libraries take shows: 16-bit products on any processor.
TEST(Engine, PlannedPeaksCountTheWorkspaceOfLibraries) {
  for (const DType type : {DType::F32, DType::BF16, DType::F16}) {
    TrainingCase test = case_of_memory(type, 256, 64);
    test.model.n_layer = 1;
    test.steps = 2;
    expect_planned(run_engine_threads(test, 1), name_of(type));
  }
}

}  // namespace
}  // namespace zerostep::testing
