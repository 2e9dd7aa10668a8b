#include <gtest/gtest.h>

#include <chrono>

#include "base/error.h"
#include "base/format.h"
#include "sharding/mpi_session.h"
#include "tests/mpi_main.h"
#include "tests/runtime/support/training_case.h"

namespace zerostep::testing {
namespace {

struct MpiCase {
  int stage;
  int64_t accumulation;
  DType type;
  int64_t segments;
  MpiPath path;
};

std::string name_of_case(const ::testing::TestParamInfo<MpiCase>& info) {
  const MpiCase& c = info.param;
  return fmt::format("stage{}_accumulation{}_{}_{}_{}", c.stage, c.accumulation, name_of(c.type), c.segments == 0 ? "plain" : "recompute",
                     c.path == MpiPath::Plain ? "messages" : "shared");
}

class MpiEquivalence : public ::testing::TestWithParam<MpiCase> {};

// Processes under mpirun give, bit for bit, what the rank-ordered plain loop gives, through shared memory and through messages.
TEST_P(MpiEquivalence, EqualsThePlainLoopBitwise) {
  const MpiCase& c = GetParam();
  Communicator world = make_mpi_communicator(test::mpi_session(), {.timeout_seconds = 60}, c.path);
  TrainingCase test = TrainingCase::tiny();
  test.config.zero.stage = c.stage;
  test.config.zero.overlap_comm = c.stage >= 2;
  test.config.precision.compute = c.type;
  test.config.precision.initial_scale_power = 12;
  test.config.number_checkpoints = c.segments;
  if (test.global_batch % (c.accumulation * world.size()) != 0) test.global_batch = c.accumulation * world.size();
  test.set_micro_batch(test.global_batch / (c.accumulation * world.size()), world.size());
  const TrainingOutcome reference = run_reference(test, world.size());
  const TrainingOutcome engine = run_engine(test, world);
  EXPECT_EQ(engine.losses, reference.losses);
  EXPECT_EQ(engine.norms, reference.norms);
  EXPECT_EQ(engine.parameters, reference.parameters);
  EXPECT_EQ(engine.last.elements_gathered, engine.planned_gathered);
  EXPECT_EQ(engine.last.elements_reduced, engine.planned_reduced);
}

std::vector<MpiCase> all_cases() {
  std::vector<MpiCase> out;
  for (int stage : {0, 1, 2, 3})
    for (int64_t accumulation : {1, 2})
      for (DType type : {DType::F32, DType::BF16, DType::F16})
        for (int64_t segments : {int64_t{0}, int64_t{-1}}) {
          out.push_back({stage, accumulation, type, segments, MpiPath::Auto});
          if (type == DType::F32 && segments == 0) out.push_back({stage, accumulation, type, segments, MpiPath::Plain});
        }
  return out;
}
INSTANTIATE_TEST_SUITE_P(All, MpiEquivalence, ::testing::ValuesIn(all_cases()), name_of_case);

// Gradients of matrices travel to their owners and updates back between processes as they do between threads.
TEST(MpiMatrixOptimizer, MakesWhatThreadsMakeBitwise) {
  for (const MpiPath path : {MpiPath::Auto, MpiPath::Plain})
    for (const auto type : {OptimizerConfig::Type::Muon, OptimizerConfig::Type::MuDaMW})
      for (const int stage : {0, 1, 2, 3}) {
        Communicator world = make_mpi_communicator(test::mpi_session(), {.timeout_seconds = 60}, path);
        TrainingCase test = TrainingCase::tiny();
        test.config.optimizer.type = type;
        test.config.optimizer.momentum = 0.9;
        test.config.optimizer.cautious = type == OptimizerConfig::Type::MuDaMW;
        test.config.zero.stage = stage;
        test.set_micro_batch(test.global_batch / world.size(), world.size());
        const TrainingOutcome processes = run_engine(test, world), threads = run_engine_threads(test, world.size());
        EXPECT_EQ(processes.losses, threads.losses) << "stage " << stage;
        EXPECT_EQ(processes.parameters, threads.parameters) << "stage " << stage;
        if (world.rank() == 0) {
          EXPECT_EQ(processes.last.elements_gathered, processes.planned_gathered) << "stage " << stage;
        }
      }
}

// A rank that passes its limit ends the run of all.
TEST(MpiMemory, ARankBeyondItsLimitEndsAll) {
  ASSERT_GT(test::mpi_session().size(), 1) << "run it with mpirun";
  for (const MpiPath path : {MpiPath::Auto, MpiPath::Plain}) {
    Communicator world = make_mpi_communicator(test::mpi_session(), {.timeout_seconds = 120}, path);
    TrainingCase test = TrainingCase::tiny();
    test.config.zero.stage = 3;
    test.set_micro_batch(test.global_batch / world.size(), world.size());
    // Enough for the batch of rank 1, not for the first unit's output.
    const auto model = make_gpt2(test.model);
    const int64_t arenas = plan_training(test.config, *model, *make_cross_entropy(), world.size()).any_step().device_arena_bytes();
    const int64_t limit = arenas + test.config.batch.micro_batch_size * test.sequence * 2 * 8 + 256;
    if (world.rank() == 1) test.config.run.device_memory = limit;
    const auto start = std::chrono::steady_clock::now();
    std::string text;
    try {
      run_engine(test, world);
    } catch (const RunError& error) {
      text = error.what();
      world.abort(text);
    }
    EXPECT_NE(text.find("rank 1"), std::string::npos) << text;
    EXPECT_NE(text.find("run.device_memory is " + grouped(limit) + " bytes"), std::string::npos) << text;
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60)) << "waited for the time-out";
  }
}

}  // namespace
}  // namespace zerostep::testing
