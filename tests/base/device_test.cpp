#include "base/device.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

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

TEST(CudaDevice, SaysThatItsLibraryIsNotThere) {
  const std::string text = testing::message_of([] { Device::cuda(0); });  // this program is in another folder than the library
  for (const char* part : {"libzerostep_cuda.so", "beside the program", "No such file"}) EXPECT_SAYS(text, part);
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
