#include "base/device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <thread>

#include "tests/base/message_of.h"

namespace zerostep {
namespace {

TEST(CpuDevice, ComputesInTheCallerAndNothingWaitsForIt) {
  const Device cpu = Device::cpu();
  EXPECT_EQ(cpu.name(), "cpu");
  Stream compute = cpu.compute_stream(), other = cpu.stream("other");
  EXPECT_EQ(compute.native_handle(), nullptr);
  EXPECT_EQ(other.native_handle(), nullptr);
  std::thread::id launched, task, elsewhere;
  EXPECT_TRUE(compute.launch([&] { launched = std::this_thread::get_id(); }).ready());
  EXPECT_TRUE(compute.enqueue([&] { task = std::this_thread::get_id(); }).ready());
  other.launch([&] { elsewhere = std::this_thread::get_id(); }).wait();
  EXPECT_EQ(launched, std::this_thread::get_id());
  EXPECT_EQ(task, std::this_thread::get_id());
  EXPECT_NE(elsewhere, std::this_thread::get_id());
}

TEST(CpuDevice, CopiesInTheOrderOfTheStream) {
  const Device cpu = Device::cpu();
  for (Stream stream : {cpu.compute_stream(), cpu.stream("copies")}) {
    Arena device = cpu.memory("device", 64), pinned = cpu.memory("pinned", 64, MemoryKind::PinnedHost);
    auto* numbers = static_cast<uint8_t*>(device.allocate(64, "numbers"));
    auto* found = static_cast<uint8_t*>(pinned.allocate(64, "found"));
    EXPECT_EQ(numbers[63], 0);
    stream.launch([=] {
      std::fill_n(numbers, 48, uint8_t{7});
      numbers[1] = 9;
    });
    const Event done = cpu.copy(stream, found, numbers + 1, 48);
    stream.launch([=] { std::fill_n(numbers, 64, uint8_t{0}); });
    done.wait();
    EXPECT_EQ(found[0], 9);
    EXPECT_EQ(found[1], 7);
    EXPECT_EQ(found[46], 7);
    EXPECT_EQ(found[47], 0);
    EXPECT_EQ(found[48], 0);
    stream.synchronize();
    EXPECT_EQ(numbers[1], 0);
  }
}

TEST(CudaDevice, SaysHowToGetItWhereItsLibraryIsNotThere) {
  const std::string text = testing::message_of([] { Device::cuda(0); });  // this program is in another folder than the library
  for (const char* part : {"libzerostep_cuda.so", "No such file", "launch/setup.sh --cuda", "ZEROSTEP_CUDA=ON", "--device cpu"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(Event, HasFailedWhenItsWorkIsKnownToHave) {
  EXPECT_FALSE(Event().failed());
  Stream stream = Stream::worker("worker");
  const Event good = stream.enqueue([] {}), bad = stream.enqueue([] { throw std::runtime_error("no"); });
  stream.drain();
  EXPECT_FALSE(good.failed());
  EXPECT_TRUE(bad.failed());
}

}  // namespace
}  // namespace zerostep
