#include "base/stream.h"

#include <gtest/gtest.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/helper_threads.h"

namespace zerostep {
namespace {

// Holds work back until it is opened.
class Gate {
 public:
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing thrown";
}

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

TEST(WorkerStream, EnqueueDoesNotBlockAndEventsCompleteOneByOne) {
  Gate first, second;
  Stream stream = Stream::worker("worker");
  Event a = stream.enqueue([&] { first.pass(); });
  Event b = stream.enqueue([&] { second.pass(); });
  EXPECT_FALSE(a.ready());
  first.open();
  a.wait();
  EXPECT_TRUE(a.ready());
  EXPECT_FALSE(b.ready());
  second.open();
  stream.synchronize();
  EXPECT_TRUE(b.ready());
}

TEST(WorkerStream, WorkOwnsNothingOnceItsEventIsDone) {
  Stream stream = Stream::worker("worker");
  auto token = std::make_shared<int>(1);
  std::weak_ptr<int> watch = token;
  Event event = stream.enqueue([token = std::move(token)] {});
  event.wait();
  EXPECT_TRUE(watch.expired());
}

TEST(WorkerStream, WaitsForAnotherStreamWithoutBlockingTheCaller) {
  Gate gate;
  Stream producer = Stream::worker("producer"), consumer = Stream::worker("consumer");
  std::atomic<int> value = 0;
  int seen = -1;
  Event produced = producer.enqueue([&] {
    gate.pass();
    value = 7;
  });
  consumer.wait(produced);
  Event consumed = consumer.enqueue([&] { seen = value; });
  EXPECT_FALSE(consumed.ready());
  gate.open();
  consumed.wait();
  EXPECT_EQ(seen, 7);
}

TEST(WorkerStream, FailureSkipsTheRestAndSparesWhatCameBefore) {
  Stream stream = Stream::worker("worker");
  int ran = 0;
  Event before = stream.enqueue([&] { ++ran; });
  Event bad = stream.enqueue([] { throw std::out_of_range("first"); });
  Event after = stream.enqueue([&] { ++ran; });
  before.wait();
  EXPECT_THROW(bad.wait(), std::out_of_range);
  EXPECT_THROW(after.wait(), std::out_of_range);
  EXPECT_THROW(stream.synchronize(), std::out_of_range);
  EXPECT_THROW(stream.record().wait(), std::out_of_range);
  EXPECT_TRUE(after.ready());
  before.wait();
  EXPECT_EQ(ran, 1);
}

TEST(WorkerStream, FailureTravelsAlongEvents) {
  Stream a = Stream::worker("a"), b = Stream::worker("b"), c = Stream::worker("c");
  b.wait(a.enqueue([] { throw RunError("at the source"); }));
  bool ran = false;
  c.wait(b.enqueue([&] { ran = true; }));
  EXPECT_EQ(message_of([&] { c.synchronize(); }), "at the source");
  EXPECT_FALSE(ran);
}

TEST(WorkerStream, ManyThreadsWaitForOneEvent) {
  Gate gate;
  Stream stream = Stream::worker("worker");
  Event event = stream.enqueue([&] { gate.pass(); });
  std::atomic<int> passed = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      event.wait();
      ++passed;
    });
  }
  gate.open();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(passed, 4);
}

TEST(WorkerStream, LastHandleFinishesWhatIsQueued) {
  int ran = 0;
  Event last;
  {
    Stream stream = Stream::worker("worker");
    for (int i = 0; i < 100; ++i) last = stream.enqueue([&] { ++ran; });
  }
  EXPECT_EQ(ran, 100);
  EXPECT_TRUE(last.ready());
}

TEST(WorkerStream, LastHandleMayLiveInItsOwnWork) {
  Gate gate;
  Event done;
  {
    Stream stream = Stream::worker("worker");
    stream.enqueue([stream, &gate] { gate.pass(); });
    done = stream.record();
  }
  gate.open();
  done.wait();
  EXPECT_TRUE(done.ready());
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

TEST(StreamDrain, WaitsForWhatIsQueuedWhateverFails) {
  std::atomic<int> done = 0;
  Stream stream = Stream::worker("worker");
  {
    const StreamDrain drain(stream);
    for (int i = 0; i < 10; ++i)
      stream.enqueue([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        ++done;
      });
  }
  EXPECT_EQ(done, 10);
  {
    const StreamDrain drain(stream);
    stream.enqueue([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ++done;
      throw std::runtime_error("broken");
    });
    stream.enqueue([&] { ++done; });  // skipped
  }
  EXPECT_EQ(done, 11);
  EXPECT_THROW(stream.synchronize(), std::runtime_error);
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
