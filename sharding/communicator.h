#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/device.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/stream.h"

namespace zerostep {

// One contiguous part of a collective. Several segments make one collective: one handshake, one event, one entry in the counters.
//   all_gather:     source = this rank's `count` elements, target = size() * count elements, rank r's at r * count.
//                   source may be its own place inside target.
//   reduce_scatter: source = size() * count elements, target = the sum over ranks of elements [rank * count, (rank + 1) * count).
//                   target may be its own place inside source.
//   all_reduce:     source = `count` elements, target likewise; may be equal.
//   broadcast:      target = `count` elements, read on the root, written elsewhere; source is not used.
struct Segment {
  const void* source;
  void* target;
  int64_t count;
};

// Contiguous elements that one rank of the group gives to another, or keeps: from == to is a copy, of nothing where source == target.
// Ranks are those of the group. Every rank lists the same transfers in the same order with the same from, to and count.
struct Transfer {
  int from, to;
  const void* source;  // read on rank `from`; elsewhere not looked at
  void* target;        // written on rank `to`; elsewhere not looked at
  int64_t count;
};

enum class ReduceOp : uint8_t { Sum, Max };
enum class CollectiveKind : uint8_t { AllGather, ReduceScatter, AllReduce, Broadcast, Exchange, Barrier };
const char* name_of(CollectiveKind kind);

// Memory that the other ranks of a communicator can read directly where the backend allows it (shared memory of a host). Aligned to 64
// bytes, zeroed. Freed with its last owner, which must happen before the communicator ends.
class CommBuffer {
 public:
  virtual ~CommBuffer() = default;
  virtual void* data() const = 0;
  virtual size_t num_bytes() const = 0;
};

// Another rank has failed, said why and ends the job: that rank's message is the one to show, this is its echo.
class PeerError : public RunError {
 public:
  using RunError::RunError;
};

struct CommOptions {
  double timeout_seconds = 600;  // run.collective_timeout_seconds
};

// Of one handle and its copies; a split group counts for itself. An operation is counted when it is done; one of GPUs when it is launched,
// and its seconds when it is done.
struct CommCounters {
  struct Entry {
    int64_t calls = 0;
    // Elements that this rank receives: (W-1) * count for all-gather and reduce-scatter, twice (W-1)/W * count for all-reduce
    // (rounded up to whole elements), count for broadcast on every rank but the root, the counts of what other ranks give to this one
    // for exchange.
    int64_t elements = 0;
    int64_t bytes = 0;
    double seconds = 0;  // time inside the operation, waiting for peers included
  };
  Entry all_gather, reduce_scatter, all_reduce, broadcast, exchange, barrier;
  Entry scalars;  // all_reduce_scalars and all_gather_text: elements (texts: bytes) received from the other ranks
  int64_t elements_gathered() const { return all_gather.elements + broadcast.elements + exchange.elements; }
  int64_t elements_reduced() const { return reduce_scatter.elements + all_reduce.elements + scalars.elements; }
};

// Collectives among the ranks of a group. A value handle over one backend: Local (ranks are threads), Mpi (shared memory between ranks
// of one host, MPI calls across hosts), Nccl and Threads (from GPU to GPU), Staged (of GPUs, over one of the host), Fake (counts only).
// Every rank of the group calls the same operations in the same order with the same kinds, types, counts and labels: each operation carries
// a fingerprint of them, and a difference is an error on every rank that names both sides. All operations are asynchronous on `stream` and
// give an event; buffers must stay alive and untouched until it. Every sum is ((r0 + r1) + r2) + ... over the ranks' values in rank order,
// in fp32 (fp64 for F64), with accumulate target + that sum, and is rounded once, to nearest even, to the target's type: bitwise the same
// on every backend. A maximum is NaN when a value is. A rank that dies, leaves or stays silent for longer than the time-out makes the
// operation throw RunError naming rank, operation, label and size (PeerError where another rank has said so first). A group in which an
// operation has failed stays failed.
class Communicator {
 public:
  class Impl;
  explicit Communicator(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

  int rank() const;
  int size() const;
  // "local", "mpi (shared memory)", "mpi", "nccl", "threads", "fake"; "mpi, staged in pinned memory" and the like; "copies" of one rank's
  // GPU.
  const char* backend() const;
  // Whether other ranks are threads of this process.
  bool shares_process() const;

  // `label` says what the operation is for (the unit): for errors, fingerprints and traces. It must outlive the operation.
  Event all_gather(std::span<const Segment> segments, DType type, Stream& stream, const char* label);
  // target_type is F32 or source_type. accumulate: target += sum, else target = sum.
  Event reduce_scatter(std::span<const Segment> segments, DType source_type, DType target_type, bool accumulate, Stream& stream,
                       const char* label);
  Event all_reduce(std::span<const Segment> segments, DType type, ReduceOp op, Stream& stream, const char* label);
  Event broadcast(std::span<const Segment> segments, DType type, int root, Stream& stream, const char* label);
  // Any number of transfers of any sizes; each moves from its source to its target alone, whatever else does (grouped ncclSend and
  // ncclRecv). One source may go to many targets; otherwise no target overlaps a source or another target. An empty list is a handshake.
  Event exchange(std::span<const Transfer> transfers, DType type, Stream& stream, const char* label);
  Event barrier(Stream& stream, const char* label);

  // Blocking conveniences for a few scalars and short texts, in the caller's thread. They take their place among the operations: the
  // caller sees to it that no stream runs another one of this communicator meanwhile. (Fake: values stay, every rank has the same text.)
  void all_reduce_scalars(std::span<double> values, ReduceOp op, const char* label);
  std::vector<std::string> all_gather_text(const std::string& text, const char* label);

  // Collective; sizes may differ between ranks. Memory for operands of the operations above: those inside it move without a copy in
  // between, in this group and in those split from it. Of the device where the group's operations take its memory, or of the host; on a
  // processor they are one. (Fake: no memory, data() is null.)
  std::shared_ptr<CommBuffer> allocate(size_t num_bytes, const char* label, MemoryKind kind = MemoryKind::Device);

  // Memory of the device that a group of GPUs (NCCL) needs while it sums, for the values of other ranks, as many bytes on every rank; what
  // does not fit comes in rounds. Of this handle and its copies, not of groups that are split from it. It must live until it is taken back,
  // or other memory is lent, and the operations before that are done. Other backends need none.
  void lend_staging(std::span<std::byte> memory);
  // Where that is still what is lent.
  void take_staging_back(std::span<std::byte> memory);
  // Collective, while no operation runs. `is_pinned`: whether all memory of the host that this rank's operations use is pinned, but for
  // what no rank has pinned. Where it is so on every rank, GPUs reach it by themselves; until then, and elsewhere, operands in memory of
  // the host go through the host. Of this handle and its copies; other backends ask nothing.
  void agree_on_host_memory(bool is_pinned);
  // Whether the ranks meet for some operation since the last note_device_waited() only when the device has come there: then a caller waits
  // for the device, and notes that it has, before it uses scalars and texts. False: they meet for every one as it is launched, whatever
  // the device has done by then, as GPUs do that move values between them, and wait_for_meetings() is enough. Never blocks.
  bool meets_on_device() const;
  // The device has done all operations so far: meets_on_device() asks of later ones alone.
  void note_device_waited();
  // Blocks until the ranks have met for all operations so far that they meet for as they are launched, while the device may still work.
  void wait_for_meetings();

  // Collective: the ranks that give one color form a group, ordered by (key, rank). A Fake cannot know what the other ranks give: it takes
  // only the second form, where the function says (color, key) of any rank of this group.
  Communicator split(int color, int key);
  Communicator split(const std::function<std::pair<int, int>(int rank)>& color_and_key);

  // Tells the other ranks that this one has failed, so that their operations throw PeerError at once instead of waiting for the time-out:
  // in this group and in every group that comes from the same first communicator. From any thread; never blocks, never throws.
  void abort(const std::string& reason) noexcept;

  CommCounters counters() const;

  // For backends over another one.
  const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace zerostep
