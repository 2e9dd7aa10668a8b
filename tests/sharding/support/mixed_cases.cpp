#include <gtest/gtest.h>

#include "tests/sharding/support/communicator_cases.h"
#include "tests/sharding/support/operands.h"

namespace zerostep::test {
namespace {

// Many segments, empty ones among them, some in shared memory and some not: more than one handshake holds.
void segments(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  std::vector<int64_t> counts;
  for (int i = 0; i < 300; ++i) counts.push_back(i % 5 == 0 ? 0 : (i * 37) % 101);
  counts.push_back(70001);
  std::vector<Operands> sources, gathered, reduced;
  for (size_t s = 0; s < counts.size(); ++s) {
    const bool shared = s == 7 || s == 200 || s == 300;
    sources.emplace_back(shared ? &arena : nullptr, counts[s] * world.size(), DType::F32);
    gathered.emplace_back(nullptr, counts[s] * world.size(), DType::F32);
    reduced.emplace_back(nullptr, counts[s], DType::F32);
    for (int64_t i = 0; i < counts[s] * world.size(); ++i) sources[s].set(i, sample(world.rank(), i, s));
  }
  std::vector<Segment> gather, scatter;
  for (size_t s = 0; s < counts.size(); ++s) {
    gather.push_back({counts[s] ? sources[s].at(0) : nullptr, counts[s] ? gathered[s].at(0) : nullptr, counts[s]});
    scatter.push_back({sources[s].at(0), reduced[s].at(0), counts[s]});
  }
  world.all_gather(gather, DType::F32, stream, "bucket").wait();
  world.reduce_scatter(scatter, DType::F32, DType::F32, false, stream, "bucket").wait();
  int64_t wrong = 0;
  for (size_t s = 0; s < counts.size(); ++s) {
    wrong += wrong_gathered(gathered[s], counts[s], world.size(), DType::F32, s);
    for (int64_t i = 0; i < counts[s]; ++i)
      wrong += reduced[s].get(i) != sum_of_ranks(world.size(), DType::F32, world.rank() * counts[s] + i, s);
  }
  EXPECT_EQ(wrong, 0);
  world.all_gather({}, DType::F32, stream, "nothing").wait();
}

// Some ranks' operands lie in shared memory and others' do not.
void mixed_memory(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  const int64_t count = 90001;  // several bounce chunks
  Operands shared(&arena, count, DType::F32), own(nullptr, count, DType::F32);
  Operands& data = world.rank() % 2 == 0 ? shared : own;
  for (int64_t i = 0; i < count; ++i) data.set(i, sample(world.rank(), i));
  const Segment segment{data.at(0), data.at(0), count};
  world.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, stream, "mixed").wait();
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) wrong += data.get(i) != sum_of_ranks(world.size(), DType::F32, i, 0);
  EXPECT_EQ(wrong, 0);
}

void worker_stream_in_order(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::worker("communication");
  const int64_t count = 3000;
  Operands shard(&arena, count, DType::F32), full(&arena, count * world.size(), DType::F32);
  for (int64_t i = 0; i < count; ++i) shard.set(i, sample(world.rank(), i));
  const Segment gather{shard.at(0), full.at(0), count}, scatter{full.at(0), shard.at(0), count};
  for (int round = 0; round < 20; ++round) {
    world.all_gather({&gather, 1}, DType::F32, stream, "gather");
    world.reduce_scatter({&scatter, 1}, DType::F32, DType::F32, false, stream, "scatter");
    world.barrier(stream, "end of round");
  }
  stream.synchronize();
  // Each round multiplies a shard by the number of ranks: exact for 1, 2 and 4, rounded alike for others.
  for (int64_t i = 0; i < count; ++i) {
    float expected = static_cast<float>(sample(world.rank(), i));
    for (int round = 0; round < 20; ++round) {
      float sum = expected;
      for (int rank = 1; rank < world.size(); ++rank) sum += expected;
      expected = sum;
    }
    EXPECT_EQ(shard.get(i), expected);
  }
}

}  // namespace

std::vector<CommunicatorCase> mixed_cases() {
  return {{"Segments", segments}, {"MixedMemory", mixed_memory}, {"WorkerStreamInOrder", worker_stream_in_order}};
}

}  // namespace zerostep::test
