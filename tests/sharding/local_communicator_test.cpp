#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "sharding/local_ranks.h"
#include "tests/sharding/support/communicator_cases.h"
#include "tests/sharding/support/fake_communicator.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using test::CommunicatorCase;
using testing::message_of;

double seconds_of(const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class LocalCommunicator : public ::testing::TestWithParam<std::tuple<CommunicatorCase, int>> {};

TEST_P(LocalCommunicator, Does) {
  const auto& [test_case, size] = GetParam();
  run_local_ranks(size, {.timeout_seconds = 30}, [&](Communicator world) {
    EXPECT_EQ(world.size(), size);
    EXPECT_STREQ(world.backend(), "local");
    EXPECT_EQ(world.shares_process(), size > 1);
    test_case.body(world);
  });
}

INSTANTIATE_TEST_SUITE_P(Cases, LocalCommunicator,
                         ::testing::Combine(::testing::ValuesIn(test::communicator_cases()), ::testing::Values(1, 2, 3, 4, 7)),
                         [](const auto& info) { return fmt::format("{}{}", std::get<0>(info.param).name, std::get<1>(info.param)); });

TEST(LocalRanks, RethrowTheFirstFailureThatIsNotAnEcho) {
  std::atomic<int> woken = 0;
  const auto run = [&] {
    run_local_ranks(4, {.timeout_seconds = 30}, [&](Communicator world) {
      if (world.rank() == 2) throw RunError("rank 2: unit 'h.1' is broken");
      Stream stream = Stream::worker("communication");
      try {
        world.barrier(stream, "step").wait();
      } catch (const PeerError&) {
        ++woken;
        throw;
      }
    });
  };
  const double seconds = seconds_of([&] { EXPECT_EQ(message_of<RunError>(run), "rank 2: unit 'h.1' is broken"); });
  EXPECT_EQ(woken, 3);
  EXPECT_LT(seconds, 5);
}

// Address space for a few threads' stacks and no more, as `ulimit -v` gives it; the limits are as before when it goes.
class RoomForStacks {
 public:
  RoomForStacks(size_t stack_bytes, double stacks) {
    EXPECT_EQ(getrlimit(RLIMIT_AS, &limit_), 0);
    EXPECT_EQ(pthread_getattr_default_np(&attributes_), 0);
    pthread_attr_t large;
    EXPECT_EQ(pthread_getattr_default_np(&large), 0);
    EXPECT_EQ(pthread_attr_setstacksize(&large, stack_bytes), 0);
    EXPECT_EQ(pthread_setattr_default_np(&large), 0);
    size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit low{pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) + static_cast<size_t>(stacks * static_cast<double>(stack_bytes)),
                     limit_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_AS, &low), 0);
  }
  ~RoomForStacks() {
    EXPECT_EQ(setrlimit(RLIMIT_AS, &limit_), 0);
    EXPECT_EQ(pthread_setattr_default_np(&attributes_), 0);
  }

 private:
  rlimit limit_{};
  pthread_attr_t attributes_{};
};

TEST(LocalRanks, AThreadThatCannotBeStartedEndsTheOthersWithTheReason) {
  std::atomic<int> started = 0;
  std::string said;
  const double seconds = seconds_of([&] {
    const RoomForStacks room(size_t{1} << 30, 2.5);
    said = message_of<RunError>([&] {
      run_local_ranks(4, {.timeout_seconds = 30}, [&](Communicator world) {
        ++started;
        Stream stream = Stream::inline_stream();
        world.barrier(stream, "step").wait();
      });
    });
  });
  EXPECT_EQ(said.find("the thread of rank 2 of 4 could not be started: "), 0U) << said;
  EXPECT_EQ(started, 2);
  EXPECT_LT(seconds, 5);
}

