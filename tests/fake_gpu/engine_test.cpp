#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <mutex>
#include <vector>

#include "base/nth.h"
#include "fake_gpu/counted_waits.h"
#include "fake_gpu/engine_case.h"
#include "fake_gpu/fake_gpu.h"
#include "fake_gpu/kernels_on_processor.h"
#include "offload/flat_kernels.h"
#include "runtime/memory/device_batch.h"
#include "runtime/plan/cost.h"
#include "tests/runtime/support/zeroth_order_case.h"

// Training on the fake GPU, a device a rank, against the same runs on the processor, whose units run as there.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;
using Between = EngineSetup::Between;

// `objective`: nullptr: cross-entropy.
ZerothOrderOutcome on_processor(const ZerothOrderCase& test, int world, const Objective* objective) {
  const AsOnGpu as_there;
  return run_zeroth_order_threads(test, world, {.objective = objective});
}

// A GPU each, but for ranks that read each other's memory, which share one. Each rank's own thread, which launches, waits for its GPU as
// often as it must.
ZerothOrderOutcome on_gpus(const ZerothOrderCase& test, int world, const Objective* objective, Between between) {
  EngineSetup setup{.objective = objective,
                    .device_of_rank = [=](int rank) { return Device::cuda(between == Between::Threads ? 0 : rank); },
                    .between = between};
  count_waits(test, world, setup);
  return run_zeroth_order_threads(test, world, setup);
}

// The norm of a gradient is summed in fp64 in another order: 1e-6 of it is more than a rounding to fp32.
void expect_near(const std::vector<double>& found, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], tolerance * std::abs(expected[i])) << "value " << i;
}

class CudaEngine : public ::testing::TestWithParam<EngineKind> {};

TEST_P(CudaEngine, GivesTheBitsOfTheProcessor) {
  const auto factored = make_factored_cross_entropy(1);  // in parts of 64 words
  int index = 0;
  for (const int stage : {0, 1, 2, 3})
    for (const int world : {1, 2, 4})
      for (const DType compute : {DType::F32, DType::BF16}) {
        // Every two values of what changes meet somewhere: types, ranks, stages, micro-batches, dropout, and what is between the ranks.
        const EngineShape shape{stage, world, compute, index % 4 < 2 ? 2 : 1, index % 5 == 0 ? 0.1 : 0.0};
        constexpr std::array kBetween{Between::Staged, Between::Threads, Between::Nccl};
        const Between between = nth(kBetween, (index + index / 3) % 3);
        SCOPED_TRACE(fmt::format("stage {}, {} ranks, {}, {} micro-batches, dropout {}, {}", stage, world, name_of(compute),
                                 shape.accumulation, shape.dropout, name_of(between)));
        ZerothOrderCase test = case_of(GetParam(), shape);
        const Objective* objective = index % 8 < 4 ? factored.get() : nullptr;
        if (objective != nullptr) test.model.vocab_size = 150;
        ++index;
        const ZerothOrderOutcome expected = on_processor(test, world, objective), found = on_gpus(test, world, objective, between);
        expect_near(found.norms, expected.norms, 1e-6);
        EXPECT_EQ(found.losses, expected.losses);
        EXPECT_EQ(found.scalars, expected.scalars);
        EXPECT_EQ(found.parameters, expected.parameters);
      }
}

// With NCCL's own sums a run is another one in its last bits.
TEST(CudaEngineSums, AreOfNcclWhereTheyMayBe) {
  for (const int stage : {0, 2}) {
    ZerothOrderCase test = case_of(kEngineKinds[0], {stage, 4, DType::F32, 1, 0.0});
    const ZerothOrderOutcome expected = on_gpus(test, 4, nullptr, Between::Nccl);
    const char* call = stage == 0 ? "ncclAllReduce" : "ncclReduceScatter";
    EXPECT_EQ(fake_gpu::num_calls(call), 0);
    test.config.run.deterministic = false;
    const ZerothOrderOutcome found = on_gpus(test, 4, nullptr, Between::Nccl);
    EXPECT_GT(fake_gpu::num_calls(call), 0);
    EXPECT_NE(found.parameters, expected.parameters);
    expect_like(found, expected, test);
  }
}

