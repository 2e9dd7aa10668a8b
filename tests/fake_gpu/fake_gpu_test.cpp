#include "fake_gpu/fake_gpu.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

#include "fake_gpu/test_kernels.h"
#include "tests/support/gate.h"

namespace fake_gpu {
namespace {

using zerostep::testing::Gate;

#define EXPECT_CUDA(call) EXPECT_EQ(call, cudaSuccess)

struct Stream {
  Stream() { EXPECT_CUDA(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(handle); }
  operator cudaStream_t() const { return handle; }
  cudaStream_t handle = nullptr;
};

struct Event {
  explicit Event(unsigned flags = cudaEventDisableTiming) { EXPECT_CUDA(cudaEventCreateWithFlags(&handle, flags)); }
  ~Event() { cudaEventDestroy(handle); }
  operator cudaEvent_t() const { return handle; }
  cudaEvent_t handle = nullptr;
};

// `count` floats of a device, or of the host and pinned.
struct Floats {
  Floats(int64_t count, bool is_on_device) : is_on_device(is_on_device) {
    void* memory = nullptr;
    const size_t num_bytes = sizeof(float) * static_cast<size_t>(count);
    if (is_on_device)
      EXPECT_CUDA(cudaMalloc(&memory, num_bytes));
    else
      EXPECT_CUDA(cudaHostAlloc(&memory, num_bytes, cudaHostAllocDefault));
    data = static_cast<float*>(memory);
  }
  ~Floats() { is_on_device ? cudaFree(data) : cudaFreeHost(data); }
  bool is_on_device;
  float* data = nullptr;
};
Floats on_device(int64_t count) { return {count, true}; }
Floats pinned(int64_t count) { return {count, false}; }

cudaError_t copy(float* to, const float* from, int64_t count, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, sizeof(float) * static_cast<size_t>(count), cudaMemcpyDefault, stream);
}

// A host function: holds its stream back until the gate is opened.
cudaError_t hold_back(cudaStream_t stream, Gate& gate) {
  return cudaLaunchHostFunc(
      stream, [](void* data) { static_cast<Gate*>(data)->pass(); }, &gate);
}

constexpr int64_t kCount = 4096;

TEST(FakeGpu, RunsAStreamInOrderWhateverTheDelays) {
  configure({.jitter_microseconds = 300});
  Stream stream;
  const Floats device = on_device(kCount), host = pinned(kCount);
  std::fill_n(host.data, kCount, 2.0f);
  EXPECT_CUDA(copy(device.data, host.data, kCount, stream));
  for (const float factor : {3.0f, -1.0f, 2.0f}) EXPECT_CUDA(scale_and_number(stream, device.data, kCount, factor, 3));
  EXPECT_CUDA(copy(host.data, device.data, kCount, stream));
  EXPECT_CUDA(cudaMemsetAsync(device.data, 0, sizeof(float), stream));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_CUDA(cudaStreamQuery(stream));
  for (const int64_t i : {int64_t{0}, int64_t{1}, kCount - 1}) {
    const auto n = static_cast<float>(i);
    EXPECT_EQ(host.data[i], 2 * (-(3 * 2.0f + n) + n) + n);
  }
  EXPECT_CUDA(copy(host.data, device.data, 1, stream));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(host.data[0], 0);
}

// One stream copies what another brings. Says in how many rounds it copied too early.
int rounds_that_are_wrong(bool waits) {
  Stream first, second;
  Event brought;
  const Floats a = on_device(1), b = on_device(1), in = pinned(1), out = pinned(1);
  int wrong = 0;
  for (int round = 1; round <= 30; ++round) {
    *in.data = static_cast<float>(round);
    EXPECT_CUDA(copy(a.data, in.data, 1, first));
    EXPECT_CUDA(cudaEventRecord(brought, first));
    if (waits) {
      EXPECT_CUDA(cudaStreamWaitEvent(second, brought, 0));
    }
    EXPECT_CUDA(copy(b.data, a.data, 1, second));
    EXPECT_CUDA(copy(out.data, b.data, 1, second));
    EXPECT_CUDA(cudaStreamSynchronize(first));
    EXPECT_CUDA(cudaStreamSynchronize(second));
    wrong += *out.data != static_cast<float>(round);
  }
  return wrong;
}

TEST(FakeGpu, DelaysShowAMissingWait) {
  configure({.jitter_microseconds = 400});
  EXPECT_EQ(rounds_that_are_wrong(true), 0);
  EXPECT_GT(rounds_that_are_wrong(false), 0) << "each round is wrong with a probability of about a half";
}

TEST(FakeGpuDeathTest, HostAccessToDeviceMemoryEndsInStrictMode) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const bool writes : {false, true})
    EXPECT_EXIT(
        {
          configure({.is_strict = true});
          const Floats device = on_device(8);
          volatile float* data = device.data;
          volatile float value = 1;
          if (writes)
            *data = value;
          else
            value = *data;
          std::exit(0);
        },
        ::testing::KilledBySignal(SIGSEGV), "");
}

