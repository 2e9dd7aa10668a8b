#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "tests/sharding/support/communicator_cases.h"
#include "tests/sharding/support/fake_communicator.h"
#include "tests/sharding/support/operands.h"

namespace zerostep::test {
namespace {

// What every rank knows of a transfer; run `content` of its giver is what it must bring.
struct Plan {
  int from, to;
  int64_t count;
  uint64_t content;
};

enum class Memory { Shared, Private, Mixed };
constexpr Memory kMemories[] = {Memory::Shared, Memory::Private, Memory::Mixed};

// The operands of one rank for a list of plans: sources of equal (from, content, count) are one, all between guards.
class PlannedExchange {
 public:
  PlannedExchange(Communicator world, SharedArena& arena, std::vector<Plan> plans, DType type, Memory memory)
      : world_(std::move(world)), plans_(std::move(plans)), type_(type) {
    for (size_t i = 0; i < plans_.size(); ++i) {
      const Plan& plan = plans_[i];
      const bool shared = memory == Memory::Shared || (memory == Memory::Mixed && (plan.content + i) % 3 == 0);
      void *source = nullptr, *target = nullptr;
      if (plan.from == world_.rank()) source = source_of(plan, shared ? &arena : nullptr);
      if (plan.to == world_.rank()) {
        targets_.emplace_back(shared ? &arena : nullptr, plan.count, type);
        for (int64_t k = 0; k < plan.count; ++k) targets_.back().set(k, 55);
        target = targets_.back().at(0);
      }
      transfers_.push_back({plan.from, plan.to, source, target, plan.count});
    }
  }

  std::span<const Transfer> transfers() const { return transfers_; }

  // Elements of all targets that are not what their givers gave, plus guards that fell, plus sources that changed.
  int64_t wrong() {
    int64_t wrong = 0;
    size_t next = 0;
    for (const Plan& plan : plans_) {
      if (plan.to != world_.rank()) continue;
      Operands& target = targets_[next++];
      for (int64_t k = 0; k < plan.count; ++k) wrong += target.get(k) != value(plan, k);
      wrong += !target.guards_stand();
    }
    for (auto& [plan, source] : sources_) {
      for (int64_t k = 0; k < plan.count; ++k) wrong += source.get(k) != value(plan, k);
      wrong += !source.guards_stand();
    }
    return wrong;
  }

 private:
  double value(const Plan& plan, int64_t index) const {
    return rounded(sample(static_cast<uint64_t>(plan.from), static_cast<uint64_t>(index), plan.content), type_);
  }
  void* source_of(const Plan& plan, SharedArena* arena) {
    for (auto& [known, source] : sources_)
      if (known.content == plan.content && known.count == plan.count) return source.at(0);
    auto& [known, source] = sources_.emplace_back(plan, Operands(arena, plan.count, type_));
    for (int64_t k = 0; k < plan.count; ++k) source.set(k, value(plan, k));
    return source.at(0);
  }

