#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "sharding/comm/impl.h"

// A backend gets the stream of its caller: one whose device has kernels of its own queues them there, and counts behind them.
namespace zerostep {
namespace {

class Done final : public Event::Impl {
 public:
  bool ready() const override { return done; }
  void wait() const override {
    if (!done) throw std::logic_error("nothing plays what this event waits for");
  }
  bool done = false;
};

using Queue = std::vector<std::function<void()>>;

// What is put on it stays there until it is played. Its handle is the queue itself.
class QueueStream final : public Stream::Impl {
 public:
  explicit QueueStream(std::string name) : name_(std::move(name)) {}
  Event enqueue(std::function<void()> task) override {
    auto done = std::make_shared<Done>();
    queue.push_back([done, task = std::move(task)] {
      task();
      done->done = true;
    });
    return Event(done);
  }
  void wait(const Event&) override {}
  void synchronize() override { play(); }
  void drain() noexcept override { play(); }
  const std::string& name() const override { return name_; }
  void* native_handle() const override { return &queue; }
  void play() {
    for (const auto& task : std::exchange(queue, {})) task();
  }
  mutable Queue queue;

 private:
  std::string name_;
};

// Its kernels note which operation they are of.
class KernelCommunicator final : public Communicator::Impl, public std::enable_shared_from_this<KernelCommunicator> {
 public:
  using Impl::Impl;
  const char* backend() const override { return "kernels"; }
  Event launch(Operation operation, Stream& stream) override {
    static_cast<Queue*>(stream.native_handle())->push_back([self = shared_from_this(), kind = operation.kind] {
      self->played.push_back(kind);
    });
    return stream.enqueue([self = shared_from_this(), operation = std::move(operation)] { self->count(operation, 0.5); });
  }
  void gather_small(const Fingerprint&, const void*, size_t, void*) override { throw std::logic_error("no handshakes"); }
  std::shared_ptr<CommBuffer> allocate(size_t, const char*) override { throw std::logic_error("no memory"); }
  std::shared_ptr<Impl> split(int, int) override { throw std::logic_error("no groups"); }
  void abort(const std::string&) override {}
  std::vector<CollectiveKind> played;
};

TEST(CommunicatorStream, IsWhereTheBackendQueuesItsKernels) {
  auto backend = std::make_shared<KernelCommunicator>(1, 3);
  Communicator world(backend);
  auto first = std::make_shared<QueueStream>("first"), second = std::make_shared<QueueStream>("second");
  Stream on_first(first), on_second(second);
  float source[12], target[12];
  const Segment gather{source, target, 4}, scatter{target, source, 4}, sum{source, source, 6};
  const Transfer transfer{0, 1, nullptr, target, 5};
  const Event gathered = world.all_gather({&gather, 1}, DType::F32, on_first, "h.0");
  world.exchange({&transfer, 1}, DType::F32, on_first, "h.0");
  world.reduce_scatter({&scatter, 1}, DType::F32, DType::F32, false, on_second, "h.1");
  world.all_reduce({&sum, 1}, DType::F32, ReduceOp::Sum, on_second, "h.1");
  world.broadcast({&gather, 1}, DType::F32, 0, on_second, "h.1");
  world.barrier(on_second, "end");
  EXPECT_EQ(first->queue.size(), 4u);
  EXPECT_EQ(second->queue.size(), 8u);
  EXPECT_TRUE(backend->played.empty());
  EXPECT_FALSE(gathered.ready());
  EXPECT_EQ(world.counters().elements_gathered(), 0);

  second->play();
  using Kind = CollectiveKind;
  EXPECT_EQ(backend->played, (std::vector{Kind::ReduceScatter, Kind::AllReduce, Kind::Broadcast, Kind::Barrier}));
  EXPECT_EQ(world.counters().reduce_scatter.elements, 2 * 4);
  EXPECT_EQ(world.counters().all_reduce.elements, 2 * 2 * 6 / 3);
  EXPECT_EQ(world.counters().broadcast.elements, 4);
  EXPECT_EQ(world.counters().all_gather.calls, 0);
  EXPECT_FALSE(gathered.ready());

  first->play();
  EXPECT_TRUE(gathered.ready());
  EXPECT_EQ(world.counters().all_gather.elements, 2 * 4);
  EXPECT_EQ(world.counters().exchange.bytes, 5 * 4);
  EXPECT_EQ(world.counters().exchange.seconds, 0.5);
}

TEST(CommunicatorStream, GetsNothingOfAnOperationWithWrongOperands) {
  Communicator world(std::make_shared<KernelCommunicator>(0, 2));
  auto queue = std::make_shared<QueueStream>("queue");
  Stream stream(queue);
  const Segment nowhere{nullptr, nullptr, 4};
  EXPECT_THROW(world.all_gather({&nowhere, 1}, DType::F32, stream, "h.0"), ProtocolError);
  EXPECT_TRUE(queue->queue.empty());
}

}  // namespace
}  // namespace zerostep
