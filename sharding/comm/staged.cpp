#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <mutex>
#include <string>
#include <utility>

#include "base/nth.h"
#include "sharding/comm/over_host_group.h"
#include "sharding/staged_communicator.h"

namespace zerostep {
namespace {

// `count` elements from `begin` on of a segment, or of a transfer, and where they are staged.
struct Piece {
  int index;
  int64_t begin, count, offset;
};
// What the group does at once.
using Part = std::vector<Piece>;

class StagedCommunicator final : public OverHostGroup {
 public:
  StagedCommunicator(const Communicator& host, const Device& device, int64_t part_bytes)
      : OverHostGroup(host, device),
        part_bytes_(part_bytes),
        name_(host.size() == 1 ? "copies" : std::string(host.backend()) + ", staged in pinned memory"),
        staging_(host_.allocate(static_cast<size_t>(2 * part_bytes), "staging of collectives", MemoryKind::PinnedHost)),
        pinned_(device.pin(staging_->data(), 2 * part_bytes)),
        host_stream_(device.host_stream("collectives on the host")) {}
  ~StagedCommunicator() override {
    for (const Event& use : in_use_) {
      try {
        use.wait();
      } catch (...) {  // told to whoever waited for the operation
      }
    }
  }

  const char* backend() const override { return name_.c_str(); }
  std::shared_ptr<Impl> split(int color, int key) override {
    return std::make_shared<StagedCommunicator>(host_.split(color, key), device_, part_bytes_);
  }

  // One rank meets nobody.
  bool meets_on_device() override { return size() > 1; }