TEST(FakeGpu, DeviceWorkReachesItsMemoryInStrictMode) {
  configure({.is_strict = true});
  Stream stream;
  {
    const Floats device = on_device(kCount), other = on_device(kCount), host = pinned(kCount);
    std::iota(host.data, host.data + kCount, 0.0f);
    EXPECT_CUDA(copy(device.data, host.data, kCount, stream));
    EXPECT_CUDA(scale_and_number(stream, device.data, kCount, 10, 1));
    EXPECT_CUDA(copy(other.data, device.data, kCount, stream));
    EXPECT_CUDA(cudaMemsetAsync(other.data + 1, 0, sizeof(float), stream));
    EXPECT_CUDA(copy(host.data, other.data, kCount, stream));
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_EQ(host.data[kCount - 1], 11.0f * (kCount - 1));
    EXPECT_EQ(host.data[1], 0);
  }
}

TEST(FakeGpu, CountsWhatMakesTheHostWait) {
  configure({});
  Stream stream;
  Event event;
  std::vector<float> pageable(kCount, 1), registered(kCount, 2);
  const Floats device = on_device(kCount), host = pinned(kCount);
  EXPECT_EQ(num_host_waits(), 0);
  EXPECT_CUDA(copy(host.data, device.data, kCount, stream));
  EXPECT_CUDA(cudaHostRegister(registered.data(), sizeof(float) * kCount, cudaHostRegisterDefault));
  EXPECT_EQ(cudaHostRegister(&registered[7], 4, cudaHostRegisterDefault), cudaErrorHostMemoryAlreadyRegistered);
  EXPECT_CUDA(copy(device.data, registered.data(), kCount, stream));
  EXPECT_CUDA(scale_and_number(stream, device.data, kCount, 1, 1));
  EXPECT_EQ(num_pageable_copies(), 0);
  EXPECT_EQ(num_host_waits(), 0);
  EXPECT_EQ(num_launches(), 1);

  EXPECT_CUDA(copy(device.data, pageable.data(), kCount, stream));
  EXPECT_CUDA(cudaStreamQuery(stream)) << "a copy of pageable memory waits";
  EXPECT_CUDA(copy(pageable.data(), device.data, kCount, stream));
  EXPECT_EQ(num_pageable_copies(), 2);
  EXPECT_EQ(num_host_waits(), 2);
  EXPECT_CUDA(cudaHostUnregister(registered.data()));
  EXPECT_CUDA(copy(device.data, registered.data(), kCount, stream));
  EXPECT_EQ(num_pageable_copies(), 3);

  EXPECT_CUDA(cudaEventRecord(event, stream));
  EXPECT_CUDA(cudaEventSynchronize(event));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_CUDA(cudaDeviceSynchronize());
  EXPECT_CUDA(cudaMemcpy(pageable.data(), device.data, 4, cudaMemcpyDeviceToHost));
  EXPECT_EQ(num_host_waits(), 7);
  EXPECT_EQ(num_pageable_copies(), 3);
  EXPECT_EQ(num_calls("cudaMemcpyAsync"), 5);
}

