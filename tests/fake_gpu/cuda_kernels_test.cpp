#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "fake_gpu/fake_gpu.h"
#include "offload/flat_kernels.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

// What the flat kernels of a GPU call, which only the fake GPU shows.
namespace fake_gpu {
namespace {

using namespace zerostep;
using zerostep::testing::message_of;

TEST(CudaKernelsOnFakeGpu, NeitherWaitNorAllocateNorCopyPageableMemoryOnceAStreamHasItsScratch) {
  configure({.num_devices = 2, .is_strict = true, .jitter_microseconds = 20});
  {
    const Device gpu = Device::cuda(1);
    const FlatKernels& kernels = kernels_of(gpu);
    const Stream stream = gpu.compute_stream();
    constexpr int64_t kRows = 40, kColumns = 50, kCount = kRows * kColumns;
    Arena memory = gpu.memory("memory", 1 << 20);
    const auto array = [&] { return static_cast<float*>(memory.allocate(4 * kCount, "array")); };
    float *const a = array(), *const b = array(), *const c = array(), *const d = array();
    auto* const sums = static_cast<double*>(memory.allocate(8 * kEnergyBins, "sums"));
    NoiseSource low_rank;
    low_rank.rank = 2;
    const std::vector<uint32_t> numbers = {0, 1};
    const std::vector<float> scalars = {1, -1};
    const ParameterPiece piece{0, kRows, kColumns, 0, kCount};
    const auto run = [&] {
      kernels.zero(a, DType::F32, kCount, stream);
      kernels.cast(a, DType::F32, b, DType::BF16, kCount, stream);
      kernels.cast(a, DType::F32, b, DType::F32, kCount, stream);
      kernels.add(a, b, kCount, stream);
      kernels.scale(2, b, kCount, stream);
      kernels.add_squares(b, kCount, sums, stream);
      kernels.draw(piece, low_rank, c, stream);
      Perturbation given{piece, {}, nullptr};
      given.values.base = c;
      given.values.plus = d;
      kernels.perturb({&given, 1}, Direction{low_rank, {}, 0, 1}, 1, stream);
      const LowRankFactors factors{piece, low_rank, 1, {1, -1}, a, b};
      kernels.low_rank_factors({&factors, 1}, stream);
      const Gradient gradient{Gradient::Kind::Estimate, nullptr, {low_rank, numbers.data(), scalars.data(), 2, 1, {}, 0, 0}};
      kernels.estimate(piece, gradient, d, stream);
      kernels.add_gradient_sums(piece, gradient, sums, stream);
      kernels.add_direction_sums(piece, low_rank, 2, {}, d, sums, stream);
      kernels.add_energy(d, kCount, -1, sums, stream);
      PieceUpdate update;
      update.piece = piece;
      update.gradient = gradient;
      update.masters = a;
      update.states = {b, c};
      kernels.update(update, AdamParameters{0.9, 0.99, 1e-8, 1e-3, 1, true}, stream);
    };
    run();
    const int64_t allocations = num_calls("cudaMalloc"), waits = num_host_waits(), launches = num_launches();
    run();
    EXPECT_EQ(num_calls("cudaMalloc"), allocations);
    EXPECT_EQ(num_host_waits(), waits);
    EXPECT_EQ(num_pageable_copies(), 0);
    EXPECT_EQ(num_launches(), 2 * launches);
    Stream(stream).synchronize();
  }
  configure({});  // the scratch memory ends with the device
}

TEST(CudaKernelsOnFakeGpu, TellWhatCannotBeQueued) {
  configure({});
  const Device gpu = Device::cuda(0);
  Arena memory = gpu.memory("memory", 64);
  auto* const values = static_cast<float*>(memory.allocate(64, "values"));
  const std::string text = message_of([&] { kernels_of(gpu).zero(values, DType::F32, 1 << 20, gpu.compute_stream()); });
  for (const char* part : {"[cuda:0]", "a kernel cannot be queued", "cudaErrorInvalidValue"}) EXPECT_SAYS(text, part);
}

}  // namespace
}  // namespace fake_gpu
