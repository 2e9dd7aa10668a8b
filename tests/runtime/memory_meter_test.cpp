#include "runtime/memory/memory_meter.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <thread>

#include "base/error.h"
#include "base/format.h"
#include "runtime/engine/engine.h"
#include "sharding/local_ranks.h"
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

// Ranks that are threads, each with an engine. `limit_of`: run.device_memory of a rank.
void with_engines(
    const testing::TrainingCase& test, int ranks, const std::function<void(Engine&, Communicator&)>& body,
    const std::function<int64_t(int rank)>& limit_of = [](int) { return 0; }) {
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  run_local_ranks(ranks, {.timeout_seconds = 60}, [&](Communicator world) {
    Config config = test.config;
    config.run.device_memory = limit_of(world.rank());
    Engine engine(
        config, *model, *objective, plan_training(test.config, *model, *objective, ranks),
        [&](const ParameterInfo& info, int64_t begin, int64_t count, float* values) { initial_values(info, 7, begin, count, values); },
        world);
    body(engine, world);
  });
}

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, pages = 0;
  file >> total >> pages;
  return pages * ::sysconf(_SC_PAGESIZE);
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

TEST(MemoryMeter, TensorsBeyondTheLimitAreAnErrorThatChangesNothing) {
  install_metered_allocator();
  MemoryMeter meter;
  meter.set_limit(5 * kBlockBytes, 2 * kBlockBytes);
  const MeterScope scope(meter);
  std::vector<at::Tensor> held;
  for (int i = 0; i < 3; ++i) held.push_back(at::empty({kBlockBytes}, at::kByte));
  for (int again = 0; again < 2; ++again) {
    try {
      at::empty({1}, at::kByte);
      FAIL() << "a tensor beyond the limit";
    } catch (const MemoryError& error) {
      const std::string text = error.what();
      for (const char* part : {"needs 5,242,881 bytes", "2,097,152 of them in arenas", "3,145,728 in tensors", " 1 for one more",
                               "run.device_memory is 5,242,880 bytes"})
        EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
    }
    EXPECT_EQ(meter.live_bytes(), 3 * kBlockBytes);
    EXPECT_EQ(meter.peak_bytes(), 3 * kBlockBytes);
  }
  held.pop_back();
  held.push_back(at::empty({kBlockBytes}, at::kByte));
  EXPECT_EQ(meter.live_bytes(), 3 * kBlockBytes);
}

// What a step allocates in threads of at::parallel_for is part of its peak, whatever their number.
TEST(MemoryMeter, AnEngineCountsTheThreadsOfItsProcess) {
  install_metered_allocator();
  const auto peak = [](int threads, int ranks) {
    auto test = testing::TrainingCase::tiny();
    test.set_micro_batch(test.global_batch / ranks, ranks);
    int64_t out = 0;
    with_engines(test, ranks, [&](Engine& engine, Communicator& world) {
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

// At the limit a run reports no more than the limit; a byte below it the visit that needs the most fails by name, and every rank ends.
TEST(MemoryMeter, DeviceMemoryIsALimitOfTheRun) {
  install_metered_allocator();
  for (const int stage : {0, 3}) {
    auto test = testing::TrainingCase::tiny();
    test.config.zero.stage = stage;
    test.set_micro_batch(4, 2);
    int64_t need = 0, arenas = 0;
    const auto steps = [&](Engine& engine, Communicator& world) {
      for (int step = 0; step < 3; ++step) engine.train_step(step, [&](int64_t m) { return test.batch(step, m, world.rank(), 2); });
      if (world.rank() == 1) need = engine.device_peak_bytes();
      if (world.rank() == 1) arenas = engine.arena_bytes();
    };
    with_engines(test, 2, steps);
    const int64_t free = need;
    with_engines(test, 2, steps, [&](int) { return free; });
    EXPECT_EQ(need, free);
    // Rank 1 alone has the limit: the other one must learn of it.
    const auto fails = [&](int64_t limit, const std::vector<std::string>& says) {
      const auto start = std::chrono::steady_clock::now();
      try {
        with_engines(test, 2, steps, [&](int rank) { return rank == 1 ? limit : 0; });
        FAIL() << "the run went on beyond its limit of " << limit;
      } catch (const RunError& error) {
        for (const std::string& part : says)
          EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << ": " << error.what();
      }
      EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30)) << "the other rank waited for the time-out";
    };
    fails(free - 1, {"rank 1", "step 0", " of unit ", "needs ", "run.device_memory is " + grouped(free - 1) + " bytes"});
    fails(arenas + 4000, {"rank 1", "step 0", "forward of unit ", "run.device_memory is " + grouped(arenas + 4000) + " bytes"});
  }
}

// Batches of 13 lengths, each of which has been seen before, so that the libraries hold what they keep for a shape: the process grows by
// what is reported, and an eighth and 4 MiB, the free pages that are kept. Blocks that are kept for each length by itself would be several
// times the peak. Inputs that wait for recomputation among what comes and goes take nothing more.
class ManyLengths : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Segments, ManyLengths, ::testing::Values(0, 3));

TEST_P(ManyLengths, TheProcessHoldsWhatIsReported) {
  install_metered_allocator();
  auto test = testing::TrainingCase::tiny();
  test.config.number_checkpoints = GetParam();
  test.model = {.n_layer = GetParam() == 0 ? 2 : 3,
                .n_embd = 64,
                .n_head = 4,
                .n_positions = 256,
                .vocab_size = 1031,
                .resid_pdrop = 0,
                .embd_pdrop = 0,
                .attn_pdrop = 0};
  test.global_batch = 32;
  test.set_micro_batch(32, 1);
  test.with_ignored_labels = false;
  with_engines(test, 1, [&](Engine& engine, Communicator&) {
    const auto step = [&](int64_t index, int64_t length) {
      test.sequence = length;
      engine.train_step(index, [&](int64_t m) { return test.batch(index, m, 0, 1); });
    };
    const auto every_length = [&](int64_t first) {
      for (int i = 0; i < 7; ++i) step(first + i, 16 + 40 * (i * 3 % 7));
    };
    every_length(0);
    release_free_memory();
    const int64_t before = resident_bytes();
    every_length(7);
    const int64_t tensors = engine.device_peak_bytes() - engine.arena_bytes(), grown = resident_bytes() - before;
    EXPECT_GT(tensors, int64_t{64} << 20);
    EXPECT_GT(grown, tensors / 2) << "nothing was given back before";
    EXPECT_LE(grown, tensors + tensors / 8 + (int64_t{4} << 20));
    // One length: the third step and those after it find all they need.
    step(14, 256);
    step(15, 256);
    const int64_t allocations = engine.meter().system_allocations();
    for (int i = 16; i < 20; ++i) step(i, 256);
    EXPECT_EQ(engine.meter().system_allocations(), allocations);
  });
}

}  // namespace
}  // namespace zerostep
