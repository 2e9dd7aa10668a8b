#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/stream.h"
#include "tests/base/any_device.h"
#include "tests/support/gate.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using testing::Gate;
using testing::message_of;

// What holds for a stream beside the compute stream of every device.
class AnyDeviceStream : public testing::AnyDevice {};

TEST_P(AnyDeviceStream, EnqueueDoesNotBlockAndEventsCompleteOneByOne) {
  Gate first, second;
  Stream stream = device_.stream("worker");
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

TEST_P(AnyDeviceStream, WorkOwnsNothingOnceItsEventIsDone) {
  Stream stream = device_.stream("worker");
  auto token = std::make_shared<int>(1);
  std::weak_ptr<int> watch = token;
  Event event = stream.enqueue([token = std::move(token)] {});
  event.wait();
  EXPECT_TRUE(watch.expired());
}

TEST_P(AnyDeviceStream, WaitsForAnotherStreamWithoutBlockingTheCaller) {
  Gate gate;
  Stream producer = device_.stream("producer"), consumer = device_.stream("consumer");
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

TEST_P(AnyDeviceStream, FailureSkipsTheRestAndSparesWhatCameBefore) {
  Stream stream = device_.stream("worker");
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

TEST_P(AnyDeviceStream, FailureTravelsAlongEvents) {
  Stream a = device_.stream("a"), b = device_.stream("b"), c = device_.stream("c");
  b.wait(a.enqueue([] { throw RunError("at the source"); }));
  bool ran = false;
  c.wait(b.enqueue([&] { ran = true; }));
  EXPECT_EQ(message_of([&] { c.synchronize(); }), "at the source");
  EXPECT_FALSE(ran);
}

TEST_P(AnyDeviceStream, ManyThreadsWaitForOneEvent) {
  Gate gate;
  Stream stream = device_.stream("worker");
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

TEST_P(AnyDeviceStream, SeveralThreadsEnqueueAndAFailureSkipsWhatIsQueuedBehindIt) {
  constexpr int kThreads = 4, kTasks = 50, kFailingTask = kThreads * kTasks / 2;
  for (int round = 0; round < 20; ++round) {
    const Device device = GetParam().make();  // a failure may end it
    Stream stream = device.stream("worker");
    int ran = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i)
      threads.emplace_back([&] {
        for (int task = 0; task < kTasks; ++task)
          stream.enqueue([&] {
            if (++ran == kFailingTask) throw RunError("in the middle");
          });
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(message_of([&] { stream.synchronize(); }), "in the middle");
    EXPECT_EQ(message_of([&] { stream.record().wait(); }), "in the middle");
    EXPECT_EQ(ran, kFailingTask);
  }
}

TEST_P(AnyDeviceStream, LastHandleFinishesWhatIsQueued) {
  int ran = 0;
  Event last;
  {
    Stream stream = device_.stream("worker");
    for (int i = 0; i < 100; ++i) last = stream.enqueue([&] { ++ran; });
  }
  EXPECT_EQ(ran, 100);
  EXPECT_TRUE(last.ready());
}

TEST_P(AnyDeviceStream, LastHandleMayLiveInItsOwnWork) {
  Gate gate;
  Event done;
  {
    Stream stream = device_.stream("worker");
    stream.enqueue([stream, &gate] { gate.pass(); });
    done = stream.record();
  }
  gate.open();
  done.wait();
  EXPECT_TRUE(done.ready());
}

TEST_P(AnyDeviceStream, ADrainWaitsForWhatIsQueuedWhateverFails) {
  std::atomic<int> done = 0;
  Stream stream = device_.stream("worker");
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

TEST_P(AnyDeviceStream, WaitsForTheHostAndTheHostForIt) {
  Gate gate;
  Stream stream = device_.stream("stream"), host = device_.host_stream("host");
  std::vector<int> order;
  stream.wait(host.enqueue([&] {
    gate.pass();
    order.push_back(1);
  }));
  host.wait(stream.enqueue([&] { order.push_back(2); }));
  const Event last = host.enqueue([&] { order.push_back(3); });
  EXPECT_FALSE(last.ready());
  gate.open();
  last.wait();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  stream.wait(host.enqueue([] { throw RunError("of the host"); }));
  bool ran = false;
  const Event skipped = stream.enqueue([&] { ran = true; });
  EXPECT_EQ(message_of([&] { skipped.wait(); }), "of the host");
  EXPECT_FALSE(ran);
}

INSTANTIATE_TEST_SUITE_P(Devices, AnyDeviceStream, ::testing::ValuesIn(testing::devices_under_test()), testing::name_of_case);

}  // namespace
}  // namespace zerostep
