#include "sharding/staged_communicator.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <mutex>

#include "sharding/local_ranks.h"
#include "tests/runtime/support/cpu_like_device.h"
#include "tests/sharding/support/communicator_cases.h"

namespace zerostep {
namespace {

using test::CommunicatorCase;

// A processor that says of the memory that it gives that the host cannot reach it.
class HoldingDevice final : public testing::CpuLikeDevice {
 public:
  bool is_host() const override { return false; }
  Arena memory(const std::string& name, int64_t num_bytes, MemoryKind kind) const override {
    if (kind != MemoryKind::Device || num_bytes == 0) return CpuLikeDevice::memory(name, num_bytes, kind);
    auto* const owner = new Arena(Arena::host_memory(name, num_bytes));
    void* const data = owner->allocate(num_bytes, name);
    const std::lock_guard lock(*mutex_);
    (*held_)[static_cast<const std::byte*>(data)] = num_bytes;
    return Arena(name,
                 std::shared_ptr<void>(owner,
                                       [held = held_, mutex = mutex_, data](Arena* arena) {
                                         const std::lock_guard lock(*mutex);
                                         held->erase(static_cast<const std::byte*>(data));
                                         delete arena;
                                       }),
                 data, num_bytes);
  }
  bool holds(const void* data) const override {
    const std::lock_guard lock(*mutex_);
    auto after = held_->upper_bound(static_cast<const std::byte*>(data));
    if (after == held_->begin()) return false;
    --after;
    return static_cast<const std::byte*>(data) < after->first + after->second;
  }

 private:
  std::shared_ptr<std::map<const std::byte*, int64_t>> held_ = std::make_shared<std::map<const std::byte*, int64_t>>();
  std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
};

class StagedCommunicator : public ::testing::TestWithParam<std::tuple<CommunicatorCase, int>> {};

// What every backend must do, of memory of the host and of the device, in parts of 1 KiB and in one.
TEST_P(StagedCommunicator, Does) {
  const auto& [test_case, size] = GetParam();
  for (const int64_t part_bytes : {int64_t{1} << 10, int64_t{8} << 20})
    run_local_ranks(size, {.timeout_seconds = 30}, [&](Communicator world) {
      const Device device(std::make_shared<const HoldingDevice>());
      test_case.body(make_staged_communicator(world, device, part_bytes));
    });
}

INSTANTIATE_TEST_SUITE_P(Cases, StagedCommunicator,
                         ::testing::Combine(::testing::ValuesIn(test::communicator_cases()), ::testing::Values(1, 3)),
                         [](const auto& info) { return fmt::format("{}{}", std::get<0>(info.param).name, std::get<1>(info.param)); });

}  // namespace
}  // namespace zerostep
