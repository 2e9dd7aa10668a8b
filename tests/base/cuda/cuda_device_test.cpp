#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/device.h"
#include "base/error.h"
#include "tests/support/expect_says.h"
#include "tests/support/gate.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using testing::Gate;
using testing::message_of;

TEST(CudaDevice, LaunchesInTheCallerWhereLibTorchsCurrentStreamIsItsOwn) {
  const Device gpu = Device::cuda(0);
  EXPECT_EQ(gpu.name(), "cuda:0");
  Stream compute = gpu.compute_stream(), other = gpu.stream("other");
  EXPECT_EQ(other.name(), "other");
  EXPECT_NE(compute.native_handle(), nullptr);
  EXPECT_NE(other.native_handle(), compute.native_handle());
  EXPECT_EQ(gpu.compute_stream().native_handle(), compute.native_handle());
  const c10::cuda::CUDAStream before = c10::cuda::getCurrentCUDAStream(0);
  for (Stream& stream : {std::ref(compute), std::ref(other)}) {
    std::thread::id thread;
    void* current = nullptr;
    Gate gate;
    stream.enqueue([&] { gate.pass(); });
    const Event done = stream.launch([&] {
      thread = std::this_thread::get_id();
      current = c10::cuda::getCurrentCUDAStream(0).stream();
    });
    EXPECT_EQ(thread, std::this_thread::get_id());
    EXPECT_EQ(current, stream.native_handle());
    EXPECT_EQ(c10::cuda::getCurrentCUDAStream(0), before);
    EXPECT_FALSE(done.ready()) << "what is launched follows what is queued";
    EXPECT_FALSE(stream.is_current());
    gate.open();
    stream.synchronize();
    EXPECT_TRUE(done.ready());
  }
}

TEST(CudaDevice, LaunchesNothingAfterAFailure) {
  const Device gpu = Device::cuda(0);
  Stream stream = gpu.stream("stream"), other = gpu.stream("other");
  const Event before = other.launch([] {});
  const Event failed = stream.launch([] { throw RunError("while launching"); });
  bool was_launched = false;
  const Event skipped = stream.launch([&] { was_launched = true; });
  EXPECT_FALSE(was_launched);
  before.wait();
  for (const Event& event : {failed, skipped, stream.record()}) EXPECT_EQ(message_of([&] { event.wait(); }), "while launching");
  other.synchronize();
  EXPECT_EQ(message_of([&] { other.launch([] {}).wait(); }), "while launching") << "a failure ends the device";
  Device::cuda(0).stream("of another handle").launch([] {}).wait();
}

TEST(CudaDevice, AnEarlierFailureIsNotHiddenByALaterOneThatIsKnownBefore) {
  const Device gpu = Device::cuda(0);
  Stream slow = gpu.stream("slow"), quick = gpu.stream("quick");
  Gate gate;
  const Event first = slow.enqueue([&] {
    gate.pass();
    throw RunError("the first");
  });
  const Event second = quick.launch([] { throw RunError("the second"); });
  EXPECT_EQ(message_of([&] { second.wait(); }), "the second");
  gate.open();
  EXPECT_EQ(message_of([&] { first.wait(); }), "the first");
  EXPECT_EQ(message_of([&] { slow.synchronize(); }), "the first");
}

TEST(CudaDevice, TheEventOfALaunchKnowsTheFailureOfWhatTheLauncherEnqueues) {
  Stream stream = Device::cuda(0).stream("stream");
  const Event event = stream.launch([&] { stream.enqueue([] { throw RunError("within"); }); });
  EXPECT_EQ(message_of([&] { event.wait(); }), "within");
}

