#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/sharding/support/communicator_cases.h"
#include "tests/sharding/support/operands.h"

namespace zerostep::test {
namespace {

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

}  // namespace

std::vector<CommunicatorCase> reduce_cases() {
  return {{"ReduceScatter", reduce_scatter}, {"AllReduce", all_reduce}, {"AllReduceMax", all_reduce_max}};
}

}  // namespace zerostep::test
