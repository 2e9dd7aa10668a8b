#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fake_gpu/fake_gpu.h"
#include "models/kernel_rows.h"
#include "runtime/engine/device_batch.h"
#include "tests/runtime/support/zeroth_order_case.h"

// Training on the fake GPU, a device a rank, against the same runs on the processor, whose units run as on a device without kernels.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

struct Kind {
  std::string name;
  Mode mode;
  StepConfig::Perturbation perturbation = StepConfig::Perturbation::Gaussian;
  bool recomputes = false;
};
const std::vector<Kind> kKinds = {{"fo", Mode::FirstOrder},
                                  {"recompute", Mode::FirstOrder, StepConfig::Perturbation::Gaussian, true},
                                  {"gaussian", Mode::ZerothOrder},
                                  {"rademacher", Mode::ZerothOrder, StepConfig::Perturbation::Rademacher},
                                  {"low_rank", Mode::ZerothOrder, StepConfig::Perturbation::LowRank},
                                  {"instruct", Mode::Instruct}};

struct Shape {
  int stage, world;
  DType compute;
  int accumulation;
  double dropout;
};

ZerothOrderCase case_of(const Kind& kind, const Shape& shape) {
  ZerothOrderCase test = ZerothOrderCase::tiny(kind.mode);
  Config& config = test.config;
  config.run.device = "cuda";
  config.zero.stage = shape.stage;
  config.zero.overlap_comm = true;
  config.zero.stage3_max_live_parameters = 4000;
  config.zero.stage3_prefetch_bucket_size = 2000;
  config.step.perturbation = kind.perturbation;
  config.step.bp_interval = 2;
  config.gradient_clipping = 0;
  config.precision.compute = shape.compute;
  config.number_checkpoints = kind.recomputes ? -1 : 0;
  test.model.resid_pdrop = test.model.embd_pdrop = test.model.attn_pdrop = shape.dropout;
  test.global_batch = ZerothOrderCase::kMicroBatch * shape.world * shape.accumulation;
  test.steps = 3;
  return test;
}

ZerothOrderOutcome on_processor(const ZerothOrderCase& test, int world) {
  const WithoutKernels as_there;
  return run_zeroth_order_threads(test, world);
}

ZerothOrderOutcome on_gpus(const ZerothOrderCase& test, int world) {
  return run_zeroth_order_threads(test, world, {.device_of_rank = [](int rank) { return Device::cuda(rank); }});
}

// The norm of a gradient is summed in fp64 in another order: 1e-6 of it is more than a rounding to fp32.
void expect_near(const std::vector<double>& found, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], tolerance * std::abs(expected[i])) << "value " << i;
}

class CudaEngine : public ::testing::TestWithParam<Kind> {};

TEST_P(CudaEngine, GivesTheBitsOfTheProcessor) {
  int index = 0;
  for (const int stage : {0, 1, 2, 3})
    for (const int world : {1, 2, 4})
      for (const DType compute : {DType::F32, DType::BF16}) {
        if (++index % 4 == 2 || index % 4 == 3) continue;  // every stage and every number of ranks has both types
        const Shape shape{stage, world, compute, index % 8 < 4 ? 2 : 1, index % 5 < 2 ? 0.1 : 0.0};
        SCOPED_TRACE(fmt::format("stage {}, {} ranks, {}, {} micro-batches, dropout {}", stage, world, name_of(compute), shape.accumulation,
                                 shape.dropout));
        const ZerothOrderCase test = case_of(GetParam(), shape);
        const ZerothOrderOutcome expected = on_processor(test, world), found = on_gpus(test, world);
        expect_near(found.norms, expected.norms, 1e-6);
        // Directions that are made of the gradient depend on its norm, and with it on that order.
        const bool is_bitwise = GetParam().mode != Mode::Instruct;
        if (is_bitwise) {
          EXPECT_EQ(found.losses, expected.losses);
          EXPECT_EQ(found.scalars, expected.scalars);
          EXPECT_EQ(found.parameters, expected.parameters);
        } else {
          EXPECT_LT(relative_difference(found.parameters, expected.parameters, first_values(test)), 1e-3);
        }
      }
}

// A step of one rank waits for its device once, where its scalars are read, and copies nothing that blocks; after the first two steps it
// takes no memory of CUDA's.
TEST_P(CudaEngine, WaitsOnceAStep) {
  for (const Shape& shape : {Shape{0, 1, DType::F32, 2, 0.1}, Shape{3, 1, DType::BF16, 2, 0.1}}) {
    SCOPED_TRACE(fmt::format("stage {}", shape.stage));
    ZerothOrderCase test = case_of(GetParam(), shape);
    test.steps = 5;
    std::vector<std::vector<int64_t>> calls;
    run_zeroth_order_threads(test, 1,
                             {.before_step =
                                  [&](int64_t, Engine&) {
                                    calls.push_back({fake_gpu::num_host_waits(), fake_gpu::num_pageable_copies(),
                                                     fake_gpu::num_calls("cudaMalloc"), fake_gpu::num_calls("cudaHostAlloc")});
                                  },
                              .device = Device::cuda(0)});
    for (size_t step = 2; step + 1 < calls.size(); ++step) {
      const bool looks_at_gradient = GetParam().mode == Mode::Instruct && step % 2 == 1;
      EXPECT_EQ(calls[step + 1][0] - calls[step][0] == 1, !looks_at_gradient) << "step " << step;
      for (size_t kind : {1, 2, 3}) EXPECT_EQ(calls[step + 1][kind], calls[step][kind]) << "step " << step << ", kind " << kind;
    }
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
  bring_to_device({&batches[0]}, gpu);  // the pinned block and the device's are there from now on
  const std::vector<Batch> before = {batches[1]};
  Stream stream = gpu.compute_stream();
  const int64_t waits = fake_gpu::num_host_waits(), copies = fake_gpu::num_calls("cudaMemcpyAsync");
  stream.launch([&] { bring_to_device({&batches[1]}, gpu); });
  EXPECT_EQ(fake_gpu::num_host_waits(), waits);
  EXPECT_EQ(fake_gpu::num_calls("cudaMemcpyAsync"), copies + 1);
  EXPECT_EQ(fake_gpu::num_pageable_copies(), 0);
  stream.synchronize();
  for (at::Tensor Batch::*tensor : {&Batch::tokens, &Batch::labels, &Batch::mask, &Batch::word_positions}) {
    EXPECT_TRUE((batches[1].*tensor).is_cuda());
    EXPECT_TRUE((batches[1].*tensor).cpu().equal(before[0].*tensor));
  }
  EXPECT_FALSE(batches[1].positions.defined());
  EXPECT_EQ(batches[1].sample_ids, before[0].sample_ids);
}

INSTANTIATE_TEST_SUITE_P(Kinds, CudaEngine, ::testing::ValuesIn(kKinds), [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace zerostep::testing
