#include <gtest/gtest.h>

#include "tests/sharding/support/communicator_cases.h"
#include "tests/sharding/support/operands.h"

namespace zerostep::test {
namespace {

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

}  // namespace

std::vector<CommunicatorCase> gather_cases() { return {{"AllGather", all_gather}, {"Broadcast", broadcast}}; }

}  // namespace zerostep::test