// One rank gives up at a moment of a gather and frees its memory at once, as an engine does. The others read it: they must be done or told.
TEST(LocalRanks, ARankThatFailsFreesItsMemoryAfterItsReaders) {
  constexpr int kRanks = 3;
  constexpr int64_t kElements = int64_t{1} << 21;  // of each rank: 8 MiB, a copy of milliseconds
  for (int i = 0; i < 24; ++i) {
    const auto run = [&] {
      run_local_ranks(kRanks, {.timeout_seconds = 30}, [&](Communicator world) {
        const auto own = world.allocate(sizeof(float) * kElements, "own"), all = world.allocate(sizeof(float) * kElements * kRanks, "all");
        Stream stream = Stream::worker("communication");
        const StreamDrain drain(stream);
        const Segment segment{own->data(), all->data(), kElements};
        Event last;
        for (int n = 0; n < 4; ++n)
          last = i % 2 == 0
                     ? world.all_gather({&segment, 1}, DType::F32, stream, "h.1")
                     : world.reduce_scatter({{Segment{all->data(), own->data(), kElements}}}, DType::F32, DType::F32, false, stream, "h.1");
        if (world.rank() == 1) {
          std::this_thread::sleep_for(std::chrono::microseconds(i * 500));
          world.abort("a unit is broken");
          throw RunError("a unit is broken");
        }
        last.wait();
      });
    };
    EXPECT_EQ(message_of<RunError>(run), "a unit is broken");
  }
}

TEST(LocalRanks, RethrowWhatIsNoStandardException) {
  EXPECT_THROW(run_local_ranks(2, {.timeout_seconds = 30},
                               [](Communicator world) {
                                 if (world.rank() == 1) throw 42;
                                 Stream stream = Stream::inline_stream();
                                 world.barrier(stream, "step").wait();
                               }),
               int);
}

TEST(LocalRanks, FailureReachesAGroupThatDoesNotHoldTheFailingRank) {
  const auto run = [&] {
    run_local_ranks(4, {.timeout_seconds = 30}, [&](Communicator world) {
      Communicator half = world.split(world.rank() / 2, 0);
      if (world.rank() == 3) throw RunError("the original");
      Stream stream = Stream::inline_stream();
      if (world.rank() == 1) world.barrier(stream, "never met").wait();
      half.barrier(stream, "never met").wait();
    });
  };
  EXPECT_EQ(message_of<RunError>(run), "the original");
}

// What two of three ranks say of an operation in which rank 1 never arrives.
std::string error_of_silence(const std::function<void(Communicator&, Stream&)>& operation) {
  return message_of<RunError>([&] {
    run_local_ranks(3, {.timeout_seconds = 0.3}, [&](Communicator world) {
      if (world.rank() == 1) {
        std::this_thread::sleep_for(std::chrono::milliseconds(900));
        return;
      }
      Stream stream = Stream::worker("communication");
      operation(world, stream);
    });
  });
}

TEST(LocalRanks, SilenceEndsInATimeOutThatNamesTheSilentRankAndTheCollective) {
  const std::string error = error_of_silence([](Communicator& world, Stream& stream) {
    std::vector<float> a(1234), b(3 * 1234);
    const Segment segment{a.data(), b.data(), 1234};
    world.all_gather({&segment, 1}, DType::F32, stream, "h.3").wait();
  });
  for (const char* part :
       {"rank 1 has not arrived at all-gather of 'h.3' (1,234 elements of fp32) for 0.3", "run.collective_timeout_seconds"})
    EXPECT_NE(error.find(part), std::string::npos) << error;
}

TEST(LocalRanks, ASilentRankIsWaitedForInAnExchangeThatItHasNoPartIn) {
  const std::string error = error_of_silence([](Communicator& world, Stream& stream) {
    std::vector<float> a(1), b(2000);
    std::vector<Transfer> transfers;
    for (int i = 0; i < 2000; ++i) transfers.push_back({0, 2, a.data(), b.data() + i, 1});
    world.exchange(transfers, DType::F32, stream, "matrices").wait();
  });
  EXPECT_NE(error.find("rank 1 has not arrived at exchange of 'matrices' (2,000 elements of fp32) for 0.3"), std::string::npos) << error;
}

TEST(LocalRanks, ALateRankLearnsThatTheOthersHaveGivenUp) {
  std::string late;
  const auto run = [&] {
    run_local_ranks(2, {.timeout_seconds = 0.2}, [&](Communicator world) {
      Stream stream = Stream::inline_stream();
      if (world.rank() == 1) {
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        late = message_of<RunError>([&] { world.barrier(stream, "late").wait(); });
        return;
      }
      world.barrier(stream, "late").wait();
    });
  };
  EXPECT_NE(message_of<RunError>(run).find("rank 1 has not arrived"), std::string::npos);
  EXPECT_NE(late.find("rank 1 has not arrived"), std::string::npos) << late;
}