// The logits of a batch and their gradient are in no plan where the loss takes factors, and in no run.
TEST(CudaEngineFactors, TakeWhatIsPlanned) {
  for (const DType type : {DType::F32, DType::BF16}) {
    SCOPED_TRACE(name_of(type));
    ZerothOrderCase test = case_of(kEngineKinds[0], {0, 1, type, 1, 0.0});
    test.model.vocab_size = 5000;
    const auto factored = make_factored_cross_entropy(1);
    const auto run = [&](const Objective* objective) {
      return run_zeroth_order_threads(test, 1, {.objective = objective, .device = Device::cuda(0)});
    };
    const ZerothOrderOutcome parts = run(factored.get()), whole = run(nullptr);
    const int64_t logits = num_bytes(ZerothOrderCase::kMicroBatch * test.config.data.sequence_length * test.model.vocab_size, type);
    EXPECT_LT(parts.planned_peak, whole.planned_peak - logits);
    EXPECT_LT(parts.measured_peak, whole.measured_peak - logits);
    EXPECT_NEAR(static_cast<double>(parts.measured_peak), static_cast<double>(parts.planned_peak),
                0.05 * static_cast<double>(parts.planned_peak));
  }
}

// In the plan of a GPU is memory for the values of the other ranks, which its sums take, and for its kernels, and nothing else that a
// processor's has not. All of it is there before the first step.
TEST(CudaEngineSums, TakeMemoryThatIsPlanned) {
  for (const int stage : {0, 1, 2, 3})
    for (const int world : {1, 2, 4}) {
      SCOPED_TRACE(fmt::format("stage {}, {} ranks", stage, world));
      ZerothOrderCase test = case_of(kEngineKinds[0], {stage, world, DType::F32, 1, 0.0});
      test.steps = 1;
      int64_t planned = 0, largest = 0, on_host = 0, taken = 0;
      const auto count = [&](const TrainingPlan& plan, int64_t* values) {
        for (const PlannedBuffer& b : plan.any_step().buffers)
          if (b.name == "values of other ranks") *values += b.bytes;
        return plan.any_step().device_arena_bytes();
      };
      int64_t of_gpu = 0, of_kernels = 0;
      run_zeroth_order_threads(test, world,
                               {.before_step =
                                    [&](int64_t, Engine& engine) {
                                      if (engine.rank() == 0) taken = engine.arena_bytes(Tier::Device);
                                    },
                                .device_of_rank = [](int rank) { return Device::cuda(rank); },
                                .change_plan =
                                    [&](TrainingPlan& plan) {
                                      static std::mutex mutex;
                                      const std::lock_guard lock(mutex);
                                      planned = largest = 0;
                                      of_gpu = count(plan, &planned);
                                      of_kernels = kernel_scratch(test.config, plan.any_step().options).num_bytes();
                                      for (const Action& a : plan.any_step().actions) {
                                        int64_t elements = 0;
                                        for (const CollectivePart& part : a.parts)
                                          if (a.kind == ActionKind::Reduce) elements += elements_of_part(plan.layout, part);
                                        largest = std::max(largest, elements);
                                      }
                                    }});
      test.config.run.device = "cpu";
      int64_t none = 0;
      run_zeroth_order_threads(test, world, {.change_plan = [&](TrainingPlan& plan) {
                                 static std::mutex mutex;
                                 const std::lock_guard lock(mutex);
                                 on_host = count(plan, &none);
                               }});
      EXPECT_EQ(none, 0);
      EXPECT_EQ(planned, world == 1 ? 0 : largest / world * (world - 1) * 4 + kAlignmentBytes);
      EXPECT_EQ(of_gpu - on_host, planned);
      EXPECT_EQ(of_kernels, FlatKernels::kSumScratchBytes);  // of one stream, whichever sums squares
      EXPECT_EQ(taken, of_gpu + of_kernels);
    }
}

