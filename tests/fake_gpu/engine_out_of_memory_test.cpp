#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "base/format.h"
#include "fake_gpu/engine_case.h"
#include "offload/flat_kernels.h"
#include "runtime/plan/cost.h"
#include "tests/support/expect_says.h"

// Training on a fake GPU that has too little memory for it.
namespace zerostep::testing {
namespace {

// On a GPU of 32 MiB (FAKE_GPU_MEMORY): what other programs take there, and a run that needs more than they leave.
std::string refused_beside(int64_t left_bytes, int64_t device_memory, int64_t* planned_bytes = nullptr) {
  const Device gpu = Device::cuda(0);
  Arena others = gpu.memory("others", gpu.memory_info().free_bytes - left_bytes);
  ZerothOrderCase test = case_of(kEngineKinds[0], {0, 1, DType::F32, 1, 0.0});
  test.config.run.device_memory = device_memory;
  std::string text;
  try {
    run_zeroth_order_threads(test, 1, {.device = gpu, .change_plan = [&](TrainingPlan& plan) {
                                         plan.device_peak_bytes = 1234567;
                                         if (planned_bytes != nullptr)
                                           *planned_bytes = plan.any_step().device_arena_bytes() +
                                                            kernel_scratch(test.config, plan.any_step().options).num_bytes();
                                       }});
  } catch (const RunError& error) {
    text = error.what();
  }
  return text;
}

TEST(CudaEngineMemory, ATensorThatDoesNotFitIsToldWithItsUnitAndThePlan) {
  for (const int64_t limit : {int64_t{0}, int64_t{1500000}}) {
    int64_t arenas = 0;
    const std::string text = refused_beside(limit > 0 ? 16 << 20 : (1 << 20) + FlatKernels::kSumScratchBytes, limit, &arenas);
    for (const std::string& part :
         {std::string("rank 0, step 0, forward of unit embedding: needs "), fmt::format("{} of them in arenas", grouped(arenas)),
          std::string("in tensors that are there and "), std::string("1,234,567 bytes (1.18 MiB) were planned in all"),
          std::string("cuda:0 has 33,554,432 bytes (32.0 MiB)"),
          std::string(limit > 0 ? "run.device_memory is 1,500,000 bytes (1.43 MiB): raise it" : "end other programs there")})
      EXPECT_SAYS(text, part);
  }
}

TEST(CudaEngineMemory, ArenasThatDoNotFitAreToldWithThePlan) {
  int64_t arenas = 0;
  // What is left has room for the buffers, and for the scratch of kernels beside them it has none.
  const int64_t left = FlatKernels::kSumScratchBytes;
  const std::string text = refused_beside(left, 0, &arenas);
  EXPECT_LE(arenas - left, left);
  EXPECT_SAYS(text, fmt::format("cuda:0 (Fake GPU) has {} of 32.0 MiB free, and the plan takes {} for the runtime's arenas and the "
                                "scratch of its kernels and 1.18 MiB at its peak",
                                human_bytes(left), human_bytes(arenas)));
}

}  // namespace
}  // namespace zerostep::testing