  Event launch(Operation operation, Stream& stream) override {
    const auto start = std::chrono::steady_clock::now();
    const Event begin = stream.mark();
    is_copy(operation) ? copy_alone(operation, stream) : run_in_parts(operation, stream);
    count(operation, 0);
    if (stream.native_handle() == nullptr)  // a thread's, which looks at the clock itself
      return stream.enqueue([this, kind = operation.kind, start] {
        count_seconds(kind, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      });
    count_times();  // whoever never asks for counters keeps no event of what is done
    const Event done = stream.mark();
    std::lock_guard lock(timed_mutex_);
    timed_.push_back({operation.kind, begin, done});
    return done;
  }
  CommCounters counters() override {
    count_times();
    return Impl::counters();
  }

 private:
  struct Timed {
    CollectiveKind kind;
    Event begin, done;
  };
  // Of what is done and has not failed.
  void count_times() {
    std::lock_guard lock(timed_mutex_);
    for (; !timed_.empty() && timed_.front().done.ready(); timed_.pop_front())
      if (const Timed& first = timed_.front(); !first.done.failed()) count_seconds(first.kind, first.done.seconds_since(first.begin));
  }

  // Alone, and nothing is to be computed.
  bool is_copy(const Operation& operation) const {
    return size() == 1 && operation.source_type == operation.target_type && !operation.accumulate;
  }
  void copy_alone(const Operation& operation, Stream& stream) {
    const auto copy = [&](const void* from, void* to, int64_t count) {
      if (from != to && count > 0) device_.copy(stream, to, from, num_bytes(count, operation.source_type));
    };
    if (operation.kind != CollectiveKind::Broadcast)
      for (const Segment& s : operation.segments) copy(s.source, s.target, s.count);
    for (const Transfer& t : operation.transfers) copy(t.source, t.target, t.count);
  }

  void run_in_parts(const Operation& operation, Stream& stream) {
    const std::vector<Part> parts = cut(operation);
    std::vector<Event> done(parts.size());
    // Of parts the group knows their own sizes alone.
    if (parts.size() > 1) {
      host_stream_.wait(stream.record());
      host_stream_.enqueue([host = host_.impl(), whole = Fingerprint(operation)] { host->gather_small(whole, nullptr, 0, nullptr); });
    }
    const auto finish = [&](size_t part) {
      stream.wait(done[part]);
      take_back(operation, parts[part], staged(part), stream);
      nth(in_use_, part % 2) = stream.record();
    };
    for (size_t part = 0; part < parts.size(); ++part) {
      stream.wait(nth(in_use_, part % 2));
      bring(operation, parts[part], staged(part), stream);
      host_stream_.wait(stream.record());
      done[part] =
          start(operation, staged_segments(operation, parts[part], staged(part)), staged_transfers(operation, parts[part], staged(part)));
      if (part > 0) finish(part - 1);
    }
    finish(parts.size() - 1);
  }

  // Puts it on the host's stream.
  Event start(const Operation& operation, const std::vector<Segment>& segments, const std::vector<Transfer>& transfers) {
    switch (operation.kind) {
      case CollectiveKind::AllGather:
        return host_.all_gather(segments, operation.source_type, host_stream_, operation.label);
      case CollectiveKind::ReduceScatter:
        return host_.reduce_scatter(segments, operation.source_type, operation.target_type, operation.accumulate, host_stream_,
                                    operation.label);
      case CollectiveKind::AllReduce:
        return host_.all_reduce(segments, operation.source_type, operation.op, host_stream_, operation.label);
      case CollectiveKind::Broadcast:
        return host_.broadcast(segments, operation.source_type, operation.root, host_stream_, operation.label);
      case CollectiveKind::Exchange:
        return host_.exchange(transfers, operation.source_type, host_stream_, operation.label);
      case CollectiveKind::Barrier:
        break;
    }
    return host_.barrier(host_stream_, operation.label);
  }

  // What an element of a segment takes where it is staged: what is read, then, of a reduce-scatter, what is written.
  int64_t source_bytes(const Operation& operation, int64_t count) const {
    const bool has_all = operation.kind == CollectiveKind::AllGather || operation.kind == CollectiveKind::ReduceScatter;
    return num_bytes(count, operation.source_type) * (has_all ? size() : 1);
  }
  int64_t target_bytes(const Operation& operation, int64_t count) const {
    return operation.kind == CollectiveKind::ReduceScatter ? num_bytes(count, operation.target_type) : 0;
  }
  int64_t target_offset(const Operation& operation, int64_t count) const {
    return round_up(source_bytes(operation, count), kAlignmentBytes);
  }

  // Parts that fit into a half of the staging memory, the same ones on every rank; at least one, so that the ranks meet.
  std::vector<Part> cut(const Operation& operation) const {
    std::vector<Part> parts(1);
    int64_t used = 0;
    const int64_t bytes_of_one = source_bytes(operation, 1) + target_bytes(operation, 1);
    const auto add = [&](int index, int64_t count) {
      if (count == 0) parts.back().push_back({index, 0, 0, used});  // the ranks compare what they were asked for
      for (int64_t begin = 0, n = 0; begin < count; begin += n) {
        n = std::min((part_bytes_ - used - 2 * kAlignmentBytes) / bytes_of_one, count - begin);
        if (n <= 0) {
          parts.emplace_back();
          used = n = 0;
          continue;
        }
        parts.back().push_back({index, begin, n, used});
        used += target_offset(operation, n) + round_up(target_bytes(operation, n), kAlignmentBytes);
      }
    };
    for (int i = 0; i < static_cast<int>(operation.segments.size()); ++i) add(i, nth(operation.segments, i).count);
    for (int i = 0; i < static_cast<int>(operation.transfers.size()); ++i) add(i, nth(operation.transfers, i).count);
    return parts;
  }

  std::byte* staged(size_t part) const { return behind(staging_->data(), part % 2 == 0 ? 0 : part_bytes_); }

  // Copies what the group reads to where it is staged.
  void bring(const Operation& operation, const Part& part, std::byte* staging, Stream& stream) {
    const auto element = [&](int64_t n) { return num_bytes(n, operation.source_type); };
    const auto copy = [&](std::byte* to, const void* from, int64_t begin, int64_t count) {
      device_.copy(stream, to, behind(from, element(begin)), element(count));
    };
    for (const Piece& p : part) {
      if (p.count == 0) continue;
      std::byte* to = staging + p.offset;
      if (operation.kind == CollectiveKind::Exchange) {
        const Transfer& t = nth(operation.transfers, p.index);
        if (t.from != rank()) continue;
        if (t.to != rank())
          copy(to, t.source, p.begin, p.count);
        else if (t.source != t.target)
          device_.copy(stream, behind(t.target, element(p.begin)), behind(t.source, element(p.begin)), element(p.count));
        continue;
      }
      const Segment& s = nth(operation.segments, p.index);
      switch (operation.kind) {
        case CollectiveKind::AllGather:
          copy(to + element(rank() * p.count), s.source, p.begin, p.count);
          break;
        case CollectiveKind::ReduceScatter:
          for (int r = 0; r < size(); ++r) copy(to + element(r * p.count), s.source, r * s.count + p.begin, p.count);
          if (operation.accumulate)
            device_.copy(stream, to + target_offset(operation, p.count), behind(s.target, num_bytes(p.begin, operation.target_type)),
                         num_bytes(p.count, operation.target_type));
          break;
        case CollectiveKind::AllReduce:
          copy(to, s.source, p.begin, p.count);
          break;
        case CollectiveKind::Broadcast:
          if (operation.root == rank()) copy(to, s.target, p.begin, p.count);
          break;
        case CollectiveKind::Exchange:
        case CollectiveKind::Barrier:
          break;
      }
    }
  }

  // Copies what the group wrote from where it is staged.
  void take_back(const Operation& operation, const Part& part, const std::byte* staging, Stream& stream) {
    const auto element = [&](int64_t n) { return num_bytes(n, operation.target_type); };
    const auto copy = [&](void* to, int64_t begin, const std::byte* from, int64_t count) {
      device_.copy(stream, behind(to, element(begin)), from, element(count));
    };
    for (const Piece& p : part) {
      if (p.count == 0) continue;
      const std::byte* from = staging + p.offset;
      if (operation.kind == CollectiveKind::Exchange) {
        const Transfer& t = nth(operation.transfers, p.index);
        if (t.to == rank() && t.from != rank()) copy(t.target, p.begin, from, p.count);
        continue;
      }
      const Segment& s = nth(operation.segments, p.index);
      switch (operation.kind) {
        case CollectiveKind::AllGather:
          for (int r = 0; r < size(); ++r) copy(s.target, r * s.count + p.begin, from + element(r * p.count), p.count);
          break;
        case CollectiveKind::ReduceScatter:
          copy(s.target, p.begin, from + target_offset(operation, p.count), p.count);
          break;
        case CollectiveKind::AllReduce:
          copy(s.target, p.begin, from, p.count);
          break;
        case CollectiveKind::Broadcast:
          if (operation.root != rank()) copy(s.target, p.begin, from, p.count);
          break;
        case CollectiveKind::Exchange:
        case CollectiveKind::Barrier:
          break;
      }
    }
  }

  std::vector<Segment> staged_segments(const Operation& operation, const Part& part, std::byte* staging) const {
    std::vector<Segment> out;
    if (operation.kind == CollectiveKind::Exchange) return out;
    for (const Piece& p : part) {
      std::byte* place = staging + p.offset;
      switch (operation.kind) {
        case CollectiveKind::AllGather:
          out.push_back({place + num_bytes(rank() * p.count, operation.source_type), place, p.count});
          break;
        case CollectiveKind::ReduceScatter:
          out.push_back({place, place + target_offset(operation, p.count), p.count});
          break;
        default:
          out.push_back({place, place, p.count});
      }
    }
    return out;
  }
  // What a rank keeps was copied when the part was brought.
  std::vector<Transfer> staged_transfers(const Operation& operation, const Part& part, std::byte* staging) const {
    std::vector<Transfer> out;
    if (operation.kind != CollectiveKind::Exchange) return out;
    for (const Piece& p : part) {
      const Transfer& t = nth(operation.transfers, p.index);
      std::byte* place = staging + p.offset;
      out.push_back({t.from, t.to, t.from == rank() ? place : nullptr, t.to == rank() ? place : nullptr, p.count});
    }
    return out;
  }

  const int64_t part_bytes_;
  const std::string name_;
  std::shared_ptr<CommBuffer> staging_;
  std::shared_ptr<void> pinned_;  // goes before the memory
  std::array<Event, 2> in_use_;   // the last work on each half of it
  std::mutex timed_mutex_;
  std::deque<Timed> timed_;  // operations whose time is not counted yet
  Stream host_stream_;       // ends first
};

}  // namespace

Communicator make_staged_communicator(const Communicator& host, const Device& device, int64_t part_bytes) {
  return Communicator(std::make_shared<StagedCommunicator>(host, device, part_bytes));
}

}  // namespace zerostep