// Work that holds a stream back until another thread lets it go: what pins meanwhile comes after it.
TEST(FakeGpu, PinningWaitsForTheDeviceWhereItIsToldTo) {
  for (const bool waits : {false, true}) {
    configure({.pinning_waits = waits});
    Stream stream;
    Gate gate;
    EXPECT_CUDA(hold_back(stream, gate));
    std::thread opener;
    if (waits)
      opener = std::thread([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        gate.open();
      });
    void* data = nullptr;
    EXPECT_CUDA(cudaHostAlloc(&data, 64, cudaHostAllocPortable));
    EXPECT_EQ(cudaStreamQuery(stream), waits ? cudaSuccess : cudaErrorNotReady);
    waits ? opener.join() : gate.open();
    EXPECT_CUDA(cudaFreeHost(data));
    EXPECT_EQ(num_host_waits(), waits ? 2 : 0);
    EXPECT_CUDA(cudaStreamSynchronize(stream));
  }
}

TEST(FakeGpu, CudaVisibleDevicesChooses) {
  const auto chosen = [](const char* list) {
    ::setenv("FAKE_GPU_DEVICES", "4", 1);
    ::setenv("CUDA_VISIBLE_DEVICES", list, 1);
    const Settings settings = environment_settings();
    ::unsetenv("FAKE_GPU_DEVICES");
    ::unsetenv("CUDA_VISIBLE_DEVICES");
    EXPECT_EQ(settings.num_devices, static_cast<int>(settings.numbers.size()));
    return settings.numbers;
  };
  EXPECT_EQ(chosen("2,0"), (std::vector<int>{2, 0}));
  EXPECT_EQ(chosen("1,7,0"), (std::vector<int>{1}));
  EXPECT_EQ(chosen(""), std::vector<int>{});
  configure({.num_devices = 2, .numbers = {3, 1}});
  for (const int device : {0, 1}) {
    cudaDeviceProp properties;
    EXPECT_CUDA(cudaGetDeviceProperties(&properties, device));
    EXPECT_EQ(properties.uuid.bytes[0], device == 0 ? 4 : 2);
  }
}

