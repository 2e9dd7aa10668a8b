#include "sharding/comm/gpu_communicator.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <optional>
#include <thread>
#include <utility>

#include "base/format.h"
#include "base/nth.h"
#include "sharding/comm/exchange.h"
#include "sharding/comm/over_host_group.h"
#include "sharding/comm/rank_ordered_sums.h"
#include "sharding/staged_communicator.h"

namespace zerostep {
namespace {

using Clock = std::chrono::steady_clock;
using Message = DeviceTransport::Message;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class GpuCommunicator final : public OverHostGroup {
 public:
  GpuCommunicator(const Communicator& host, const Device& device, GpuGroup group)
      : OverHostGroup(host, device),
        group_(std::move(group)),
        sums_(host.rank(), host.size(), *group_.transport),
        staged_(make_staged_communicator(host, device)),
        meetings_(device.host_stream("meetings of ranks")),
        watch_(device.host_stream("watch over collectives")) {}

  const char* backend() const override { return group_.name; }
  std::shared_ptr<Impl> split(int color, int key) override {
    const Communicator part = host_.split(color, key);
    if (part.size() == 1) return make_staged_communicator(part, device_).impl();
    return group_.make(part).impl();
  }
  void lend_staging(std::span<std::byte> memory) override {
    std::lock_guard lock(launch_mutex_);
    sums_.lend(memory);
  }
  void take_staging_back(std::span<std::byte> memory) override {
    std::lock_guard lock(launch_mutex_);
    if (sums_.lent().data() == memory.data()) sums_.lend({});
  }
  void agree_on_host_memory(bool is_pinned) override {
    const char mine = is_pinned ? 1 : 0;
    std::vector<char> all(static_cast<size_t>(size()));
    gather_small(Fingerprint(CollectiveKind::Barrier, Fingerprint::kBytes, 1, ReduceOp::Sum, "memory of the host"), &mine, 1, all.data());
    std::lock_guard lock(launch_mutex_);
    is_host_pinned_ = std::count(all.begin(), all.end(), 1) == size();
  }
  bool meets_on_device() override {
    std::lock_guard lock(launch_mutex_);
    return has_staged_;
  }
  void note_device_waited() override {
    std::lock_guard lock(launch_mutex_);
    has_staged_ = false;
  }
  void wait_for_meetings() override { meetings_.synchronize(); }
  CommCounters counters() override {
    settle();
    return Impl::counters();
  }

  Event launch(Operation operation, Stream& stream) override {
    if (stream.native_handle() == nullptr)
      fail_protocol("{} is put on stream '{}', which is none of a GPU's", Fingerprint(operation).describe(), stream.name());
    std::lock_guard lock(launch_mutex_);
    Fingerprint what(operation);
    stream.wait(last_);
    const Event begin = stream.mark();
    Event started;
    // A barrier is met when the stream is there.
    const bool is_staged = operation.kind == CollectiveKind::Barrier || !moves_operands(operation);
    if (is_staged) {
      has_staged_ = true;
      started = staged_.impl()->launch(operation, stream);
      meetings_.wait(started);
    } else {
      what.between_gpus = 1;
      *group_.call = what;
      stream.wait(meetings_.enqueue([this, what] { meet(what); }));
      started = stream.record();
      put(operation, stream);
    }
    last_ = stream.mark();
    count(operation, 0);
    add({operation.kind, begin, last_});
    watch_.enqueue([this, what, started, done = last_] { watch_over(what, started, done); });
    return last_;
  }

 private:
  struct Pending {
    CollectiveKind kind;
    Event begin, done;
  };

  // Whether the transport moves an operation's operands, which every rank finds alike: those of the device, and those in pinned memory of
  // the host where every rank has no other. What no rank has pinned (a vector of the caller's) goes by way of the host. Of an exchange a
  // rank does not know the others' operands.
  bool moves_operands(const Operation& operation) const {
    if (operation.kind == CollectiveKind::Exchange && !is_host_pinned_.value_or(true)) return false;
    const auto moves = [&](const void* data, int64_t bytes) {
      return data == nullptr || bytes == 0 || device_.holds(data) || (is_host_pinned_.value_or(false) && device_.reaches(data, bytes));
    };
    const auto moves_segment = [&](const Segment& s) {
      const int64_t source = num_bytes(s.count, operation.source_type), target = num_bytes(s.count, operation.target_type);
      const int64_t given = operation.kind == CollectiveKind::ReduceScatter ? size() * source : source;
      return (operation.kind == CollectiveKind::Broadcast || moves(s.source, given)) &&
             moves(s.target, operation.kind == CollectiveKind::AllGather ? size() * target : target);
    };
    const auto moves_transfer = [&](const Transfer& t) {
      const int64_t bytes = num_bytes(t.count, operation.source_type);
      return (t.from != rank() || moves(t.source, bytes)) && (t.to != rank() || moves(t.target, bytes));
    };
    return std::all_of(operation.segments.begin(), operation.segments.end(), moves_segment) &&
           std::all_of(operation.transfers.begin(), operation.transfers.end(), moves_transfer);
  }

  // Everything behind it on the stream waits until the ranks agree.
  void meet(const Fingerprint& what) {
    try {
      host_.impl()->gather_small(what, nullptr, 0, nullptr);
    } catch (...) {
      give_up(std::current_exception());
      throw;
    }
  }

  void watch_over(const Fingerprint& what, const Event& started, const Event& done) {
    constexpr auto kLongest = std::chrono::microseconds(1000);
    auto pause = std::chrono::microseconds(50);
    Clock::time_point since;
    bool has_started = false;
    try {
      while (!done.ready()) {
        std::this_thread::sleep_for(pause);
        pause = std::min(2 * pause, kLongest);
        try {
          host_.impl()->check_peers(what);
        } catch (...) {
          if (done.ready()) break;  // before the peer went
          throw;
        }
        if (const std::string failure = group_.transport->failure(); !failure.empty())
          fail_job(fmt::format("rank {}: {} has failed: {}", rank(), what.describe(), failure));
        if (!has_started && started.ready()) {
          has_started = true;
          since = Clock::now();
        }
        if (has_started && seconds_since(since) > group_.timeout_seconds)
          fail_job(fmt::format(
              "rank {}: every rank has queued {}, which has begun here and not ended for {:.3g} s: another rank's GPU is still busy before "
              "it, or a GPU or what joins them is silent. If it may take that long, raise run.collective_timeout_seconds.",
              rank(), what.describe(), group_.timeout_seconds));
      }
      settle();
    } catch (...) {
      give_up(std::current_exception());
      throw;
    }
  }

  [[noreturn]] void fail_job(const std::string& why) {
    host_.abort(why);
    throw RunError(why);
  }

  void add(Pending pending) {
    std::lock_guard lock(pending_mutex_);
    if (failure_)
      group_.transport->fail(pending.done, failure_);
    else
      pending_.push_back(std::move(pending));
  }
  // Counts the time of what is done.
  void settle() {
    std::lock_guard lock(pending_mutex_);
    while (!failure_ && !pending_.empty() && pending_.front().done.ready() && !pending_.front().done.failed()) {
      const Pending& first = pending_.front();
      count_seconds(first.kind, first.done.seconds_since(first.begin));
      pending_.pop_front();
    }
  }
  // What is under way has failed before it ends.
  void give_up(std::exception_ptr failure) {
    {
      std::lock_guard lock(pending_mutex_);
      if (failure_) return;
      failure_ = failure;
      for (const Pending& p : pending_) group_.transport->fail(p.done, failure_);
      pending_.clear();
    }
    group_.transport->abort(std::move(failure));
  }

  void put(const Operation& operation, Stream& stream) {
    const bool may_use_other_order = group_.may_use_other_order && group_.transport->has_own_sums() &&
                                     operation.source_type == DType::F32 && operation.op == ReduceOp::Sum;
    switch (operation.kind) {
      case CollectiveKind::AllGather:
        return group_.transport->all_gather(operation.segments, operation.source_type, stream);
      case CollectiveKind::Broadcast:
        return group_.transport->broadcast(operation.segments, operation.source_type, operation.root, stream);
      case CollectiveKind::ReduceScatter:
        if (may_use_other_order && !operation.accumulate) return group_.transport->reduce_scatter(operation.segments, stream);
        return sums_.reduce_scatter(operation, stream);
      case CollectiveKind::AllReduce:
        if (may_use_other_order) return group_.transport->all_reduce(operation.segments, stream);
        return sums_.all_reduce(operation, stream);
      case CollectiveKind::Exchange:
        return exchange(operation, stream);
      case CollectiveKind::Barrier:
        return;
    }
  }

  void exchange(const Operation& operation, Stream& stream) {
    std::vector<Message> messages;
    for (const Transfer& t : operation.transfers) {
      const int64_t bytes = num_bytes(t.count, operation.source_type);
      if (bytes == 0) continue;
      if (leaves_its_rank(t)) {
        if (t.from == rank()) messages.push_back({t.to, const_cast<void*>(t.source), bytes, false});
        if (t.to == rank()) messages.push_back({t.from, t.target, bytes, true});
      } else if (t.to == rank() && t.source != t.target) {
        device_.copy(stream, t.target, t.source, bytes);
      }
    }
    if (!messages.empty()) group_.transport->exchange(messages, stream);
  }

  const GpuGroup group_;
  RankOrderedSums sums_;
  Communicator staged_;
  std::optional<bool> is_host_pinned_;  // on every rank, when they have agreed on it

  std::mutex launch_mutex_;
  Event last_;               // of the operations so far
  bool has_staged_ = false;  // some go by way of the host, where the ranks meet when the device is there
  std::mutex pending_mutex_;
  std::deque<Pending> pending_;
  std::exception_ptr failure_;
  Stream meetings_, watch_;  // end first
};

}  // namespace

Communicator make_gpu_communicator(const Communicator& host, const Device& device, GpuGroup group) {
  return Communicator(std::make_shared<GpuCommunicator>(host, device, std::move(group)));
}

}  // namespace zerostep
