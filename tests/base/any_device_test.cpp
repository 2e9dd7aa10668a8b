#include "tests/base/any_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/nth.h"

namespace zerostep {
namespace {

using testing::AnyDevice;

TEST_P(AnyDevice, CopiesInTheOrderOfTheStream) {
  for (Stream stream : {device_.compute_stream(), device_.stream("copies")}) {
    Arena device = device_.memory("device", 128), pinned = device_.memory("pinned", 192, MemoryKind::PinnedHost);
    void* const numbers = device.allocate(64, "numbers");
    auto* const given = static_cast<uint8_t*>(pinned.allocate(64, "given"));
    auto* const found = static_cast<uint8_t*>(pinned.allocate(64, "found"));
    auto* const later = static_cast<uint8_t*>(pinned.allocate(64, "later"));
    EXPECT_EQ(std::count(given, given + 192, 0), 192) << "pinned memory is zeroed";
    std::fill_n(given, 64, uint8_t{7});
    given[1] = 9;
    device_.copy(stream, numbers, given, 48);
    const Event done = device_.copy(stream, found, static_cast<const uint8_t*>(numbers) + 1, 63);
    device_.copy(stream, numbers, later, 64);
    device_.copy(stream, later, numbers, 64);
    done.wait();
    EXPECT_EQ(found[0], 9);
    EXPECT_EQ(found[1], 7);
    EXPECT_EQ(found[46], 7);
    EXPECT_EQ(std::count(found + 47, found + 64, 0), 17) << "device memory is zeroed";
    stream.synchronize();
    EXPECT_EQ(std::count(later, later + 64, 0), 64);
  }
}

TEST_P(AnyDevice, MovesDataThroughStreamsThatWaitForEachOther) {
  constexpr int kRounds = 20;
  constexpr int64_t kBytes = 4096;
  Stream in = device_.stream("in"), compute = device_.compute_stream(), out = device_.stream("out"), host = device_.host_stream("host");
  Arena device = device_.memory("device", 2 * kBytes), pinned = device_.memory("pinned", 2 * kBytes, MemoryKind::PinnedHost);
  void *const first = device.allocate(kBytes, "first"), *const second = device.allocate(kBytes, "second");
  auto* const given = static_cast<uint8_t*>(pinned.allocate(kBytes, "given"));
  auto* const found = static_cast<uint8_t*>(pinned.allocate(kBytes, "found"));
  std::vector<int> sums;
  Event given_is_free, first_is_free, second_is_free, found_is_free;
  for (int round = 0; round < kRounds; ++round) {
    host.wait(given_is_free);
    in.wait(host.enqueue([=] { std::fill_n(given, kBytes, static_cast<uint8_t>(round)); }));
    in.wait(first_is_free);
    given_is_free = device_.copy(in, first, given, kBytes);
    compute.wait(given_is_free);
    compute.wait(second_is_free);
    first_is_free = device_.copy(compute, second, first, kBytes);
    out.wait(first_is_free);
    out.wait(found_is_free);
    second_is_free = device_.copy(out, found, second, kBytes);
    host.wait(second_is_free);
    found_is_free = host.enqueue([&sums, found] { sums.push_back(found[0] + found[kBytes - 1]); });
  }
  host.synchronize();
  for (int round = 0; round < kRounds; ++round) EXPECT_EQ(nth(sums, round), 2 * round);
}

TEST_P(AnyDevice, SaysWhatMemoryThereIs) {
  const MemoryInfo info = device_.memory_info();
  EXPECT_GT(info.free_bytes, 0);
  EXPECT_LE(info.free_bytes, info.total_bytes);
}

TEST_P(AnyDevice, GivesNoMemoryWhereNoneIsAskedFor) {
  for (const MemoryKind kind : {MemoryKind::Device, MemoryKind::PinnedHost})
    EXPECT_EQ(device_.memory("nothing", 0, kind).capacity_bytes(), 0);
}

TEST_P(AnyDevice, ItsStreamsAndMemoryOutliveIt) {
  Device temporary = GetParam().make();
  Stream stream = temporary.stream("stream");
  Arena memory = temporary.memory("memory", 64, MemoryKind::PinnedHost);
  auto* const value = static_cast<uint8_t*>(memory.allocate(1, "value"));
  temporary = Device::cpu();
  stream.enqueue([=] { *value = 5; }).wait();
  EXPECT_EQ(*value, 5);
}

INSTANTIATE_TEST_SUITE_P(Devices, AnyDevice, ::testing::ValuesIn(testing::devices_under_test()), testing::name_of_case);

}  // namespace
}  // namespace zerostep
