#include "sharding/cuda/thread_transport.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "base/format.h"
#include "sharding/cuda/cuda_transport.h"

namespace zerostep {
namespace {

// What a rank lets another one read.
struct Offer {
  const void* data;
  int64_t num_bytes;
  Event ready;
  bool is_taken = false;
  Event taken = {};  // when it has been read
};

// What the ranks of a group share.
struct OffersOfGroup {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Offer>>> offers;  // from one rank to another, in their order
};

// The group of a name, which lives as long as one of its ranks.
std::shared_ptr<OffersOfGroup> offers_of(const std::string& name) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<OffersOfGroup>> all;
  std::lock_guard lock(mutex);
  std::erase_if(all, [](const auto& group) { return group.second.expired(); });
  std::shared_ptr<OffersOfGroup> found = all[name].lock();
  if (!found) all[name] = found = std::make_shared<OffersOfGroup>();
  return found;
}

class ThreadTransport final : public CudaTransport {
 public:
  ThreadTransport(const CudaDevice& device, const TransportStart& start) : CudaTransport(device, start), shared_(offers_of(start.group)) {}

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
    std::unique_lock lock(shared_->mutex);
    for (const Message& m : messages) {
      if (!m.is_taken) continue;
      auto& offered = shared_->offers[{m.peer, start_.rank}];
      wait(lock, fmt::format("rank {} has not come", m.peer), [&] { return !offered.empty(); });
      taken.push_back(std::move(offered.front()));
      offered.pop_front();
      const Offer& offer = *taken.back();
      if (offer.num_bytes != m.num_bytes)
        fail_protocol("rank {}: rank {} gives {}, where {} are taken", start_.rank, m.peer, human_bytes(offer.num_bytes),
                      human_bytes(m.num_bytes));
      // Under the mutex: a giver that fails afterwards frees its memory only when the device has read it.
      stream.wait(offer.ready);
      device_.copy(stream, m.data, offer.data, m.num_bytes);
    }
    const Event read = stream.record();
    for (const auto& offer : taken) {
      offer->taken = read;
      offer->is_taken = true;
    }
    shared_->changed.notify_all();
    for (const auto& offer : given) wait(lock, "another rank has not read its part", [&] { return offer->is_taken; });
    lock.unlock();
    for (const auto& offer : given) stream.wait(offer->taken);
  }

  // Until the ranks' threads have come so far.
  template <typename Condition>
  void wait(std::unique_lock<std::mutex>& lock, const std::string& not_yet, const Condition& condition) {
    const auto begin = Clock::now();
    while (true) {
      if (reason_) std::rethrow_exception(reason_);
      if (condition()) return;
      if (shared_->changed.wait_for(lock, kPeersPoll) == std::cv_status::no_timeout) continue;
      lock.unlock();
      std::exception_ptr failure;
      try {
        look_at_peers(begin, not_yet);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      if (failure && !condition()) std::rethrow_exception(failure);  // what the peer had done before counts
    }
  }

  const std::shared_ptr<OffersOfGroup> shared_;
  std::exception_ptr reason_;  // under the group's mutex: why nothing is put any more
};

}  // namespace
}  // namespace zerostep

void zerostep_start_threads_2(const zerostep::Device::Impl& device, const zerostep::TransportStart& start,
                              std::unique_ptr<zerostep::DeviceTransport>& transport) {
  transport = std::make_unique<zerostep::ThreadTransport>(static_cast<const zerostep::CudaDevice&>(device), start);
}