TEST(CudaDevice, MarksTellWhenTheDeviceCameToThem) {
  static constexpr double kSeconds = 0.05;
  const Device gpu = Device::cuda(0);
  Stream stream = gpu.stream("stream"), other = gpu.stream("other");
  const Event before = stream.mark();
  stream.enqueue([] { std::this_thread::sleep_for(std::chrono::duration<double>(kSeconds)); });
  const Event after = stream.mark();
  other.wait(after);
  const Event elsewhere = other.mark(), plain = stream.record();
  EXPECT_FALSE(after.ready());
  EXPECT_THROW(after.seconds_since(before), RunError) << "not before it is known";
  elsewhere.wait();
  plain.wait();
  EXPECT_GT(after.seconds_since(before), 0.99 * kSeconds);
  EXPECT_NEAR(before.seconds_since(after), -after.seconds_since(before), 1e-6);
  EXPECT_GE(elsewhere.seconds_since(before), after.seconds_since(before));
  EXPECT_THROW(plain.seconds_since(before), ProtocolError);
  EXPECT_THROW(after.seconds_since(plain), ProtocolError);
  EXPECT_THROW(after.seconds_since(Event()), ProtocolError);
}

TEST(CudaDevice, AHostTaskMayNotAskForCuda) {
  Stream stream = Device::cuda(0).stream("stream");
  const Event event = stream.record();
  stream.enqueue([&] { event.wait(); });
  EXPECT_SAYS(message_of([&] { stream.synchronize(); }), "host task");
  EXPECT_THROW(stream.synchronize(), ProtocolError);
}

TEST(CudaDevice, CopiesOnNoStreamOfTheHost) {
  const Device gpu = Device::cuda(0);
  Stream host = gpu.host_stream("host");
  EXPECT_SAYS(message_of([&] { gpu.copy(host, nullptr, nullptr, 1); }), "'host'");
}

TEST(CudaDevice, TellsACopyThatCudaRefuses) {
  const Device gpu = Device::cuda(0);
  Stream stream = gpu.stream("stream");
  Arena memory = gpu.memory("memory", 64);
  void* const data = memory.allocate(64, "data");
  const std::string text = message_of([&] { gpu.copy(stream, data, data, int64_t{1} << 40).wait(); });
  for (const char* part : {"[cuda:0]", "a copy cannot be queued", "cudaErrorInvalidValue"}) EXPECT_SAYS(text, part);
}

TEST(CudaDevice, MemoryThatEndsInAHostTaskIsFreed) {
  const Device gpu = Device::cuda(0);
  constexpr int64_t kBytes = int64_t{8} << 20;
  const int64_t before = gpu.memory_info().free_bytes;
  Stream stream = gpu.stream("stream");
  for (const MemoryKind kind : {MemoryKind::Device, MemoryKind::PinnedHost})
    stream.enqueue([memory = std::make_shared<Arena>(gpu.memory("memory", kBytes, kind))] {});
  stream.synchronize();
  for (int i = 0; i < 2000 && gpu.memory_info().free_bytes < before; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_GE(gpu.memory_info().free_bytes, before);
}

TEST(CudaDevice, SaysWhatMemoryLacks) {
  const Device gpu = Device::cuda(0);
  const MemoryInfo info = gpu.memory_info();
  const std::string text = message_of([&] { gpu.memory("weights", info.total_bytes + 1); });
  for (const char* part : {"[cuda:0]", "'weights'", "device memory", "are free"}) EXPECT_SAYS(text, part);
  const std::string pinned = message_of([&] { gpu.memory("gradients", int64_t{1} << 50, MemoryKind::PinnedHost); });
  for (const char* part : {"[cuda:0]", "'gradients'", "1.00 PiB of pinned memory", "the host has"}) EXPECT_SAYS(pinned, part);
  EXPECT_EQ(gpu.memory("less", 1 << 20).capacity_bytes(), 1 << 20);
}

TEST(CudaDevice, SaysHowManyGpusThereAre) {
  for (const int index : {-1, 1000}) {
    const std::string text = message_of([&] { Device::cuda(index); });
    EXPECT_SAYS(text, "GPU " + std::to_string(index));
    EXPECT_SAYS(text, "this process sees");
  }
}

}  // namespace
}  // namespace zerostep
