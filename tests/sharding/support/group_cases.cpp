#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/sharding/support/communicator_cases.h"
#include "tests/sharding/support/operands.h"

namespace zerostep::test {
namespace {

void scalars_and_texts(Communicator world) {
  const int ranks = world.size();
  std::vector<double> values;
  for (int i = 0; i < 1300; ++i) values.push_back(sample(world.rank(), i));
  world.all_reduce_scalars(values, ReduceOp::Sum, "loss");
  for (int i = 0; i < 1300; ++i) {
    double sum = sample(0, i);
    for (int rank = 1; rank < ranks; ++rank) sum += sample(rank, i);
    EXPECT_EQ(values[i], sum);
  }
  double largest[3] = {static_cast<double>(world.rank()), -static_cast<double>(world.rank()), world.rank() == ranks - 1 ? NAN : 1};
  world.all_reduce_scalars(largest, ReduceOp::Max, "norm");
  EXPECT_EQ(largest[0], ranks - 1);
  EXPECT_EQ(largest[1], 0);
  EXPECT_TRUE(std::isnan(largest[2]));
  world.all_reduce_scalars({}, ReduceOp::Sum, "none");

  const auto text_of = [](int rank) {
    return rank == 0 ? std::string() : std::string(static_cast<size_t>(rank) * 5000, static_cast<char>('a' + rank)) + '\0' + "end";
  };
  const std::vector<std::string> texts = world.all_gather_text(text_of(world.rank()), "text");
  ASSERT_EQ(texts.size(), static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) EXPECT_EQ(texts[rank], text_of(rank));

  const CommCounters counters = world.counters();
  EXPECT_EQ(counters.scalars.calls, 4);
  EXPECT_EQ(counters.all_reduce.calls, 0);
}

void counters(Communicator world) {
  Stream stream = Stream::inline_stream();
  const int64_t ranks = world.size(), rank = world.rank();
  std::vector<float> a(static_cast<size_t>(100 * ranks)), b(static_cast<size_t>(100 * ranks));
  std::vector<uint16_t> c(static_cast<size_t>(7 * ranks)), d(7);
  const Segment gather[] = {{a.data(), b.data(), 60}, {a.data() + 60, b.data() + 60 * ranks, 40}};
  world.all_gather(gather, DType::F32, stream, "gather").wait();
  const Segment scatter{c.data(), d.data(), 7};
  world.reduce_scatter({&scatter, 1}, DType::BF16, DType::BF16, false, stream, "scatter").wait();
  world.reduce_scatter({&scatter, 1}, DType::BF16, DType::BF16, true, stream, "scatter").wait();
  const Segment reduce{a.data(), b.data(), 11};
  world.all_reduce({&reduce, 1}, DType::F32, ReduceOp::Sum, stream, "reduce").wait();
  const Segment send{nullptr, a.data(), 13};
  world.broadcast({&send, 1}, DType::F32, static_cast<int>(ranks - 1), stream, "send").wait();
  world.barrier(stream, "barrier").wait();
  const Communicator copy = world;
  const CommCounters counters = copy.counters();
  EXPECT_EQ(counters.all_gather.calls, 1);
  EXPECT_EQ(counters.all_gather.elements, (ranks - 1) * 100);
  EXPECT_EQ(counters.all_gather.bytes, (ranks - 1) * 400);
  EXPECT_EQ(counters.reduce_scatter.calls, 2);
  EXPECT_EQ(counters.reduce_scatter.elements, (ranks - 1) * 14);
  EXPECT_EQ(counters.reduce_scatter.bytes, (ranks - 1) * 28);
  EXPECT_EQ(counters.all_reduce.elements, (2 * (ranks - 1) * 11 + ranks - 1) / ranks);
  EXPECT_EQ(counters.broadcast.elements, rank == ranks - 1 ? 0 : 13);
  EXPECT_EQ(counters.barrier.calls, 1);
  EXPECT_EQ(counters.elements_gathered(), (ranks - 1) * 100 + (rank == ranks - 1 ? 0 : 13));
  EXPECT_GE(counters.all_gather.seconds, 0);
}

void buffers(Communicator world) {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{100}, size_t{5000000} + static_cast<size_t>(world.rank()) * 4096}) {
    auto buffer = world.allocate(bytes, "buffer");
    EXPECT_EQ(buffer->num_bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    const auto* data = static_cast<const unsigned char*>(buffer->data());
    EXPECT_EQ(std::count(data, data + bytes, 0), static_cast<std::ptrdiff_t>(bytes));
    std::memset(buffer->data(), 0xff, bytes);
  }
}

double sum_over(Communicator& group, int64_t count) {
  Stream stream = Stream::inline_stream();
  auto buffer = group.allocate(static_cast<size_t>(count) * sizeof(float), "split");
  float* data = static_cast<float*>(buffer->data());
  std::fill(data, data + count, static_cast<float>(group.rank() + 1));
  const Segment segment{data, data, count};
  group.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, stream, "split").wait();
  EXPECT_EQ(std::count(data, data + count, data[0]), count);
  return data[0];
}

void split(Communicator world) {
  const int ranks = world.size(), rank = world.rank();
  Communicator same = world.split(0, rank);
  EXPECT_EQ(same.size(), ranks);
  EXPECT_EQ(same.rank(), rank);
  Communicator reversed = world.split(0, -rank);
  EXPECT_EQ(reversed.rank(), ranks - 1 - rank);
  EXPECT_STREQ(reversed.backend(), world.backend());
  Communicator parity = world.split([](int r) { return std::pair(r % 2, 0); });
  const int group = rank % 2 == 0 ? (ranks + 1) / 2 : ranks / 2;
  EXPECT_EQ(parity.size(), group);
  EXPECT_EQ(parity.rank(), rank / 2);
  EXPECT_EQ(sum_over(parity, 20000), group * (group + 1) / 2);
  Communicator pairs = parity.split(parity.rank() / 2, 0);
  EXPECT_EQ(pairs.size(), std::min(2, group - parity.rank() / 2 * 2));
  EXPECT_EQ(sum_over(pairs, 3), pairs.size() == 2 ? 3 : 1);
  EXPECT_EQ(sum_over(reversed, 20000), ranks * (ranks + 1) / 2);
  EXPECT_EQ(sum_over(world, 20000), ranks * (ranks + 1) / 2);
  EXPECT_EQ(parity.counters().all_reduce.calls, 1);
  EXPECT_EQ(world.counters().all_reduce.calls, 1);

  // A buffer of the first group is an operand in a group split from it.
  auto buffer = world.allocate(80000, "of the first group");
  float* data = static_cast<float*>(buffer->data());
  std::fill(data, data + 20000, static_cast<float>(rank));
  const Segment segment{data, data, 20000};
  Stream stream = Stream::inline_stream();
  parity.all_reduce({&segment, 1}, DType::F32, ReduceOp::Max, stream, "part").wait();
  EXPECT_EQ(data[19999], rank % 2 == 0 ? (ranks - 1) / 2 * 2 : (ranks - 2) / 2 * 2 + 1);
  world.barrier(stream, "end").wait();
}

}  // namespace

std::vector<CommunicatorCase> group_cases() {
  return {{"ScalarsAndTexts", scalars_and_texts}, {"Counters", counters}, {"Buffers", buffers}, {"Split", split}};
}

}  // namespace zerostep::test