TEST(FakeGpu, MemoryHasALimit) {
  configure({.memory_bytes = 1 << 20});
  size_t free = 0, total = 0;
  void *first = nullptr, *second = nullptr;
  EXPECT_CUDA(cudaMalloc(&first, 700 << 10));
  EXPECT_EQ(cudaMalloc(&second, 400 << 10), cudaErrorMemoryAllocation);
  EXPECT_EQ(second, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_CUDA(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(free, 324U << 10);
  EXPECT_EQ(total, 1U << 20);
  EXPECT_CUDA(cudaFree(first));
  EXPECT_CUDA(cudaMalloc(&second, 1 << 20));
  EXPECT_CUDA(cudaFree(second));
  EXPECT_EQ(cudaFree(second), cudaErrorInvalidValue);
}

TEST(FakeGpu, DevicesHaveMemoryAndStreamsOfTheirOwn) {
  configure({.num_devices = 2, .memory_bytes = 1 << 20});
  int count = 0;
  EXPECT_CUDA(cudaGetDeviceCount(&count));
  EXPECT_EQ(count, 2);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  const Floats host = pinned(2), first = on_device(200000);
  Stream stream_of_first;
  EXPECT_CUDA(cudaSetDevice(1));
  std::thread([] {
    int device = -1;
    EXPECT_CUDA(cudaGetDevice(&device));
    EXPECT_EQ(device, 0) << "each thread has its own";
  }).join();
  const Floats second = on_device(200000);  // more than the first has left
  Stream stream;
  Event event;
  cudaPointerAttributes attributes;
  EXPECT_CUDA(cudaPointerGetAttributes(&attributes, second.data + 9));
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.device, 1);
  EXPECT_EQ(scale_and_number(stream_of_first, first.data, 2, 1, 1), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(event, stream_of_first), cudaErrorInvalidResourceHandle);

  host.data[0] = 5, host.data[1] = 6;
  EXPECT_CUDA(copy(second.data, host.data, 2, stream));
  EXPECT_CUDA(scale_and_number(stream, second.data, 2, 2, 1));
  EXPECT_CUDA(cudaEventRecord(event, stream));
  EXPECT_CUDA(cudaStreamWaitEvent(stream_of_first, event, 0));
  EXPECT_CUDA(copy(first.data, second.data, 2, stream_of_first));
  EXPECT_CUDA(cudaSetDevice(0));
  EXPECT_CUDA(scale_and_number(stream_of_first, first.data, 2, 1, 1));
  EXPECT_CUDA(copy(host.data, first.data, 2, stream_of_first));
  EXPECT_CUDA(cudaStreamSynchronize(stream_of_first));
  EXPECT_EQ(host.data[0], 10);
  EXPECT_EQ(host.data[1], 14);
}

TEST(FakeGpu, KernelsTakeTheirArgumentWhenTheyAreLaunched) {
  configure({});
  Stream stream;
  Gate gate;
  const Floats device = on_device(1000), host = pinned(1000);
  EXPECT_CUDA(cudaMemsetAsync(device.data, 0, 4000, stream));
  EXPECT_CUDA(hold_back(stream, gate));
  float factor = 1;
  EXPECT_CUDA(scale_and_number(stream, device.data, 1000, factor, 2));
  factor = 100;
  EXPECT_CUDA(scale_and_number(stream, device.data, 999, factor, 1));
  EXPECT_CUDA(copy(host.data, device.data, 1000, stream));
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  gate.open();
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(host.data[7], 707);
  EXPECT_EQ(host.data[999], 999);
  EXPECT_EQ(launch_without_body(stream, device.data), cudaErrorInvalidDeviceFunction);
}

TEST(FakeGpu, EventsMarkAPointOfAStream) {
  configure({});
  Stream stream, other;
  Gate gate;
  Event before(cudaEventDefault), after(cudaEventDefault);
  EXPECT_CUDA(cudaEventQuery(after)) << "never recorded";
  EXPECT_CUDA(cudaEventRecord(before, stream));
  EXPECT_CUDA(cudaEventSynchronize(before));
  EXPECT_CUDA(hold_back(stream, gate));
  EXPECT_CUDA(cudaEventRecord(after, stream));
  EXPECT_CUDA(cudaStreamWaitEvent(other, after, 0));
  EXPECT_EQ(cudaEventQuery(after), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(other), cudaErrorNotReady);
  std::this_thread::sleep_for(std::chrono::milliseconds(3));
  gate.open();
  EXPECT_CUDA(cudaStreamSynchronize(other));
  EXPECT_CUDA(cudaEventQuery(after));
  float milliseconds = 0;
  EXPECT_CUDA(cudaEventElapsedTime(&milliseconds, before, after));
  EXPECT_GE(milliseconds, 3);
  Event without_time;
  EXPECT_CUDA(cudaEventRecord(without_time, stream));
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, before, without_time), cudaErrorInvalidResourceHandle);
}

TEST(FakeGpu, HostFunctionsRunOneAtATimeAndCallNothingOfCuda) {
  configure({});
  Stream first, second;
  struct Seen {
    std::atomic<int> now = 0, most = 0;
    std::atomic<int> num_refused = 0;
  } seen;
  const cudaHostFn_t work = [](void* data) {
    auto& all = *static_cast<Seen*>(data);
    all.most = std::max(all.most.load(), ++all.now);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    int number = 0;
    float milliseconds = 0;
    cudaDeviceProp properties;
    cudaPointerAttributes attributes;
    for (const cudaError_t answer : {cudaDeviceSynchronize(), cudaGetDeviceCount(&number), cudaGetDevice(&number), cudaSetDevice(0),
                                     cudaGetDeviceProperties(&properties, 0), cudaPointerGetAttributes(&attributes, data),
                                     cudaEventElapsedTime(&milliseconds, nullptr, nullptr)})
      all.num_refused += answer == cudaErrorNotPermitted;
    --all.now;
  };
  for (int i = 0; i < 5; ++i)
    for (const cudaStream_t stream : {first.handle, second.handle}) EXPECT_CUDA(cudaLaunchHostFunc(stream, work, &seen));
  EXPECT_CUDA(cudaStreamSynchronize(first));
  EXPECT_CUDA(cudaStreamSynchronize(second));
  EXPECT_EQ(seen.most, 1);
  EXPECT_EQ(seen.num_refused, 10 * 7);
}

