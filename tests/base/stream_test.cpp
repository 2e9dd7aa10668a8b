#include "base/stream.h"

#include <gtest/gtest.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/helper_threads.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using testing::message_of;

TEST(Event, DefaultIsComplete) {
  Event event;
  EXPECT_TRUE(event.ready());
  event.wait();
}

TEST(InlineStream, RunsAtOnceInTheCaller) {
  Stream stream = Stream::inline_stream("main");
  EXPECT_EQ(stream.name(), "main");
  std::thread::id seen;
  Event event = stream.enqueue([&] { seen = std::this_thread::get_id(); });
  EXPECT_EQ(seen, std::this_thread::get_id());
  EXPECT_TRUE(event.ready());
  event.wait();
  stream.synchronize();
}

TEST(InlineStream, FailurePoisonsAndTheFirstOneStays) {
  Stream stream = Stream::inline_stream();
  Event good = stream.record();
  Event bad = stream.enqueue([] { throw RunError("first"); });
  bool ran = false;
  Event skipped = stream.enqueue([&] {
    ran = true;
    throw RunError("second");
  });
  EXPECT_FALSE(ran);
  good.wait();
  EXPECT_TRUE(bad.ready());
  EXPECT_TRUE(skipped.ready());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(message_of([&] { bad.wait(); }), "first");
    EXPECT_EQ(message_of([&] { skipped.wait(); }), "first");
    EXPECT_EQ(message_of([&] { stream.synchronize(); }), "first");
  }
}

TEST(InlineStream, WaitingForAFailedEventPoisons) {
  Stream other = Stream::worker("other"), stream = Stream::inline_stream();
  stream.wait(other.enqueue([] { throw RunError("from the other"); }));
  bool ran = false;
  stream.enqueue([&] { ran = true; });
  EXPECT_FALSE(ran);
  EXPECT_EQ(message_of([&] { stream.synchronize(); }), "from the other");
}

TEST(WorkerStream, RunsInOrderInOneOtherThread) {
  Stream stream = Stream::worker("a name longer than fifteen characters");
  EXPECT_EQ(stream.name(), "a name longer than fifteen characters");
  std::vector<int> order;
  std::vector<std::thread::id> threads;
  for (int i = 0; i < 1000; ++i) {
    stream.enqueue([&, i] {
      order.push_back(i);
      threads.push_back(std::this_thread::get_id());
    });
  }
  stream.synchronize();
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(order[i], i);
    EXPECT_EQ(threads[i], threads[0]);
  }
  EXPECT_NE(threads[0], std::this_thread::get_id());
}

TEST(Stream, IsCurrentWhereItsWorkIsDone) {
  EXPECT_TRUE(Stream::inline_stream().is_current());
  Stream worker = Stream::worker("worker"), other = Stream::worker("other");
  bool is_own = false, is_others = true;
  worker.enqueue([&] {
    is_own = worker.is_current();
    is_others = other.is_current();
  });
  worker.synchronize();
  EXPECT_TRUE(is_own);
  EXPECT_FALSE(is_others);
  EXPECT_FALSE(worker.is_current());
}

TEST(WorkerStream, IdlesWithoutUsingTheProcessor) {
  Stream stream = Stream::worker("worker");
  timespec cpu_time{};
  auto thread_seconds = [&] {
    stream.enqueue([&] { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu_time); }).wait();
    return static_cast<double>(cpu_time.tv_sec) + 1e-9 * static_cast<double>(cpu_time.tv_nsec);
  };
  const double before = thread_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(thread_seconds() - before, 0.02);
}

TEST(HelperThreads, ShareOutTheWork) {
  std::atomic<int> sum = 0;
  {
    const auto helpers = helper_threads(5, [&](size_t i) { sum += static_cast<int>(i); });
    EXPECT_EQ(helpers.size(), 5U);
  }
  EXPECT_EQ(sum, 15);
}

}  // namespace
}  // namespace zerostep