TEST(LocalRanks, ARankThatLeavesIsNoticedLongBeforeTheTimeOut) {
  std::string error;
  const double seconds = seconds_of([&] {
    error = message_of<RunError>([&] {
      run_local_ranks(3, {.timeout_seconds = 30}, [&](Communicator world) {
        if (world.rank() == 2) return;
        Stream stream = Stream::inline_stream();
        std::vector<float> data(10000);
        const Segment segment{data.data(), data.data(), 10000};
        world.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, stream, "head").wait();
      });
    });
  });
  for (const char* part : {"rank 2 has left", "all-reduce of 'head' (10,000 elements of fp32)"})
    EXPECT_NE(error.find(part), std::string::npos) << error;
  EXPECT_LT(seconds, 5);
}

TEST(LocalRanks, WaitingDoesNotUseTheProcessor) {
  double cpu_seconds = 0;
  run_local_ranks(2, {.timeout_seconds = 30}, [&](Communicator world) {
    if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(400));
    Stream stream = Stream::inline_stream();
    timespec before{}, after{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    world.barrier(stream, "wait").wait();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    if (world.rank() == 0)
      cpu_seconds = static_cast<double>(after.tv_sec - before.tv_sec) + 1e-9 * static_cast<double>(after.tv_nsec - before.tv_nsec);
  });
  EXPECT_LT(cpu_seconds, 0.1);
}

TEST(FakeCommunicator, CountsAndTouchesNothing) {
  Communicator fake = make_fake_communicator(5, 1024);
  EXPECT_EQ(fake.rank(), 5);
  EXPECT_EQ(fake.size(), 1024);
  EXPECT_STREQ(fake.backend(), "fake");
  EXPECT_FALSE(fake.shares_process());
  Stream stream = Stream::inline_stream();
  auto buffer = fake.allocate(size_t{1} << 50, "a petabyte");
  EXPECT_EQ(buffer->data(), nullptr);
  EXPECT_EQ(buffer->num_bytes(), size_t{1} << 50);
  const Segment segment{nullptr, nullptr, int64_t{1} << 40};
  fake.all_gather({&segment, 1}, DType::BF16, stream, "h").wait();
  fake.reduce_scatter({&segment, 1}, DType::BF16, DType::F32, true, stream, "h").wait();
  fake.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, stream, "h").wait();
  fake.broadcast({&segment, 1}, DType::F32, 5, stream, "h").wait();
  const Transfer transfers[] = {{4, 5, nullptr, nullptr, int64_t{1} << 40}, {5, 6, nullptr, nullptr, 9}, {5, 5, nullptr, nullptr, 9}};
  fake.exchange(transfers, DType::BF16, stream, "h").wait();
  fake.barrier(stream, "h").wait();
  const CommCounters counters = fake.counters();
  EXPECT_EQ(counters.all_gather.elements, 1023 * (int64_t{1} << 40));
  EXPECT_EQ(counters.all_gather.bytes, 2046 * (int64_t{1} << 40));
  EXPECT_EQ(counters.reduce_scatter.elements, 1023 * (int64_t{1} << 40));
  EXPECT_EQ(counters.all_reduce.elements, 2046 * (int64_t{1} << 30));
  EXPECT_EQ(counters.broadcast.elements, 0);
  EXPECT_EQ(counters.exchange.elements, int64_t{1} << 40);
  EXPECT_EQ(counters.exchange.bytes, int64_t{1} << 41);
  double value = 3;
  fake.all_reduce_scalars({&value, 1}, ReduceOp::Sum, "s");
  EXPECT_EQ(value, 3);
  EXPECT_EQ(fake.all_gather_text("abc", "t"), std::vector<std::string>(1024, "abc"));
}

TEST(FakeCommunicator, SplitsByAFunctionOfTheRank) {
  Communicator fake = make_fake_communicator(13, 24);
  Communicator shard = fake.split([](int rank) { return std::pair(rank / 8, rank); });
  EXPECT_EQ(shard.size(), 8);
  EXPECT_EQ(shard.rank(), 5);
  Communicator replica = fake.split([](int rank) { return std::pair(rank % 8, -rank); });
  EXPECT_EQ(replica.size(), 3);
  EXPECT_EQ(replica.rank(), 1);
  Communicator part = shard.split([](int rank) { return std::pair(rank < 6, 0); });
  EXPECT_EQ(part.size(), 6);
  EXPECT_EQ(part.rank(), 5);
  EXPECT_THROW(fake.split(0, 0), ProtocolError);
  EXPECT_THROW(make_fake_communicator(4, 4), ProtocolError);
}

}  // namespace
}  // namespace zerostep