// A step of one rank waits for its device once, where its scalars are read, and copies nothing that blocks; after the first two steps it
// takes no memory of CUDA's. A trace and a breakdown change nothing of that, and without them nothing is timed.
TEST_P(CudaEngine, WaitsOnceAStep) {
  for (const EngineShape& shape :
       {EngineShape{0, 1, DType::F32, 2, 0.1}, EngineShape{3, 1, DType::BF16, 2, 0.1}, EngineShape{3, 1, DType::F32, 1, 0.0}}) {
    const bool is_timed = shape.accumulation == 1;
    SCOPED_TRACE(fmt::format("stage {}, timed {}", shape.stage, is_timed));
    ZerothOrderCase test = case_of(GetParam(), shape);
    test.steps = 5;
    test.config.run.trace = test.config.wall_clock_breakdown = is_timed;
    const int64_t times = fake_gpu::num_calls("cudaEventElapsedTime");
    std::vector<std::vector<int64_t>> calls;
    run_zeroth_order_threads(
        test, 1,
        {.before_step =
             [&](int64_t, Engine&) {
               calls.push_back({fake_gpu::num_host_waits(), fake_gpu::num_pageable_copies(), fake_gpu::num_calls("cudaMalloc"),
                                fake_gpu::num_calls("cudaHostAlloc"), fake_gpu::num_calls("cudaLaunchHostFunc")});
             },
         .device = Device::cuda(0)});
    for (size_t step = 2; step + 1 < calls.size(); ++step) {
      const bool looks_at_gradient = GetParam().mode == Mode::Instruct && step % 2 == 1;
      EXPECT_EQ(calls[step + 1][0] - calls[step][0] == 1, !looks_at_gradient) << "step " << step;
      for (size_t kind : {1, 2, 3, 4}) EXPECT_EQ(calls[step + 1][kind], calls[step][kind]) << "step " << step << ", kind " << kind;
    }
    EXPECT_EQ(fake_gpu::num_calls("cudaEventElapsedTime") > times, is_timed);
  }
}

// What else a step asks its estimate costs a wait each (counted_waits.h).
TEST(CudaEngineWaits, AreCountedWhereAnEstimateIsMeasured) {
  for (const bool compares : {false, true})
    for (const int world : {1, 2}) {
      SCOPED_TRACE(fmt::format("{} ranks, compares {}", world, compares));
      ZerothOrderCase test = case_of({"", compares ? Mode::Calibrate : Mode::ZerothOrder}, {2, world, DType::F32, 1, 0.0});
      test.config.step.monitor_interval = compares ? 2 : 0;
      test.config.step.exact_norm = !compares;
      test.steps = 5;
      const ZerothOrderOutcome found = on_gpus(test, world, nullptr, Between::Nccl), expected = on_processor(test, world, nullptr);
      EXPECT_EQ(found.losses, expected.losses);
      EXPECT_EQ(found.parameters, expected.parameters);
    }
}

TEST(CudaBatch, TensorsComeInOneCopyAndNobodyWaits) {
  const Device gpu = Device::cuda(0);
  gpu.load_operators();
  std::vector<Batch> batches(2);
  for (Batch& batch : batches) {
    batch.tokens = at::arange(6).view({2, 3});
    batch.labels = at::arange(10, 12).view({2, 1});
    batch.mask = batch.tokens.gt(2);
    batch.word_positions = at::arange(20, 22);
    batch.sample_ids = {4, 5};
  }
  Stream stream = gpu.compute_stream();
  stream.launch([&] { bring_to_device({&batches[0]}, gpu); });
  stream.synchronize();  // the pinned block and the device's are there from now on, and free
  const std::vector<Batch> before = {batches[1]};
  const int64_t waits = fake_gpu::num_host_waits(), copies = fake_gpu::num_calls("cudaMemcpyAsync"),
                pageable = fake_gpu::num_pageable_copies();
  stream.launch([&] { bring_to_device({&batches[1]}, gpu); });
  EXPECT_EQ(fake_gpu::num_host_waits(), waits);
  EXPECT_EQ(fake_gpu::num_calls("cudaMemcpyAsync"), copies + 1);
  EXPECT_EQ(fake_gpu::num_pageable_copies(), pageable);
  stream.synchronize();
  for (at::Tensor Batch::*tensor : {&Batch::tokens, &Batch::labels, &Batch::mask, &Batch::word_positions}) {
    EXPECT_TRUE((batches[1].*tensor).is_cuda());
    EXPECT_TRUE((batches[1].*tensor).cpu().equal(before[0].*tensor));
  }
  EXPECT_FALSE(batches[1].positions.defined());
  EXPECT_EQ(batches[1].sample_ids, before[0].sample_ids);
}

INSTANTIATE_TEST_SUITE_P(Kinds, CudaEngine, ::testing::ValuesIn(kEngineKinds), [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace zerostep::testing