TEST(FakeGpu, AStreamWaitsForAWordThatTheHostWrites) {
  configure({});
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  EXPECT_CUDA(cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &function, 12000, cudaEnableDefault, &result));
  ASSERT_EQ(result, cudaDriverEntryPointSuccess);
  const auto wait_for_value = reinterpret_cast<decltype(&cuStreamWaitValue32)>(function);
  Stream stream;
  const Floats memory = pinned(1);
  const std::atomic_ref<uint32_t> word(*reinterpret_cast<uint32_t*>(memory.data));
  word = 4;
  const auto address = reinterpret_cast<CUdeviceptr>(memory.data);
  EXPECT_EQ(wait_for_value(stream, address, 4, CU_STREAM_WAIT_VALUE_GEQ), CUDA_SUCCESS);
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(wait_for_value(stream, address, 6, CU_STREAM_WAIT_VALUE_GEQ), CUDA_SUCCESS);
  word = 5;
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  word = 6;
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  uint32_t elsewhere = 9;
  EXPECT_EQ(wait_for_value(stream, reinterpret_cast<CUdeviceptr>(&elsewhere), 6, CU_STREAM_WAIT_VALUE_GEQ), CUDA_ERROR_INVALID_VALUE);
}

TEST(FakeGpu, RefusesWhatIsWrongOrNotModelled) {
  configure({});
  const Floats device = on_device(16), host = pinned(16);
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreate(&stream), cudaErrorNotSupported);
  EXPECT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  EXPECT_EQ(copy(device.data + 8, host.data, 9, stream), cudaErrorInvalidValue) << "beyond the end of the target";
  EXPECT_EQ(copy(host.data, device.data, 17, stream), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(device.data, 0, 68, stream), cudaErrorInvalidValue);
  std::vector<float> seen(16);
  EXPECT_CUDA(cudaMemcpy(seen.data(), device.data, 64, cudaMemcpyDeviceToHost));
  for (const float value : seen) EXPECT_NE(value, value) << "fresh memory holds no numbers";
  EXPECT_CUDA(cudaStreamDestroy(stream));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_THROW(configure({}), std::logic_error);
}

TEST(FakeGpu, FreeingWaitsForWorkAndADestroyedStreamFinishesIts) {
  configure({});
  const Floats host = pinned(1);
  void* data = nullptr;
  EXPECT_CUDA(cudaMalloc(&data, 4));
  Gate gate, second_gate;
  std::atomic<bool> is_finished = false;
  {
    Stream stream;
    EXPECT_CUDA(cudaMemsetAsync(data, 0, 4, stream));
    EXPECT_CUDA(hold_back(stream, gate));
    EXPECT_CUDA(copy(host.data, static_cast<float*>(data), 1, stream));
    std::thread opener([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      gate.open();
    });
    EXPECT_CUDA(cudaFree(data));
    EXPECT_EQ(*host.data, 0);
    opener.join();
    EXPECT_CUDA(hold_back(stream, second_gate));
    EXPECT_CUDA(cudaLaunchHostFunc(
        stream, [](void* flag) { *static_cast<std::atomic<bool>*>(flag) = true; }, &is_finished));
  }
  EXPECT_FALSE(is_finished);
  second_gate.open();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!is_finished && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_TRUE(is_finished);
}

TEST(FakeGpu, TheDriversStubLetsLibTorchsLibrariesLoad) {
  ASSERT_NE(dlopen(FAKE_GPU_DRIVER, RTLD_NOW | RTLD_GLOBAL), nullptr) << dlerror();
  void* library = dlopen(FAKE_GPU_NVRTC, RTLD_NOW);
  EXPECT_NE(library, nullptr) << dlerror();
  const auto function = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "cuCtxGetCurrent"));
  ASSERT_NE(function, nullptr);
  EXPECT_EQ(function(), CUDA_ERROR_NOT_SUPPORTED);
}

}  // namespace
}  // namespace fake_gpu
