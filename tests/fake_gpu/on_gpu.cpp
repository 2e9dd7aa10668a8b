#include "fake_gpu/on_gpu.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/nth.h"
#include "sharding/comm/impl.h"

namespace zerostep::testing {
namespace {

// Memory of the host, and where it is among the operands on the GPU.
struct Range {
  const std::byte *begin, *end;
  int64_t offset = 0;
  size_t size() const { return static_cast<size_t>(end - begin); }
};

class OnGpu final : public HostCommunicator {
 public:
  OnGpu(const Communicator& group, int gpu, int64_t staging_bytes)
      : HostCommunicator(group.rank(), group.size()),
        group_(group),
        gpu_(gpu),
        device_(Device::cuda(gpu)),
        memory_(device_.memory("values of other ranks", staging_bytes)),
        staging_(static_cast<std::byte*>(memory_.allocate(staging_bytes, "staging")), static_cast<size_t>(staging_bytes)),
        stream_(device_.stream("collectives")) {
    group_.lend_staging(staging_);
  }

  const char* backend() const override { return group_.backend(); }
  bool shares_process() const override { return group_.shares_process(); }
  void gather_small(const Fingerprint& fingerprint, const void* mine, size_t num_bytes, void* all) override {
    group_.impl()->gather_small(fingerprint, mine, num_bytes, all);
  }
  std::shared_ptr<CommBuffer> allocate(size_t num_bytes, const char* label) override {
    return group_.allocate(num_bytes, label, MemoryKind::PinnedHost);
  }
  std::shared_ptr<Impl> split(int color, int key) override {
    return std::make_shared<OnGpu>(group_.split(color, key), gpu_, std::ssize(staging_));
  }
  void abort(const std::string& reason) override { group_.abort(reason); }
  CommCounters counters() override {
    CommCounters all = group_.counters();
    all.scalars = Impl::counters().scalars;
    return all;
  }

 private:
  void run(const Operation& operation) override {
    std::vector<Range> ranges = ranges_of(operation);
    int64_t bytes = kAlignmentBytes;
    for (const Range& range : ranges) bytes += room_of(range);
    if (bytes > room_) {
      room_ = std::max(bytes, 2 * room_);
      there_ = place_in(MemoryKind::Device);
      here_ = place_in(MemoryKind::PinnedHost);
    }
    std::byte *const there = there_, *const here = here_;
    int64_t next = 0;
    for (Range& range : ranges) {
      range.offset = next + static_cast<int64_t>(reinterpret_cast<uintptr_t>(range.begin) % static_cast<uintptr_t>(kAlignmentBytes));
      next += room_of(range);
      std::memcpy(here + range.offset, range.begin, range.size());
    }
    device_.copy(stream_, there, here, bytes);
    Operation moved = operation;
    const auto move = [&](auto*& data) {
      for (const Range& range : ranges)
        if (data >= range.begin && data < range.end) {
          data = there + range.offset + (static_cast<const std::byte*>(data) - range.begin);
          return;
        }
    };
    for (Segment& s : moved.segments) {
      move(s.source);
      move(s.target);
    }
    for (Transfer& t : moved.transfers) {
      move(t.source);
      move(t.target);
    }
    group_.impl()->launch(moved, stream_).wait();
    device_.copy(stream_, here, there, bytes).wait();
    for (const Range& range : ranges) std::memcpy(const_cast<std::byte*>(range.begin), here + range.offset, range.size());
  }
  std::byte* place_in(MemoryKind kind) {
    return static_cast<std::byte*>(operands_.emplace_back(device_.memory("operands", room_, kind)).allocate(room_, "operands"));
  }
  // With what its place in a line takes.
  static int64_t room_of(const Range& range) { return round_up(static_cast<int64_t>(range.size()) + kAlignmentBytes, kAlignmentBytes); }

  // What this rank reads and writes, in ranges that lie apart.
  std::vector<Range> ranges_of(const Operation& operation) const {
    std::vector<Range> all;
    const auto add = [&](const void* data, int64_t count, DType type) {
      const auto* begin = static_cast<const std::byte*>(data);
      if (data != nullptr && count > 0) all.push_back({begin, begin + num_bytes(count, type)});
    };
    const bool gathers = operation.kind == CollectiveKind::AllGather, scatters = operation.kind == CollectiveKind::ReduceScatter;
    for (const Segment& s : operation.segments) {
      if (operation.kind != CollectiveKind::Broadcast) add(s.source, s.count * (scatters ? size() : 1), operation.source_type);
      add(s.target, s.count * (gathers ? size() : 1), operation.target_type);
    }
    for (const Transfer& t : operation.transfers) {
      if (t.from == rank()) add(t.source, t.count, operation.source_type);
      if (t.to == rank()) add(t.target, t.count, operation.source_type);
    }
    std::sort(all.begin(), all.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::vector<Range> out;
    for (const Range& range : all) {
      if (!out.empty() && range.begin <= out.back().end)
        out.back().end = std::max(out.back().end, range.end);
      else
        out.push_back(range);
    }
    return out;
  }

  Communicator group_;
  const int gpu_;
  Device device_;
  Arena memory_;
  std::span<std::byte> staging_;
  // Kept to the end: while memory is freed the device waits for the work of ranks that share it, which may wait for this one.
  std::vector<Arena> operands_;
  int64_t room_ = 0;
  std::byte *there_ = nullptr, *here_ = nullptr;
  Stream stream_;
};

}  // namespace

Communicator on_gpu(const Communicator& group, int gpu, int64_t staging_bytes) {
  return Communicator(std::make_shared<OnGpu>(group, gpu, staging_bytes));
}

Communicator nccl_of(const Communicator& world, const Device& gpu, const NcclOptions& options) {
  std::string why_not;
  const auto made = make_nccl_communicator(world, gpu, options, why_not);
  if (!made) throw RunError(why_not);
  return *made;
}

}  // namespace zerostep::testing