  Communicator world_;
  std::vector<Plan> plans_;
  DType type_;
  std::deque<std::pair<Plan, Operands>> sources_;
  std::deque<Operands> targets_;
  std::vector<Transfer> transfers_;
};

// Every pair of ranks, to itself included, each with another count.
void every_pair(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  uint64_t content = 0;
  for (const DType type : kTypes) {
    for (const int64_t count : kCounts) {
      if (count > 4000 && type != DType::F32) continue;
      for (const Memory memory : kMemories) {
        arena.reset();
        std::vector<Plan> plans;
        for (int from = 0; from < world.size(); ++from)
          for (int to = 0; to < world.size(); ++to) plans.push_back({from, to, count + (count > 0 ? (3 * from + to) % 5 : 0), ++content});
        PlannedExchange exchange(world, arena, plans, type, memory);
        world.exchange(exchange.transfers(), type, stream, "unit").wait();
        EXPECT_EQ(exchange.wrong(), 0) << name_of(type) << " " << count << " memory " << static_cast<int>(memory);
      }
    }
  }
}

// Bits that are no ordinary numbers arrive as they are: nothing is converted on the way.
void bits_are_kept(Communicator world) {
  Stream stream = Stream::inline_stream();
  const int next = (world.rank() + 1) % world.size(), previous = (world.rank() + world.size() - 1) % world.size();
  for (const DType type : kTypes) {
    for (const int64_t count : {100, 5000}) {
      const auto bytes = static_cast<size_t>(num_bytes(count, type));
      const auto byte = [](int rank, size_t i) {
        return static_cast<unsigned char>((i * 151 + static_cast<size_t>(rank) * 89) >> 1 ^ 0xff);
      };
      std::vector<unsigned char> source(bytes), target(bytes), expected(bytes);
      for (size_t i = 0; i < bytes; ++i) {
        source[i] = byte(world.rank(), i);
        expected[i] = byte(previous, i);
      }
      std::vector<Transfer> ring;
      for (int rank = 0; rank < world.size(); ++rank)
        ring.push_back({rank, (rank + 1) % world.size(), source.data(), target.data(), count});
      EXPECT_EQ(ring[static_cast<size_t>(world.rank())].to, next);
      world.exchange(ring, type, stream, "bits").wait();
      EXPECT_EQ(target, expected) << name_of(type) << " " << count;
    }
  }
}

// More transfers than one handshake holds, in no order, with nothing in some: from all ranks, and all from one.
void many_transfers(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  for (const Memory memory : kMemories) {
    for (const bool from_one : {false, true}) {
      arena.reset();
      std::vector<Plan> plans;
      for (uint64_t i = 0; i < 1500; ++i) {
        const uint64_t random = (i + 1) * 0x9e3779b97f4a7c15u;
        const auto ranks = static_cast<uint64_t>(world.size());
        const int from = from_one ? world.size() - 1 : static_cast<int>((random >> 20) % ranks);
        plans.push_back(
            {from, static_cast<int>((random >> 40) % ranks), i % 11 == 0 ? 0 : static_cast<int64_t>((random >> 50) % 150), i / 2});
      }
      PlannedExchange exchange(world, arena, plans, DType::F32, memory);
      world.exchange(exchange.transfers(), DType::F32, stream, "matrices").wait();
      EXPECT_EQ(exchange.wrong(), 0) << "memory " << static_cast<int>(memory) << (from_one ? ", all from one" : "");
    }
  }
}

// One source to every rank, itself included: a broadcast by hand, small and past the bounce area.
void one_source_to_many(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  for (const int64_t count : {33, 70001}) {
    for (const Memory memory : kMemories) {
      arena.reset();
      std::vector<Plan> plans;
      for (const int from : {0, world.size() - 1})
        for (int to = 0; to < world.size(); ++to) plans.push_back({from, to, count, 3});
      PlannedExchange exchange(world, arena, plans, DType::F32, memory);
      EXPECT_EQ(exchange.transfers().front().source, exchange.transfers()[static_cast<size_t>(world.size()) - 1].source);
      world.exchange(exchange.transfers(), DType::F32, stream, "weights").wait();
      EXPECT_EQ(exchange.wrong(), 0) << count << " memory " << static_cast<int>(memory);
    }
  }
}

// Runs that end inside a bounce area, begin in it and are longer than it, from one rank more than from the others.
void longer_than_the_bounce_area(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  for (const Memory memory : {Memory::Private, Memory::Mixed}) {
    arena.reset();
    std::vector<Plan> plans;
    uint64_t content = 0;
    for (int step = 0; step < world.size(); ++step)
      for (const int64_t count : {50001, 7, 140003})
        if (step < 2 || count < 100000) plans.push_back({step, (step + 1) % world.size(), count, ++content});
    PlannedExchange exchange(world, arena, plans, DType::F32, memory);
    world.exchange(exchange.transfers(), DType::F32, stream, "long").wait();
    EXPECT_EQ(exchange.wrong(), 0) << "memory " << static_cast<int>(memory);
  }
}

void nothing_to_move(Communicator world) {
  Stream stream = Stream::inline_stream();
  world.exchange({}, DType::F32, stream, "nothing").wait();
  const std::vector<Transfer> empty(300, {0, world.size() - 1, nullptr, nullptr, 0});
  world.exchange(empty, DType::BF16, stream, "nothing").wait();
  float kept[2] = {1, 2};
  const Transfer in_place{world.rank(), world.rank(), kept, kept, 2};
  std::vector<Transfer> all;
  for (int rank = 0; rank < world.size(); ++rank) all.push_back({rank, rank, in_place.source, in_place.target, 2});
  world.exchange(all, DType::F32, stream, "in place").wait();
  EXPECT_EQ(kept[0] + 10 * kept[1], 21);
  const CommCounters counters = world.counters();
  EXPECT_EQ(counters.exchange.calls, 3);
  EXPECT_EQ(counters.exchange.elements, 0);
}

// Many exchanges between two buffers without waiting: a shift round the ring each.
void exchanges_in_order(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::worker("communication");
  const int ranks = world.size(), rounds = 21;
  for (const int64_t count : {50, 3000}) {
    for (const bool shared : {false, true}) {
      arena.reset();
      Operands a(shared ? &arena : nullptr, count, DType::F32), b(shared ? &arena : nullptr, count, DType::F32);
      for (int64_t i = 0; i < count; ++i) a.set(i, sample(static_cast<uint64_t>(world.rank()), static_cast<uint64_t>(i)));
      for (int round = 0; round < rounds; ++round) {
        Operands &source = round % 2 == 0 ? a : b, &target = round % 2 == 0 ? b : a;
        std::vector<Transfer> shift;
        for (int rank = 0; rank < ranks; ++rank) shift.push_back({rank, (rank + 1) % ranks, source.at(0), target.at(0), count});
        world.exchange(shift, DType::F32, stream, "shift");
      }
      stream.synchronize();
      const int giver = ((world.rank() - rounds) % ranks + ranks) % ranks;
      int64_t wrong = 0;
      for (int64_t i = 0; i < count; ++i) wrong += b.get(i) != rounded(sample(giver, i), DType::F32);
      EXPECT_EQ(wrong, 0) << count << (shared ? " shared" : "");
    }
  }
}

// In a group split from the first one, whose ranks are counted anew, with memory of the first.
void in_a_split_group(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  Communicator parity = world.split([](int rank) { return std::pair(rank % 2, -rank); });
  for (const int64_t count : {20, 30000}) {
    arena.reset();
    std::vector<Plan> plans;
    uint64_t content = 40;
    for (int from = 0; from < parity.size(); ++from)
      for (int to = 0; to < parity.size(); ++to) plans.push_back({from, to, count + from + to, ++content});
    PlannedExchange exchange(parity, arena, plans, DType::F32, Memory::Mixed);
    parity.exchange(exchange.transfers(), DType::F32, stream, "part").wait();
    EXPECT_EQ(exchange.wrong(), 0);
  }
  EXPECT_EQ(parity.counters().exchange.calls, 2);
  EXPECT_EQ(world.counters().exchange.calls, 0);
  world.barrier(stream, "end").wait();
}

// Exact, and the same from a communicator that moves nothing.
void exchange_counters(Communicator world) {
  SharedArena arena(world);
  Stream stream = Stream::inline_stream();
  Communicator fake = make_fake_communicator(world.rank(), world.size());
  int64_t received = 0, bytes = 0;
  for (const DType type : {DType::F32, DType::BF16}) {
    for (const int64_t count : {3, 5000}) {
      arena.reset();
      std::vector<Plan> plans;
      std::vector<Transfer> counted;
      for (int i = 0; i < 3 * world.size(); ++i) plans.push_back({i % world.size(), (i * i + 1) % world.size(), count + i, 1});
      for (const Plan& plan : plans) {
        counted.push_back({plan.from, plan.to, nullptr, nullptr, plan.count});
        if (plan.to != world.rank() || plan.from == plan.to) continue;
        received += plan.count;
        bytes += num_bytes(plan.count, type);
      }
      PlannedExchange exchange(world, arena, plans, type, Memory::Mixed);
      world.exchange(exchange.transfers(), type, stream, "unit").wait();
      fake.exchange(counted, type, stream, "unit").wait();
    }
  }
  for (const CommCounters& counters : {world.counters(), fake.counters()}) {
    EXPECT_EQ(counters.exchange.calls, 4);
    EXPECT_EQ(counters.exchange.elements, received);
    EXPECT_EQ(counters.exchange.bytes, bytes);
    EXPECT_EQ(counters.elements_gathered(), received);
    EXPECT_EQ(counters.elements_reduced(), 0);
  }
}

}  // namespace

std::vector<CommunicatorCase> exchange_cases() {
  return {{"ExchangeOfEveryPair", every_pair},
          {"ExchangeKeepsBits", bits_are_kept},
          {"ExchangeOfManyTransfers", many_transfers},
          {"ExchangeFromOneToMany", one_source_to_many},
          {"ExchangeLongerThanTheBounceArea", longer_than_the_bounce_area},
          {"ExchangeOfNothing", nothing_to_move},
          {"ExchangesInOrder", exchanges_in_order},
          {"ExchangeInASplitGroup", in_a_split_group},
          {"ExchangeCounters", exchange_counters}};
}

}  // namespace zerostep::test
