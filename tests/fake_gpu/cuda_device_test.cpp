#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "base/device.h"
#include "base/error.h"
#include "fake_gpu/fake_gpu.h"
#include "fake_gpu/test_kernels.h"
#include "tests/support/expect_says.h"
#include "tests/support/gate.h"
#include "tests/support/message_of.h"

// What a Device of a GPU does that only the fake GPU shows: which calls it makes, and what it does with two GPUs, or none. LibTorch counts
// the GPUs once in a process, so where something is launched there are two.
namespace fake_gpu {
namespace {

using zerostep::Arena;
using zerostep::Device;
using zerostep::Event;
using zerostep::MemoryKind;
using zerostep::Stream;
using zerostep::testing::Gate;
using zerostep::testing::message_of;

TEST(CudaDeviceOnFakeGpu, QueuesAStepWithoutWaitingAndWithoutPageableCopies) {
  configure({.num_devices = 2, .is_strict = true, .jitter_microseconds = 50});
  {
    const Device gpu = Device::cuda(0);
    constexpr int64_t kCount = 1000, kBytes = 4 * kCount;
    Stream compute = gpu.compute_stream(), in = gpu.stream("in"), out = gpu.stream("out"), host = gpu.host_stream("host");
    Arena device = gpu.memory("device", 4096), pinned = gpu.memory("pinned", 8192, MemoryKind::PinnedHost);
    auto* const values = static_cast<float*>(device.allocate(kBytes, "values"));
    auto* const given = static_cast<float*>(pinned.allocate(kBytes, "given"));
    auto* const found = static_cast<float*>(pinned.allocate(kBytes, "found"));
    Gate gate;
    const int64_t waits = num_host_waits(), host_functions = num_calls("cudaLaunchHostFunc");
    in.wait(host.enqueue([&] {
      gate.pass();
      std::fill_n(given, kCount, 1.0f);
    }));
    compute.wait(gpu.copy(in, values, given, kBytes));
    Event computed;
    for (int i = 0; i < 3; ++i)
      computed = compute.launch([&] {
        const auto stream = static_cast<cudaStream_t>(compute.native_handle());
        ASSERT_EQ(scale_and_number(stream, values, kCount, 2, 2), cudaSuccess);
      });
    out.wait(computed);
    const Event done = gpu.copy(out, found, values, kBytes);
    EXPECT_FALSE(done.ready());
    EXPECT_EQ(num_host_waits(), waits);
    EXPECT_EQ(num_pageable_copies(), 0);
    EXPECT_EQ(num_calls("cudaLaunchHostFunc"), host_functions);
    EXPECT_EQ(num_launches(), 3);
    gate.open();
    done.wait();
    EXPECT_EQ(num_host_waits(), waits + 1);
    EXPECT_EQ(found[0], 8);
    EXPECT_EQ(found[kCount - 1], 8 + 7.0f * (kCount - 1));
    const int64_t events = num_calls("cudaEventCreateWithFlags");
    for (int i = 0; i < 10; ++i) compute.record();
    EXPECT_LE(num_calls("cudaEventCreateWithFlags"), events + 1) << "events are used again";
  }
  configure({});  // nothing is left allocated
}

TEST(CudaDeviceOnFakeGpu, TwoGpusExchangeDataAndFailures) {
  configure({.num_devices = 2, .is_strict = true, .jitter_microseconds = 100});
  const Device first = Device::cuda(0), second = Device::cuda(1);
  EXPECT_EQ(second.name(), "cuda:1");
  Stream on_first = first.compute_stream(), on_second = second.compute_stream();
  Arena memory = first.memory("memory", 64), other = second.memory("other", 64),
        pinned = first.memory("pinned", 64, MemoryKind::PinnedHost);
  auto* const values = static_cast<float*>(memory.allocate(64, "values"));
  auto* const others = static_cast<float*>(other.allocate(64, "others"));
  auto* const found = static_cast<float*>(pinned.allocate(64, "found"));
  EXPECT_EQ(second.memory_info().free_bytes, second.memory_info().total_bytes - 64);
  on_second.launch(
      [&] { ASSERT_EQ(scale_and_number(static_cast<cudaStream_t>(on_second.native_handle()), others, 16, 1, 1), cudaSuccess); });
  on_first.wait(on_second.record());
  first.copy(on_first, values, others, 64);
  on_first.launch([&] { ASSERT_EQ(scale_and_number(static_cast<cudaStream_t>(on_first.native_handle()), values, 16, 1, 1), cudaSuccess); });
  first.copy(on_first, found, values, 64).wait();
  EXPECT_EQ(found[15], 30);

  Gate gate;
  const Event failed = on_second.enqueue([&] {
    gate.pass();
    throw zerostep::RunError("on the second");
  });
  on_first.wait(failed);
  bool ran = false;
  const Event behind = on_first.enqueue([&] { ran = true; });
  gate.open();
  EXPECT_EQ(message_of([&] { behind.wait(); }), "on the second");
  EXPECT_FALSE(ran);
}

TEST(CudaDeviceOnFakeGpu, LeavesNothingPinnedWhereTheDriverCannotWaitForTheHost) {
  configure({.num_devices = 2, .has_wait_for_value = false});
  Gate gate;
  const Device gpu = Device::cuda(0);
  Stream stream = gpu.stream("stream"), host = gpu.host_stream("host");
  stream.wait(host.enqueue([&] { gate.pass(); }));
  EXPECT_SAYS(message_of([&] { stream.synchronize(); }), "has no cuStreamWaitValue32");
  EXPECT_EQ(num_calls("cudaHostAlloc"), 1);
  EXPECT_EQ(num_calls("cudaFreeHost"), 1);
  gate.open();
}

TEST(CudaDeviceOnFakeGpu, SaysWhatIsMissingWhereNoGpuAnswers) {
  configure({.num_devices = 0});
  const std::string text = message_of([] { Device::cuda(0); });
  for (const char* part : {"no GPU answers", "cudaErrorNoDevice", "nvidia-smi", "driver"}) EXPECT_SAYS(text, part);
}

TEST(CudaDeviceOnFakeGpu, MemoryIsNamedWithWhatIsFree) {
  configure({.memory_bytes = int64_t{3} << 20});
  const Device gpu = Device::cuda(0);
  const Arena weights = gpu.memory("weights", int64_t{2} << 20);
  EXPECT_EQ(gpu.memory_info().free_bytes, int64_t{1} << 20);
  const std::string text = message_of([&] { gpu.memory("gradients", int64_t{2} << 20); });
  EXPECT_SAYS(text, "'gradients' needs 2.00 MiB of device memory, and 1.00 MiB of 3.00 MiB are free");
}

}  // namespace
}  // namespace fake_gpu
