#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <thread>
#include <utility>

#include "base/cuda/cuda_library.h"
#include "base/format.h"
#include "base/nth.h"
#include "sharding/comm/exchange.h"
#include "sharding/comm/over_host_group.h"
#include "sharding/cuda/nccl_transport.h"
#include "sharding/nccl_communicator.h"
#include "sharding/staged_communicator.h"

namespace zerostep {
namespace {

using Clock = std::chrono::steady_clock;
using Message = DeviceTransport::Message;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class NcclCommunicator final : public OverHostGroup {
 public:
  NcclCommunicator(const Communicator& host, const Device& device, const NcclOptions& options, std::unique_ptr<DeviceTransport> transport)
      : OverHostGroup(host, device),
        options_(options),
        transport_(std::move(transport)),
        staged_(make_staged_communicator(host, device)),
        meetings_(device.host_stream("meetings of ranks")),
        watch_(device.host_stream("watch over collectives")) {}

  const char* backend() const override { return "nccl"; }
  std::shared_ptr<Impl> split(int color, int key) override {
    const Communicator part = host_.split(color, key);
    if (part.size() == 1) return make_staged_communicator(part, device_).impl();
    std::string why_not;
    const std::optional<Communicator> made = make_nccl_communicator(part, device_, options_, why_not);
    if (!made) fail_run("a group that is split from one of NCCL's cannot have it: {}", why_not);
    return made->impl();
  }
  void lend_staging(std::span<std::byte> memory) override { staging_ = memory; }
  CommCounters counters() override {
    settle();
    return Impl::counters();
  }

  Event launch(Operation operation, Stream& stream) override {
    if (stream.native_handle() == nullptr)
      fail_protocol("{} is put on stream '{}', which is none of a GPU's", Fingerprint(operation).describe(), stream.name());
    std::lock_guard lock(launch_mutex_);
    const Fingerprint what(operation);
    stream.wait(last_);
    const Event begin = stream.mark();
    Event started;
    // A barrier is met when the stream is there.
    const bool is_staged = operation.kind == CollectiveKind::Barrier || !reaches_operands(operation);
    if (is_staged) {
      started = staged_.impl()->launch(operation, stream);
      meetings_.wait(started);
    } else {
      stream.wait(meetings_.enqueue([this, what] { meet(what); }));
      started = stream.record();
      put(operation, stream);
    }
    last_ = stream.mark();
    add({std::move(operation), begin, last_});
    watch_.enqueue([this, what, started, done = last_] { watch_over(what, started, done); });
    return last_;
  }

 private:
  struct Pending {
    Operation operation;
    Event begin, done;
  };

  bool reaches_operands(const Operation& operation) const {
    const auto reaches = [&](const void* data) { return data == nullptr || transport_->reaches(data); };
    for (const Segment& s : operation.segments)
      if (s.count > 0 && !((operation.kind == CollectiveKind::Broadcast || reaches(s.source)) && reaches(s.target))) return false;
    for (const Transfer& t : operation.transfers)
      if (t.count > 0 && !((t.from != rank() || reaches(t.source)) && (t.to != rank() || reaches(t.target)))) return false;
    return true;
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
        if (const std::string failure = transport_->failure(); !failure.empty())
          fail_job(fmt::format("rank {}: {} has failed: NCCL says: {}", rank(), what.describe(), failure));
        if (!has_started && started.ready()) {
          has_started = true;
          since = Clock::now();
        }
        if (has_started && seconds_since(since) > options_.timeout_seconds)
          fail_job(fmt::format(
              "rank {}: every rank has queued {}, which has begun here and not ended for {:.3g} s: another rank's GPU is still busy before "
              "it, or a GPU or what joins them is silent. If it may take that long, raise run.collective_timeout_seconds.",
              rank(), what.describe(), options_.timeout_seconds));
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
      transport_->fail(pending.done, failure_);
    else
      pending_.push_back(std::move(pending));
  }
  // Counts what is done.
  void settle() {
    std::lock_guard lock(pending_mutex_);
    while (!failure_ && !pending_.empty() && pending_.front().done.ready() && !pending_.front().done.failed()) {
      const Pending& first = pending_.front();
      count(first.operation, first.done.seconds_since(first.begin));
      pending_.pop_front();
    }
  }
  // What is under way has failed before it ends.
  void give_up(std::exception_ptr failure) {
    {
      std::lock_guard lock(pending_mutex_);
      if (failure_) return;
      failure_ = failure;
      for (const Pending& p : pending_) transport_->fail(p.done, failure_);
      pending_.clear();
    }
    transport_->abort(std::move(failure));
  }

  void put(const Operation& operation, Stream& stream) {
    const bool may_use_other_order = !options_.is_deterministic && operation.source_type == DType::F32 && operation.op == ReduceOp::Sum;
    switch (operation.kind) {
      case CollectiveKind::AllGather:
        return transport_->all_gather(operation.segments, operation.source_type, stream);
      case CollectiveKind::Broadcast:
        return transport_->broadcast(operation.segments, operation.source_type, operation.root, stream);
      case CollectiveKind::ReduceScatter:
        if (may_use_other_order && !operation.accumulate) return transport_->reduce_scatter(operation.segments, stream);
        return sum_parts(operation, stream, [](const Segment& segment) { return segment.target; });
      case CollectiveKind::AllReduce:
        if (may_use_other_order) return transport_->all_reduce(operation.segments, stream);
        return all_reduce(operation, stream);
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
    if (!messages.empty()) transport_->exchange(messages, stream);
  }

  // The elements of a segment that a rank sums.
  struct Part {
    int64_t begin, count;
  };
  Part part_of(const Operation& operation, const Segment& segment, int peer) const {
    if (operation.kind == CollectiveKind::ReduceScatter) return {peer * segment.count, segment.count};
    const int64_t each = round_up((segment.count + size() - 1) / size(), 16), begin = std::min(segment.count, peer * each);
    return {begin, std::min(segment.count, begin + each) - begin};
  }
  // Elements [at, at + count) of every rank's part of a segment, fewer where a part ends before, and where in the staging memory the other
  // ranks' values of this rank's part come, rank after rank.
  struct Window {
    const Segment* segment;
    int64_t at, count, offset;
  };

  // Sums this rank's parts, in rounds for which the staging memory is enough. target(segment) is where this rank's part of it goes.
  template <typename Target>
  void sum_parts(const Operation& operation, Stream& stream, const Target& target) {
    const int64_t staged = std::ssize(staging_), others = size() - 1;
    const int64_t most = (staged - kAlignmentBytes) / others / num_bytes(1, operation.source_type) / 16 * 16;
    if (most <= 0)
      fail_protocol("{}: {} of memory are lent for the values of {} other ranks", Fingerprint(operation).describe(), human_bytes(staged),
                    others);
    std::vector<Window> round;
    int64_t used = 0;
    const auto flush = [&] {
      if (!round.empty()) sum_round(operation, round, stream, target);
      round.clear();
      used = 0;
    };
    for (const Segment& segment : operation.segments) {
      const int64_t longest = part_of(operation, segment, 0).count;
      for (int64_t begin = 0; begin < longest; begin += most) {
        const int64_t count = std::min(most, longest - begin);
        const int64_t bytes = round_up(others * num_bytes(count, operation.source_type), kAlignmentBytes);
        if (used + bytes > staged) flush();
        round.push_back({&segment, begin, count, used});
        used += bytes;
      }
    }
    flush();
  }

  template <typename Target>
  void sum_round(const Operation& operation, const std::vector<Window>& round, Stream& stream, const Target& target) {
    const auto bytes = [&](int64_t count) { return num_bytes(count, operation.source_type); };
    const auto count_for = [&](const Window& w, int peer) {
      return std::clamp<int64_t>(part_of(operation, *w.segment, peer).count - w.at, 0, w.count);
    };
    const auto mine_at = [&](const Window& w, int peer) {
      return at(w.segment->source, bytes(part_of(operation, *w.segment, peer).begin + w.at));
    };
    std::vector<Message> messages;
    for (const Window& w : round) {
      for (int step = 1; step < size(); ++step) {
        const int to = (rank() + step) % size(), from = (rank() - step + size()) % size();
        if (count_for(w, to) > 0) messages.push_back({to, mine_at(w, to), bytes(count_for(w, to)), false});
        std::byte* const place = at(staging_.data(), w.offset + bytes((from < rank() ? from : from - 1) * w.count));
        if (count_for(w, rank()) > 0) messages.push_back({from, place, bytes(count_for(w, rank())), true});
      }
    }
    transport_->exchange(messages, stream);
    for (const Window& w : round)
      transport_->sum({.own = mine_at(w, rank()),
                       .others = staging_.data() + w.offset,
                       .stride = w.count,
                       .count = count_for(w, rank()),
                       .rank = rank(),
                       .num_ranks = size(),
                       .source_type = operation.source_type,
                       .target_type = operation.target_type,
                       .target = at(target(*w.segment), num_bytes(w.at, operation.target_type)),
                       .is_maximum = operation.op == ReduceOp::Max,
                       .accumulate = operation.accumulate},
                      stream);
  }

  void all_reduce(const Operation& operation, Stream& stream) {
    const auto place = [&](const Segment& segment, int peer) {
      return at(segment.target, num_bytes(part_of(operation, segment, peer).begin, operation.source_type));
    };
    sum_parts(operation, stream, [&](const Segment& segment) { return place(segment, rank()); });
    std::vector<Message> messages;
    for (const Segment& segment : operation.segments) {
      const auto bytes_of = [&](int peer) { return num_bytes(part_of(operation, segment, peer).count, operation.source_type); };
      for (int step = 1; step < size(); ++step) {
        const int to = (rank() + step) % size(), from = (rank() - step + size()) % size();
        if (bytes_of(rank()) > 0) messages.push_back({to, place(segment, rank()), bytes_of(rank()), false});
        if (bytes_of(from) > 0) messages.push_back({from, place(segment, from), bytes_of(from), true});
      }
    }
    if (!messages.empty()) transport_->exchange(messages, stream);
  }

  const NcclOptions options_;
  std::unique_ptr<DeviceTransport> transport_;
  Communicator staged_;
  std::span<std::byte> staging_;

  std::mutex launch_mutex_;
  Event last_;  // of the operations so far
  std::mutex pending_mutex_;
  std::deque<Pending> pending_;
  std::exception_ptr failure_;
  Stream meetings_, watch_;  // end first
};

}  // namespace

std::optional<Communicator> make_nccl_communicator(const Communicator& host, const Device& device, const NcclOptions& options,
                                                   std::string& why_not) {
  NcclGreeting mine;
  mine.why_not = options.why_not;
  why_not.clear();
  try {
    if (mine.why_not.empty()) reinterpret_cast<GreetForNccl*>(function_of_cuda_library(kGreetForNccl))(*device.impl(), host.rank(), mine);
  } catch (const RunError& error) {
    mine.why_not = error.what();
  }
  Communicator group = host;
  const std::vector<std::string> gpus = group.all_gather_text(mine.gpu, "GPUs of ranks"),
                                 reasons = group.all_gather_text(mine.why_not, "start of NCCL"),
                                 ids = group.all_gather_text(mine.id, "start of NCCL");
  for (int rank = 0; rank < group.size(); ++rank)
    for (int other = 0; other < rank; ++other)
      if (nth(gpus, rank) == nth(gpus, other) && !nth(gpus, rank).empty() && why_not.empty())
        why_not = fmt::format("ranks {} and {} share a GPU", other, rank);
  for (int rank = 0; rank < group.size() && why_not.empty(); ++rank) why_not = nth(reasons, rank);
  if (!why_not.empty()) return std::nullopt;
  std::unique_ptr<DeviceTransport> transport;
  const Fingerprint what(CollectiveKind::Barrier, Fingerprint::kBytes, 0, ReduceOp::Sum, "start of NCCL");
  try {
    reinterpret_cast<StartNccl*>(function_of_cuda_library(kStartNccl))(
        *device.impl(), {group.rank(), group.size(), ids.front(), options.timeout_seconds, [&] { group.impl()->check_peers(what); }},
        transport);
  } catch (const PeerError&) {
    throw;
  } catch (const RunError& error) {
    group.abort(error.what());
    throw;
  }
  return Communicator(std::make_shared<NcclCommunicator>(host, device, options, std::move(transport)));
}

}  // namespace zerostep
