#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "sharding/local_ranks.h"
#include "sharding/thread_communicator.h"

// Ranks that are threads and share one GPU, a real one or that of the tests, against the same ranks on the processor, bit by bit.
namespace zerostep::testing {
namespace {

// Values whose sum depends on the order, so that another one shows: their sizes differ by as much as 2^24. As bits of the type.
std::vector<std::byte> values_of(int rank, DType type, int64_t count) {
  std::mt19937 random(static_cast<unsigned>(rank + 1));
  std::vector<std::byte> out(static_cast<size_t>(num_bytes(count, type)));
  for (int64_t i = 0; i < count; ++i) {
    const float value = std::ldexp(static_cast<float>(random() % 2000) / 1000 - 1, static_cast<int>(random() % 24) - 12);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const auto upper = static_cast<uint16_t>(bits >> 16);  // a value of bf16
    if (type == DType::F32)
      std::memcpy(out.data() + 4 * i, &bits, 4);
    else
      std::memcpy(out.data() + 2 * i, &upper, 2);
  }
  return out;
}

struct Case {
  CollectiveKind kind;
  DType source, target;
  bool accumulate = false;
  ReduceOp op = ReduceOp::Sum;
};
constexpr int64_t kCount = 10007;  // of a rank

// What a rank has after the operation, of `source` and `target` that begin as values_of() says.
template <typename Place, typename Fetch>
std::vector<std::byte> run(Communicator group, Stream& stream, const Case& c, const Place& place, const Fetch& fetch) {
  const int64_t all = kCount * group.size();
  const int64_t sources = c.kind == CollectiveKind::ReduceScatter ? all : kCount,
                targets = c.kind == CollectiveKind::AllGather ? all : kCount;
  const void* source = place(values_of(group.rank(), c.source, sources));
  void* target = place(values_of(group.rank() + 100, c.target, targets));
  const Segment segment{source, target, kCount};
  switch (c.kind) {
    case CollectiveKind::AllGather:
      group.all_gather({&segment, 1}, c.source, stream, "values").wait();
      break;
    case CollectiveKind::ReduceScatter:
      group.reduce_scatter({&segment, 1}, c.source, c.target, c.accumulate, stream, "values").wait();
      break;
    case CollectiveKind::Broadcast:
      group.broadcast({&segment, 1}, c.source, group.size() - 1, stream, "values").wait();
      break;
    default:
      group.all_reduce({&segment, 1}, c.source, c.op, stream, "values").wait();
  }
  return fetch(target, num_bytes(targets, c.target));
}

class ThreadRanks : public ::testing::TestWithParam<int> {};

TEST_P(ThreadRanks, ShareAGpuAndHaveTheBitsOfTheProcessor) {
  const int size = GetParam();
  const Case cases[] = {{CollectiveKind::AllGather, DType::BF16, DType::BF16},
                        {CollectiveKind::ReduceScatter, DType::F32, DType::F32},
                        {CollectiveKind::ReduceScatter, DType::BF16, DType::F32, true},
                        {CollectiveKind::ReduceScatter, DType::BF16, DType::BF16},
                        {CollectiveKind::AllReduce, DType::F32, DType::F32},
                        {CollectiveKind::AllReduce, DType::BF16, DType::BF16},
                        {CollectiveKind::AllReduce, DType::F32, DType::F32, false, ReduceOp::Max},
                        {CollectiveKind::Broadcast, DType::F32, DType::F32}};
  for (const Case& c : cases) {
    std::vector<std::vector<std::byte>> expected(static_cast<size_t>(size)), found(expected);
    run_local_ranks(size, {.timeout_seconds = 30}, [&](Communicator world) {
      Stream stream = Stream::inline_stream();
      std::vector<std::vector<std::byte>> kept;
      const auto place = [&](std::vector<std::byte> values) { return kept.emplace_back(std::move(values)).data(); };
      const auto fetch = [](void* data, int64_t bytes) {
        const auto* from = static_cast<const std::byte*>(data);
        return std::vector<std::byte>(from, from + bytes);
      };
      expected[static_cast<size_t>(world.rank())] = run(world, stream, c, place, fetch);
    });
    run_local_ranks(size, {.timeout_seconds = 30}, [&](Communicator world) {
      const Device gpu = Device::cuda(0);
      Stream stream = gpu.stream("communication");
      Communicator group = make_thread_communicator(world, gpu, 30);
      Arena memory = gpu.memory("operands", 4 << 20), pinned = gpu.memory("operands", 4 << 20, MemoryKind::PinnedHost);
      // Sums come in rounds.
      constexpr int64_t kStaging = 32 << 10;
      group.lend_staging({static_cast<std::byte*>(memory.allocate(kStaging, "values of other ranks")), static_cast<size_t>(kStaging)});
      // CUDA may let an allocation wait for work of the GPU, and with it for a rank that has begun.
      world.all_gather_text("", "memory of all ranks");
      const auto place = [&](const std::vector<std::byte>& values) {
        void* here = pinned.allocate(std::ssize(values), "values");
        void* there = memory.allocate(std::ssize(values), "values");
        std::memcpy(here, values.data(), values.size());
        gpu.copy(stream, there, here, std::ssize(values));
        return there;
      };
      const auto fetch = [&](void* data, int64_t bytes) {
        void* here = pinned.allocate(bytes, "result");
        gpu.copy(stream, here, data, bytes).wait();
        const auto* from = static_cast<const std::byte*>(here);
        return std::vector<std::byte>(from, from + bytes);
      };
      found[static_cast<size_t>(world.rank())] = run(group, stream, c, place, fetch);
    });
    for (int rank = 0; rank < size; ++rank)
      EXPECT_EQ(found[static_cast<size_t>(rank)], expected[static_cast<size_t>(rank)])
          << name_of(c.kind) << " of " << name_of(c.source) << " to " << name_of(c.target) << ", rank " << rank;
  }
}
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadRanks, ::testing::Values(2, 4));

}  // namespace
}  // namespace zerostep::testing
