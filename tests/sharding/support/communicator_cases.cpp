#include "tests/sharding/support/communicator_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "tests/sharding/support/half_reference.h"

namespace zerostep::test {
namespace {

// Sizes on both sides of the borders between the paths: nothing, odd, one handshake (4 KiB), whole lines and not.
const std::vector<int64_t> kCounts = {0, 1, 17, 255, 1025, 4099, 40000};
const DType kTypes[] = {DType::F32, DType::BF16, DType::F16, DType::F64};

// Memory that peers can read, given out in pieces; the same on every rank.
class SharedArena {
 public:
  explicit SharedArena(Communicator& world) : buffer_(world.allocate(size_t{6} << 20, "operands")) {}
  char* take(int64_t num_bytes) {
    char* piece = static_cast<char*>(buffer_->data()) + used_;
    used_ += round_up(num_bytes, kAlignmentBytes);
    EXPECT_LE(used_, static_cast<int64_t>(buffer_->num_bytes()));
    return piece;
  }
  void reset() { used_ = 0; }

 private:
  std::shared_ptr<CommBuffer> buffer_;
  int64_t used_ = 0;
};

// Operands of one rank, in memory that peers can read (with an arena) or not, guarded by an element on either side.
class Operands {
 public:
  Operands(SharedArena* arena, int64_t count, DType type) : count_(count), type_(type) {
    if (!arena) memory_.resize(static_cast<size_t>(num_bytes(count + 2, type)));
    data_ = arena ? arena->take(num_bytes(count + 2, type)) : memory_.data();
    write_element(data_, 0, type_, -7);
    write_element(data_, count_ + 1, type_, -7);
  }
  void* at(int64_t index) { return data_ + num_bytes(index + 1, type_); }
  void set(int64_t index, double value) { write_element(at(0), index, type_, value); }
  double get(int64_t index) { return read_element(at(0), index, type_); }
  bool guards_stand() { return read_element(data_, 0, type_) == -7 && read_element(data_, count_ + 1, type_) == -7; }

