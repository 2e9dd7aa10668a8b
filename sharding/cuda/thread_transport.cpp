#include "sharding/cuda/thread_transport.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "base/cuda/cuda_device.h"
#include "base/cuda/cuda_stream.h"
#include "base/error.h"
#include "base/format.h"
#include "sharding/cuda/sum.h"

namespace zerostep {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPeersPoll = std::chrono::milliseconds(1);

// What a rank lets another one read.
struct Offer {
  const void* data;
  int64_t num_bytes;
  Event ready;
  bool is_taken = false;
  Event taken = {};  // when it has been read
};

// What the ranks of a group share.
struct Exchange {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Offer>>> offers;  // from one rank to another, in their order
};

// The group of a name, which lives as long as one of its ranks.
std::shared_ptr<Exchange> exchange_of(const std::string& name) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Exchange>> all;
  std::lock_guard lock(mutex);
  std::shared_ptr<Exchange> found = all[name].lock();
  if (!found) all[name] = found = std::make_shared<Exchange>();
  return found;
}

class ThreadTransport final : public DeviceTransport {
 public:
  ThreadTransport(const CudaDevice& device, const ThreadsStart& start) : device_(device), start_(start), shared_(exchange_of(start.group)) {
    device.context().check(cuda::find_max_blocks(device.context().index(), max_blocks_), "its number of processors cannot be read");
  }

  void exchange(std::span<const Message> messages, Stream& stream) override {
    stream.launch([&] {
      try {
        read_offers(messages, stream);
      } catch (...) {
        abort(std::current_exception());
        throw;
      }
    });
  }
  void all_gather(std::span<const Segment> segments, DType type, Stream& stream) override {
    std::vector<Message> messages;
    for (const Segment& s : segments) {
      const int64_t bytes = num_bytes(s.count, type);
      for (int peer = 0; peer < start_.size; ++peer) {
        std::byte* const place = static_cast<std::byte*>(s.target) + peer * bytes;
        if (peer != start_.rank) {
          messages.push_back({peer, const_cast<void*>(s.source), bytes, false});
          messages.push_back({peer, place, bytes, true});
        } else if (place != s.source) {
          device_.copy(stream, place, s.source, bytes);
        }
      }
    }
    exchange(messages, stream);
  }
  void broadcast(std::span<const Segment> segments, DType type, int root, Stream& stream) override {
    std::vector<Message> messages;
    for (const Segment& s : segments) {
      const int64_t bytes = num_bytes(s.count, type);
      if (start_.rank != root) messages.push_back({root, s.target, bytes, true});
      for (int peer = 0; start_.rank == root && peer < start_.size; ++peer)
        if (peer != root) messages.push_back({peer, s.target, bytes, false});
    }
    exchange(messages, stream);
  }
  void reduce_scatter(std::span<const Segment>, Stream&) override { fail_protocol("[threads] sums have the order of ranks alone"); }
  void all_reduce(std::span<const Segment>, Stream&) override { fail_protocol("[threads] sums have the order of ranks alone"); }

  void sum(const RankSum& sum, Stream& stream) override {
    stream.launch([&] {
      device_.context().check(cuda::sum({static_cast<cudaStream_t>(stream.native_handle()), max_blocks_}, sum), "a sum cannot be queued");
    });
  }

  std::string failure() override { return ""; }
  void fail(const Event& event, std::exception_ptr failure) override { fail_work_before(event, std::move(failure)); }
  void abort(std::exception_ptr reason) noexcept override {
    std::lock_guard lock(shared_->mutex);
    if (!reason_) reason_ = std::move(reason);
    // Its memory may go.
    for (auto& [ranks, offers] : shared_->offers)
      if (ranks.first == start_.rank) offers.clear();
    shared_->changed.notify_all();
  }

 private:
  void read_offers(std::span<const Message> messages, Stream& stream) {
    std::vector<std::shared_ptr<Offer>> given, taken;
    const Event ready = stream.record();
    {
      std::lock_guard lock(shared_->mutex);
      for (const Message& m : messages) {
        if (m.is_taken) continue;
        given.push_back(std::make_shared<Offer>(Offer{m.data, m.num_bytes, ready}));
        shared_->offers[{start_.rank, m.peer}].push_back(given.back());
      }
      shared_->changed.notify_all();
    }
    for (const Message& m : messages) {
      if (!m.is_taken) continue;
      auto& offered = shared_->offers;
      const std::pair<int, int> way{m.peer, start_.rank};
      std::unique_lock lock(shared_->mutex);
      wait(lock, m.peer, [&] { return !offered[way].empty(); });
      taken.push_back(std::move(offered[way].front()));
      offered[way].pop_front();
      lock.unlock();
      const Offer& offer = *taken.back();
      if (offer.num_bytes != m.num_bytes)
        fail_protocol("rank {}: rank {} gives {}, where {} are taken", start_.rank, m.peer, human_bytes(offer.num_bytes),
                      human_bytes(m.num_bytes));
      stream.wait(offer.ready);
      device_.copy(stream, m.data, offer.data, m.num_bytes);
    }
    const Event read = stream.record();
    std::unique_lock lock(shared_->mutex);
    for (const auto& offer : taken) {
      offer->taken = read;
      offer->is_taken = true;
    }
    shared_->changed.notify_all();
    for (size_t i = 0; i < given.size(); ++i) wait(lock, -1, [&] { return given[i]->is_taken; });
    lock.unlock();
    for (const auto& offer : given) stream.wait(offer->taken);
  }

  // Until the ranks' threads have come so far. `peer`: for whom it is; -1: those that read.
  template <typename Condition>
  void wait(std::unique_lock<std::mutex>& lock, int peer, const Condition& condition) {
    const auto begin = Clock::now();
    while (true) {
      if (reason_) std::rethrow_exception(reason_);
      if (condition()) return;
      shared_->changed.wait_for(lock, kPeersPoll);
      lock.unlock();
      start_.check_peers();
      if (std::chrono::duration<double>(Clock::now() - begin).count() > start_.timeout_seconds)
        fail_run("rank {}: {} has not come to an exchange for {:.3g} s", start_.rank,
                 peer < 0 ? std::string("another rank") : fmt::format("rank {}", peer), start_.timeout_seconds);
      lock.lock();
    }
  }

  const CudaDevice& device_;
  const ThreadsStart start_;
  const std::shared_ptr<Exchange> shared_;
  unsigned max_blocks_ = 1;
  std::exception_ptr reason_;  // under the group's mutex: why nothing is put any more
};

}  // namespace
}  // namespace zerostep

void zerostep_start_threads_1(const zerostep::Device::Impl& device, const zerostep::ThreadsStart& start,
                              std::unique_ptr<zerostep::DeviceTransport>& transport) {
  transport = std::make_unique<zerostep::ThreadTransport>(static_cast<const zerostep::CudaDevice&>(device), start);
}
