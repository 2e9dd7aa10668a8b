#include "sharding/comm/group_control.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "sharding/comm/private_buffer.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Fingerprint operation() { return Fingerprint(CollectiveKind::AllGather, static_cast<uint8_t>(DType::F32), 1000, ReduceOp::Sum, "h.1"); }

class GroupControls : public ::testing::Test {
 protected:
  static constexpr int kRanks = 3;
  GroupControl control(int rank, GroupControl::Options options = {}) { return {memory_.data(), rank, kRanks, std::move(options)}; }
  PrivateBuffer memory_{GroupControl::num_bytes(kRanks, false)};
};

// A rank that is killed while it writes the record leaves it half written for ever: who waits for it gives up in bounded time all the same,
// and the last rank learns of it from the one that took the record over.
TEST_F(GroupControls, ARecordThatAKilledRankLeavesHalfWrittenHoldsNobodyUp) {
  std::atomic<bool> is_rank_0_alive = true;
  GroupControl::Options options;
  options.timeout_seconds = 60;
  options.is_alive = [&](int rank) { return rank != 0 || is_rank_0_alive; };
  GroupControl dead = control(0, options), first = control(1, options), second = control(2, options);
  dead.failure().state = GroupControl::FailureRecord::kBeingWritten;
  is_rank_0_alive = false;
  const auto said_by = [](GroupControl& own) { return testing::message_of<RunError>([&] { own.barrier(operation()); }); };
  const auto start = Clock::now();
  std::string said[2];
  std::thread other([&] { said[1] = said_by(second); });
  said[0] = said_by(first);
  other.join();
  EXPECT_LT(seconds_since(start), 10);
  for (const std::string& text : said) {
    EXPECT_NE(text.find("rank 0 has died"), std::string::npos) << text;
    EXPECT_NE(text.find("all-gather of 'h.1'"), std::string::npos) << text;
  }
  ASSERT_TRUE(first.failure().is_set());
  EXPECT_NE(first.failure().rank, 0);
  EXPECT_NE(std::string(first.failure().text).find("rank 0 has died"), std::string::npos);
}

TEST_F(GroupControls, ARankThatFailsKeepsItsMemoryUntilItsReadersAreDone) {
  GroupControl owner = control(0), reader = control(1);
  std::atomic<bool> reads = false, is_done = false;
  std::thread other([&] {
    const GroupControl::Reading reading(reader, operation());
    reads = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    is_done = true;
  });
  while (!reads) std::this_thread::yield();
  owner.fail("a unit is broken");
  owner.wait_for_readers();
  EXPECT_TRUE(is_done) << "the memory would have gone under the reader";
  other.join();
}

TEST_F(GroupControls, NobodyBeginsToReadInAGroupThatHasFailed) {
  GroupControl owner = control(0), reader = control(1);
  owner.fail("a unit is broken");
  EXPECT_THROW(GroupControl::Reading(reader, operation()), PeerError);
  owner.wait_for_readers();  // returns: the one that was refused reads nothing
}

// A look at the others, for operations that are under way elsewhere: a rank that left in order is no loss, one whose process ended is.
TEST_F(GroupControls, ALookAtThePeersFindsWhoDied) {
  bool is_rank_2_alive = true, was_told = false;
  GroupControl::Options options;
  options.is_alive = [&](int rank) { return rank == 0 || (rank == 2 && is_rank_2_alive); };
  options.on_lost_rank = [&] { was_told = true; };
  GroupControl own = control(0, options), left = control(1);
  left.leave();
  own.check_peers(operation());
  is_rank_2_alive = false;
  const std::string text = testing::message_of<RunError>([&] { own.check_peers(operation()); });
  EXPECT_NE(text.find("rank 2 has died: the process ended while rank 0 was waiting for it in all-gather of 'h.1'"), std::string::npos)
      << text;
  EXPECT_TRUE(was_told);
  EXPECT_THROW(left.check_peers(operation()), PeerError);
}

}  // namespace
}  // namespace zerostep