 private:
  int64_t count_;
  DType type_;
  std::vector<char> memory_;
  char* data_;
};

// A value as it is after being stored in the type.
double rounded(double value, DType type) {
  char element[8];
  write_element(element, 0, type, value);
  return read_element(element, 0, type);
}

// The documented sum: rank order, fp32 (fp64 for F64), rounded once.
double sum_of_ranks(int ranks, DType type, uint64_t index, uint64_t salt) {
  double sum = rounded(sample(0, index, salt), type);
  for (int rank = 1; rank < ranks; ++rank) {
    const double value = rounded(sample(rank, index, salt), type);
    sum = type == DType::F64 ? sum + value : static_cast<double>(static_cast<float>(sum) + static_cast<float>(value));
  }
  return sum;
}

int64_t wrong_gathered(Operands& target, int64_t count, int ranks, DType type, uint64_t salt) {
  int64_t wrong = 0;
  for (int rank = 0; rank < ranks; ++rank)
    for (int64_t i = 0; i < count; ++i) wrong += target.get(rank * count + i) != rounded(sample(rank, i, salt), type);
  return wrong;
}

void all_gather(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  uint64_t salt = 0;
  for (const DType type : kTypes) {
    for (const int64_t count : kCounts) {
      for (const int form : {0, 1, 2, 3}) {  // bit 0: shared memory, bit 1: in place
        if (count > 4000 && type != DType::F32) continue;
        ++salt;
        arena.reset();
        const bool shared = form & 1, in_place = form & 2;
        Operands source(shared ? &arena : nullptr, count, type), target(shared ? &arena : nullptr, count * world.size(), type);
        for (int64_t i = 0; i < count; ++i) {
          source.set(i, sample(world.rank(), i, salt));
          if (in_place) target.set(world.rank() * count + i, sample(world.rank(), i, salt));
        }
        const Segment segment{in_place ? target.at(world.rank() * count) : source.at(0), target.at(0), count};
        world.all_gather({&segment, 1}, type, stream, "unit").wait();
        EXPECT_EQ(wrong_gathered(target, count, world.size(), type, salt), 0) << name_of(type) << " " << count << " form " << form;
        EXPECT_TRUE(target.guards_stand());
      }
    }
  }
}

void reduce_scatter(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  uint64_t salt = 1000;
  for (const DType type : kTypes) {
    for (const int64_t count : kCounts) {
      for (int form = 0; form < 8; ++form) {  // bit 0: shared memory, bit 1: in place, bit 2: accumulate
        arena.reset();
        const bool shared = form & 1, in_place = form & 2, accumulate = form & 4;
        if (count > 4000 && type != DType::F32 && form != 5 && form != 2) continue;
        const DType target_type = in_place || form == 0 || type == DType::F64 ? type : DType::F32;
        ++salt;
        Operands source(shared ? &arena : nullptr, count * world.size(), type), other(shared ? &arena : nullptr, count, target_type);
        Operands& target = in_place ? source : other;
        const int64_t place = in_place ? world.rank() * count : 0;
        for (int64_t i = 0; i < count * world.size(); ++i) source.set(i, sample(world.rank(), i, salt));
        std::vector<double> before(count);
        for (int64_t i = 0; i < count; ++i) {
          if (!in_place) target.set(i, sample(77, i, salt));
          before[i] = target.get(place + i);
        }
        const Segment segment{source.at(0), target.at(place), count};
        world.reduce_scatter({&segment, 1}, type, target_type, accumulate, stream, "unit").wait();
        int64_t wrong = 0;
        for (int64_t i = 0; i < count; ++i) {
          double expected = sum_of_ranks(world.size(), type, world.rank() * count + i, salt);
          if (accumulate)
            expected = type == DType::F64 ? before[i] + expected
                                          : static_cast<double>(static_cast<float>(before[i]) + static_cast<float>(expected));
          wrong += target.get(place + i) != rounded(expected, target_type);
        }
        EXPECT_EQ(wrong, 0) << name_of(type) << " to " << name_of(target_type) << ", " << count << " elements, form " << form;
        EXPECT_TRUE(source.guards_stand() && other.guards_stand());
      }
    }
  }
}

void all_reduce(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  uint64_t salt = 2000;
  for (const DType type : kTypes) {
    for (const int64_t count : kCounts) {
      for (const int form : {0, 1, 2, 3}) {
        if (count > 4000 && type != DType::F32) continue;
        ++salt;
        arena.reset();
        const bool shared = form & 1, in_place = form & 2;
        Operands source(shared ? &arena : nullptr, count, type), other(shared ? &arena : nullptr, count, type);
        Operands& target = in_place ? source : other;
        for (int64_t i = 0; i < count; ++i) source.set(i, sample(world.rank(), i, salt));
        const Segment segment{source.at(0), target.at(0), count};
        world.all_reduce({&segment, 1}, type, ReduceOp::Sum, stream, "unit").wait();
        int64_t wrong = 0;
        for (int64_t i = 0; i < count; ++i) wrong += target.get(i) != rounded(sum_of_ranks(world.size(), type, i, salt), type);
        EXPECT_EQ(wrong, 0) << name_of(type) << " " << count << " form " << form;
        EXPECT_TRUE(source.guards_stand() && other.guards_stand());
      }
    }
  }
}

void all_reduce_max(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  for (const int64_t count : {5, 5000}) {
    Operands data(&arena, count, DType::F32);
    for (int64_t i = 0; i < count; ++i) data.set(i, sample(world.rank(), i));
    const bool mine = world.rank() == world.size() - 1;
    if (mine) data.set(3, std::numeric_limits<double>::quiet_NaN());
    const Segment segment{data.at(0), data.at(0), count};
    world.all_reduce({&segment, 1}, DType::F32, ReduceOp::Max, stream, "norm").wait();
    for (int64_t i = 0; i < count; ++i) {
      double expected = sample(0, i);
      for (int rank = 1; rank < world.size(); ++rank) expected = std::max(expected, sample(rank, i));
      if (i == 3)
        EXPECT_TRUE(std::isnan(data.get(i)));
      else
        EXPECT_EQ(data.get(i), static_cast<float>(expected));
    }
  }
}

void broadcast(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  for (const int64_t count : kCounts) {
    for (const bool shared : {false, true}) {
      for (int root = 0; root < world.size(); ++root) {
        arena.reset();
        Operands target(shared ? &arena : nullptr, count, DType::BF16);
        for (int64_t i = 0; i < count; ++i) target.set(i, sample(world.rank(), i));
        const Segment segment{nullptr, target.at(0), count};
        world.broadcast({&segment, 1}, DType::BF16, root, stream, "weights").wait();
        int64_t wrong = 0;
        for (int64_t i = 0; i < count; ++i) wrong += target.get(i) != rounded(sample(root, i), DType::BF16);
        EXPECT_EQ(wrong, 0) << count << " from " << root;
        EXPECT_TRUE(target.guards_stand());
      }
    }
  }
}

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

// A rank that runs another collective than the others: an error on every rank that names both sides.
template <typename Diverge>
void expect_mismatch(Communicator& world, const std::string& usual, const std::string& other, Diverge&& diverge) {
  if (world.size() == 1) return;
  Communicator group = world.split(0, world.rank());
  const std::string error = run_error_of([&] { diverge(group, group.rank() == group.size() - 1); });
  EXPECT_NE(error.find("diverged"), std::string::npos) << error;
  EXPECT_NE(error.find(fmt::format("rank 0 runs {}", usual)), std::string::npos) << error;
  EXPECT_NE(error.find(fmt::format("rank {} runs {}", group.size() - 1, other)), std::string::npos) << error;
  // The group stays failed; the one it was split from goes on.
  Stream stream = Stream::inline_stream();
  EXPECT_NE(run_error_of([&] { group.barrier(stream, "after").wait(); }), "");
  Stream next = Stream::inline_stream();
  world.barrier(next, "world goes on").wait();
}

void mismatches(Communicator world) {
  std::vector<float> a(20000 * static_cast<size_t>(world.size())), b(a.size());
  Stream stream = Stream::inline_stream();
  expect_mismatch(world, "all-gather of 'h.3' (1,234 elements of fp32)", "barrier 'h.3'", [&](Communicator& group, bool odd) {
    Stream own = Stream::inline_stream();
    const Segment segment{a.data(), b.data(), 1234};
    if (odd)
      group.barrier(own, "h.3").wait();
    else
      group.all_gather({&segment, 1}, DType::F32, own, "h.3").wait();
  });
  expect_mismatch(world, "all-gather of 'h.3' (15,000 elements of fp32)", "all-gather of 'h.4' (15,000",
                  [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Segment segment{a.data(), b.data(), 15000};
                    group.all_gather({&segment, 1}, DType::F32, own, odd ? "h.4" : "h.3").wait();
                  });
  expect_mismatch(world, "reduce-scatter of 'h' (10 elements of fp32)", "reduce-scatter of 'h' (10,001 elements of fp32)",
                  [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Segment segment{a.data(), b.data(), odd ? 10001 : 10};
                    group.reduce_scatter({&segment, 1}, DType::F32, DType::F32, false, own, "h").wait();
                  });
  expect_mismatch(world, "all-reduce of 'n' (100 elements of fp32)", "all-reduce of 'n' (100 elements of bf16)",
                  [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Segment segment{a.data(), b.data(), 100};
                    group.all_reduce({&segment, 1}, odd ? DType::BF16 : DType::F32, ReduceOp::Sum, own, "n").wait();
                  });
  expect_mismatch(world, "all-reduce of 'n' (100 elements of fp32)", "all-reduce of 'n' (100 elements of fp32) taking the maximum",
                  [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Segment segment{a.data(), b.data(), 100};
                    group.all_reduce({&segment, 1}, DType::F32, odd ? ReduceOp::Max : ReduceOp::Sum, own, "n").wait();
                  });
  expect_mismatch(world, "all-reduce of 's' (1 elements of fp64)", "all-gather of 's' (8 bytes)", [&](Communicator& group, bool odd) {
    double value = 1;
    if (odd)
      group.all_gather_text("x", "s");
    else
      group.all_reduce_scalars({&value, 1}, ReduceOp::Sum, "s");
  });
  // The same total in other segments, and a label that differs past what is kept of it.
  expect_mismatch(world, "all-gather of 'h' (30 elements of fp32)",
                  "all-gather of 'h' (30 elements of fp32) in 2 segments with segments of other", [&](Communicator& group, bool odd) {
                    Stream own = Stream::inline_stream();
                    const Segment two[] = {{a.data(), b.data(), odd ? 10 : 20}, {a.data(), b.data() + 2000, odd ? 20 : 10}};
                    group.all_gather(two, DType::F32, own, "h").wait();
                  });
  const std::string long_label(200, 'x');
  expect_mismatch(world, "barrier 'xxxx", "barrier 'xxxx", [&](Communicator& group, bool odd) {
    Stream own = Stream::inline_stream();
    group.barrier(own, odd ? (long_label + "y").c_str() : long_label.c_str()).wait();
  });
}

void misuse(Communicator world) {
  Stream stream = Stream::inline_stream();
  std::vector<float> data(10000 * static_cast<size_t>(world.size()));
  const Segment negative{data.data(), data.data() + 5000, -1}, null{nullptr, data.data(), 4}, good{data.data(), data.data() + 1, 4};
  EXPECT_THROW(world.all_gather({&negative, 1}, DType::F32, stream, "x"), ProtocolError);
  EXPECT_THROW(world.all_gather({&null, 1}, DType::F32, stream, "x"), ProtocolError);
  EXPECT_THROW(world.all_reduce({&good, 1}, DType::F32, ReduceOp::Sum, stream, "overlapping by less than all"), ProtocolError);
  EXPECT_THROW(world.broadcast({&good, 1}, DType::F32, world.size(), stream, "x"), ProtocolError);
  EXPECT_THROW(world.broadcast({&good, 1}, DType::F32, -1, stream, "x"), ProtocolError);
  EXPECT_THROW(world.reduce_scatter({&good, 1}, DType::F32, DType::BF16, false, stream, "x"), ProtocolError);
  world.barrier(stream, "nothing was started").wait();
}

// One rank fails while the others wait for it, some in a group split from the first one.
void abort_reaches_every_group(Communicator world) {
  if (world.size() == 1) return;
  const auto expect_parts = [](const std::string& error, std::initializer_list<std::string> parts) {
    for (const std::string& part : parts) EXPECT_NE(error.find(part), std::string::npos) << error;
  };
  std::string operation = "'split'";  // where messages carry the news, they may arrive before the last of the split's own
  try {
    Communicator other = world.split(0, -world.rank());
    Stream stream = Stream::inline_stream();
    operation = "barrier 'optimizer'";
    if (world.rank() == world.size() - 1) {
      world.abort("the disk is full");
      expect_parts(run_error_of([&] { other.barrier(stream, "after").wait(); }), {"the disk is full"});
      return;
    }
    Communicator& group = world.rank() == 0 ? world : other;
    group.barrier(stream, "optimizer").wait();
    ADD_FAILURE() << "the barrier cannot be complete";
  } catch (const PeerError& error) {
    expect_parts(error.what(), {"the disk is full", operation, fmt::format("rank {}", world.size() - 1)});
  }
}

}  // namespace

std::string run_error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const RunError& error) {
    return error.what();
  }
  return "";
}

const std::vector<CommunicatorCase>& communicator_cases() {
  static const std::vector<CommunicatorCase> cases = {{"AllGather", all_gather},
                                                      {"ReduceScatter", reduce_scatter},
                                                      {"AllReduce", all_reduce},
                                                      {"AllReduceMax", all_reduce_max},
                                                      {"Broadcast", broadcast},
                                                      {"Segments", segments},
                                                      {"MixedMemory", mixed_memory},
                                                      {"WorkerStreamInOrder", worker_stream_in_order},
                                                      {"ScalarsAndTexts", scalars_and_texts},
                                                      {"Counters", counters},
                                                      {"Buffers", buffers},
                                                      {"Split", split},
                                                      {"Mismatches", mismatches},
                                                      {"Misuse", misuse},
                                                      {"AbortReachesEveryGroup", abort_reaches_every_group}};
  return cases;
}

}  // namespace zerostep::test
