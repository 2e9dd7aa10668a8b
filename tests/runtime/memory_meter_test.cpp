#include "runtime/memory/memory_meter.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <thread>

#include "runtime/engine/engine.h"
#include "tests/runtime/support/training_case.h"

namespace zerostep {
namespace {

constexpr int64_t kBlockBytes = int64_t{1} << 20;
constexpr int64_t kBlocks = 32;

// Blocks that the threads of at::parallel_for allocate and the caller holds.
std::vector<at::Tensor> blocks_of_threads() {
  std::vector<at::Tensor> blocks(kBlocks);
  at::parallel_for(0, kBlocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) blocks[static_cast<size_t>(i)] = at::empty({kBlockBytes}, at::kByte);
  });
  return blocks;
}

class WithThreads {
 public:
  explicit WithThreads(int threads) : before_(at::get_num_threads()) { at::set_num_threads(threads); }
  ~WithThreads() { at::set_num_threads(before_); }

 private:
  int before_;
};

TEST(MemoryMeter, CountsAllThreadsOfAProcessWithOneRank) {
  install_metered_allocator();
  for (const int threads : {1, 2, 16}) {
    const WithThreads with(threads);
    MemoryMeter meter, outer;
    {
      const MeterScope around(outer, MeterScope::Threads::All);
      std::vector<at::Tensor> blocks;
      {
        const MeterScope scope(meter, MeterScope::Threads::All);
        blocks = blocks_of_threads();
      }
      EXPECT_EQ(meter.live_bytes(), kBlocks * kBlockBytes) << threads << " threads";
      const std::vector<at::Tensor> more = blocks_of_threads();
      EXPECT_EQ(outer.live_bytes(), kBlocks * kBlockBytes) << "the scope around counts again";
    }
    EXPECT_EQ(meter.live_bytes(), 0) << "a block is counted where it was allocated, until it is freed";
    EXPECT_EQ(meter.peak_bytes(), kBlocks * kBlockBytes);
    const std::vector<at::Tensor> uncounted = blocks_of_threads();
    EXPECT_EQ(meter.live_bytes() + outer.live_bytes(), 0);
  }
}

TEST(MemoryMeter, RanksThatAreThreadsCountTheirOwn) {
  install_metered_allocator();
  std::vector<MemoryMeter> meters(2);
  std::vector<std::thread> ranks;
  for (size_t r = 0; r < 2; ++r)
    ranks.emplace_back([&, r] {
      const MeterScope scope(meters[r]);
      const at::Tensor first = at::empty({kBlockBytes}, at::kByte), second = at::empty({kBlockBytes}, at::kByte);
      std::thread([] { at::empty({4 * kBlockBytes}, at::kByte); }).join();
    });
  for (std::thread& rank : ranks) rank.join();
  for (const MemoryMeter& meter : meters) EXPECT_EQ(meter.peak_bytes(), 2 * kBlockBytes);
}

// What a step allocates in threads of at::parallel_for is part of its peak, whatever their number.
TEST(MemoryMeter, AnEngineCountsTheThreadsOfItsProcess) {
  install_metered_allocator();
  const auto peak = [](int threads, int ranks) {
    auto test = testing::TrainingCase::tiny();
    test.set_micro_batch(test.global_batch / ranks, ranks);
    const auto model = make_gpt2(test.model);
    const auto objective = make_cross_entropy();
    int64_t out = 0;
    run_local_ranks(ranks, {.timeout_seconds = 60}, [&](Communicator world) {
      Engine engine(
          test.config, *model, *objective, plan_training(test.config, *model, *objective, ranks),
          [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) { initial_values(info, 7, begin, count, values); },
          world);
      engine.train_step(0, [&](int64_t m) {
        if (world.rank() == 0) {
          const WithThreads with(threads);
          blocks_of_threads();
        }
        return test.batch(0, m, world.rank(), ranks);
      });
      if (world.rank() == 0) out = engine.device_peak_bytes() - engine.arena_bytes();
    });
    return out;
  };
  EXPECT_EQ(peak(1, 1), kBlocks * kBlockBytes);
  EXPECT_EQ(peak(4, 1), kBlocks * kBlockBytes);
  EXPECT_EQ(peak(1, 2), kBlocks * kBlockBytes);
  EXPECT_LT(peak(4, 2), kBlocks * kBlockBytes) << "helpers of a rank that is a thread belong to no rank";
}

}  // namespace
}  // namespace zerostep
