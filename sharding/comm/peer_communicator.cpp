#include <algorithm>
#include <cstring>

#include "base/nth.h"
#include "sharding/comm/peer_memory.h"
#include "sharding/comm/reduce_kernels.h"

namespace zerostep {
namespace {

// What one rank brings into a segment.
int64_t source_elements(const Operation& operation, const Segment& segment, int size) {
  return operation.kind == CollectiveKind::ReduceScatter ? segment.count * size : segment.count;
}
const void* source_operand(const Operation& operation, const Segment& segment) {
  return operation.kind == CollectiveKind::Broadcast ? segment.target : segment.source;
}

}  // namespace

PeerCommunicator::PeerCommunicator(std::shared_ptr<PeerMemory> memory)
    : HostCommunicator(memory->rank(), memory->size()),
      memory_(std::move(memory)),
      control_(memory_->control()),
      sources_(static_cast<size_t>(this->size())),
      past_cache_bytes_(cache_share_bytes()) {}

PeerCommunicator::~PeerCommunicator() { control_.leave(); }

template <typename Body>
void PeerCommunicator::guarded(const Fingerprint& fingerprint, Body&& body) {
  std::lock_guard lock(mutex_);
  control_.check(fingerprint);  // also keeps what a failed operation has published, for peers that still compare it
  try {
    body();
  } catch (const std::exception& error) {
    if (dynamic_cast<const PeerError*>(&error) == nullptr) control_.failure().set(rank(), error.what());
    control_.wait_for_readers();  // the operands are the caller's to free from now on
    throw;
  }
}

void PeerCommunicator::meet(const Fingerprint& fingerprint) {
  my_slot().fingerprint = fingerprint;
  control_.barrier(fingerprint);
  check_fingerprints(size(), operations_, [&](int rank) -> const Fingerprint& { return control_.slot(rank, operations_).fingerprint; });
}

void PeerCommunicator::run(const Operation& operation) {
  const Fingerprint fingerprint(operation);
  guarded(fingerprint, [&] {
    if (operation.kind == CollectiveKind::Exchange) return run_exchange(operation, fingerprint);
    int64_t elements = 0;
    for (const Segment& segment : operation.segments) elements += source_elements(operation, segment, size());
    if (num_bytes(elements, operation.source_type) <= static_cast<int64_t>(kSmallBytes)) return run_small(operation, fingerprint);
    std::span<const Segment> segments = operation.segments;
    while (!segments.empty()) {
      const size_t batch = std::min<size_t>(segments.size(), GroupControl::kMaxOperands);
      run_segments(operation, fingerprint, segments.first(batch));
      segments = segments.subspan(batch);
    }
  });
}

void PeerCommunicator::gather_small(const Fingerprint& fingerprint, const void* mine, size_t num_bytes, void* all) {
  guarded(fingerprint, [&] {
    if (num_bytes > kSmallBytes) fail_protocol("{}: more than {} bytes in one handshake", fingerprint.describe(), kSmallBytes);
    if (num_bytes > 0) std::memcpy(my_slot().payload, mine, num_bytes);
    meet(fingerprint);
    for (int rank = 0; rank < size() && num_bytes > 0; ++rank)
      std::memcpy(behind(all, rank * static_cast<int64_t>(num_bytes)), control_.slot(rank, operations_).payload, num_bytes);
    ++operations_;
  });
}

// One handshake: the operands travel in the control blocks, and no rank waits until its own have been read.
void PeerCommunicator::run_small(const Operation& operation, const Fingerprint& fingerprint) {
  const int64_t element = static_cast<int64_t>(size_of(operation.source_type));
  const bool sends = operation.kind != CollectiveKind::Broadcast || operation.root == rank();
  int64_t at = 0;
  for (const Segment& segment : operation.segments) {
    const int64_t bytes = source_elements(operation, segment, size()) * element;
    if (sends && bytes > 0) std::memcpy(my_slot().payload + at, source_operand(operation, segment), static_cast<size_t>(bytes));
    at += bytes;
  }
  meet(fingerprint);
  at = 0;
  for (const Segment& segment : operation.segments) {
    const int64_t own = operation.kind == CollectiveKind::ReduceScatter ? rank() * segment.count * element : 0;
    for (int peer = 0; peer < size(); ++peer) nth(sources_, peer) = control_.slot(peer, operations_).payload + at + own;
    if (segment.count > 0) take(operation, segment, 0, segment.count);
    at += source_elements(operation, segment, size()) * element;
  }
  ++operations_;
}

// Of a group of one: from one place to another.
void PeerCommunicator::run_alone(const Operation& operation, std::span<const Segment> segments) {
  const int64_t element = static_cast<int64_t>(size_of(operation.source_type));
  for (const Segment& segment : segments) {
    const size_t bytes = static_cast<size_t>(segment.count * element);
    if (operation.kind == CollectiveKind::Broadcast || (segment.source == segment.target && !operation.accumulate)) continue;
    if (operation.kind == CollectiveKind::AllGather) {
      copy_bytes(segment.target, segment.source, bytes, bytes > past_cache_bytes_);
    } else {
      reduce(&segment.source, 1, operation.source_type, segment.target, operation.target_type, segment.count, operation.op,
             operation.accumulate, bytes > past_cache_bytes_);
    }
  }
}

void PeerCommunicator::run_segments(const Operation& operation, const Fingerprint& fingerprint, std::span<const Segment> segments) {
  if (size() == 1) return run_alone(operation, segments);
  const bool all_reduce = operation.kind == CollectiveKind::AllReduce;
  GroupControl::Slot& slot = my_slot();
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    slot.source[i] = slot.target[i] = {};
    if (segment.count == 0 || (operation.kind == CollectiveKind::Broadcast && operation.root != rank())) continue;
    const int64_t elements = source_elements(operation, segment, size());
    slot.source[i] = memory_->publish(source_operand(operation, segment), static_cast<size_t>(num_bytes(elements, operation.source_type)));
    if (all_reduce) slot.target[i] = memory_->publish(segment.target, static_cast<size_t>(num_bytes(elements, operation.target_type)));
  }
  meet(fingerprint);

  const auto is_staged = [&](size_t i) {
    for (int rank = 0; rank < size(); ++rank) {
      const GroupControl::Slot& other = control_.slot(rank, operations_);
      if (other.source[i].buffer == Operand::kStaged || (all_reduce && other.target[i].buffer == Operand::kStaged)) return true;
    }
    return false;
  };
  std::vector<int> direct, staged;
  for (size_t i = 0; i < segments.size(); ++i)
    if (segments[i].count > 0) (is_staged(i) ? staged : direct).push_back(static_cast<int>(i));
  if (!direct.empty()) run_direct(operation, fingerprint, segments, direct);
  for (const int i : staged) run_staged(operation, fingerprint, nth(segments, i));
  ++operations_;
}

const std::byte* PeerCommunicator::source_of(int rank, int segment) {
  return memory_->resolve(rank, control_.slot(rank, operations_).source[segment]);
}

void PeerCommunicator::run_direct(const Operation& operation, const Fingerprint& fingerprint, std::span<const Segment> segments,
                                  std::span<const int> direct) {
  const int64_t element = static_cast<int64_t>(size_of(operation.source_type));
  int64_t touched = 0;  // bytes: what this rank reads or writes, whichever is more
  for (const int i : direct) {
    const int64_t elements = nth(segments, i).count;
    touched +=
        elements * element * (operation.kind == CollectiveKind::AllGather || operation.kind == CollectiveKind::ReduceScatter ? size() : 1);
  }
  const bool past_cache = static_cast<size_t>(touched) > past_cache_bytes_;

  {
    const GroupControl::Reading reading(control_, fingerprint);
    for (const int i : direct) copy_direct(operation, nth(segments, i), i, past_cache);
  }
  control_.barrier(fingerprint);  // nobody reads this rank's sources any more
  if (operation.kind != CollectiveKind::AllReduce) return;

  {
    const GroupControl::Reading reading(control_, fingerprint);
    for (const int i : direct) {
      const Segment& segment = nth(segments, i);
      for (int step = 1; step < size(); ++step) {
        const int peer = (rank() + step) % size();
        const SummedPart part = summed_part(segment.count, peer, size());
        const std::byte* sum = memory_->resolve(peer, control_.slot(peer, operations_).target[i]) + part.begin * element;
        copy_bytes(behind(segment.target, part.begin * element), sum, static_cast<size_t>(part.count * element), past_cache);
      }
    }
  }
  control_.barrier(fingerprint);
}

// This rank's share of a segment: what it gathers, or the part that it sums.
void PeerCommunicator::copy_direct(const Operation& operation, const Segment& segment, int i, bool past_cache) {
  const int64_t element = static_cast<int64_t>(size_of(operation.source_type)), bytes = segment.count * element;
  switch (operation.kind) {
    case CollectiveKind::AllGather:
      for (int step = 0; step < size(); ++step) {  // each rank starts elsewhere
        const int peer = (rank() + step) % size();
        std::byte* place = behind(segment.target, peer * bytes);
        if (peer == rank() && place == segment.source) continue;
        copy_bytes(place, peer == rank() ? segment.source : source_of(peer, i), static_cast<size_t>(bytes), past_cache);
      }
      break;
    case CollectiveKind::ReduceScatter:
      for (int peer = 0; peer < size(); ++peer)
        nth(sources_, peer) = behind(peer == rank() ? segment.source : source_of(peer, i), rank() * bytes);
      reduce(sources_.data(), size(), operation.source_type, segment.target, operation.target_type, segment.count, operation.op,
             operation.accumulate, past_cache);
      break;
    case CollectiveKind::AllReduce: {
      const SummedPart part = summed_part(segment.count, rank(), size());
      for (int peer = 0; peer < size(); ++peer)
        nth(sources_, peer) = behind(peer == rank() ? segment.source : source_of(peer, i), part.begin * element);
      reduce(sources_.data(), size(), operation.source_type, behind(segment.target, part.begin * element), operation.target_type,
             part.count, operation.op, false, past_cache);
      break;
    }
    case CollectiveKind::Broadcast:
      if (operation.root != rank()) copy_bytes(segment.target, source_of(operation.root, i), static_cast<size_t>(bytes), past_cache);
      break;
    case CollectiveKind::Exchange:
    case CollectiveKind::Barrier:
      break;
  }
}

// Window by window through the bounce areas. Of the two areas of a rank, the one being written was read before the last barrier.
void PeerCommunicator::run_staged(const Operation& operation, const Fingerprint& fingerprint, const Segment& segment) {
  const int64_t element = static_cast<int64_t>(size_of(operation.source_type));
  const int64_t parts = operation.kind == CollectiveKind::ReduceScatter ? size() : 1;
  const int64_t window_elements = static_cast<int64_t>(GroupControl::kBounceBytes) / element / parts;
  const bool sends = operation.kind != CollectiveKind::Broadcast || operation.root == rank();
  for (int64_t begin = 0; begin < segment.count; begin += window_elements, ++windows_) {
    const int64_t count = std::min(window_elements, segment.count - begin);
    const auto bytes = static_cast<size_t>(count * element);
    for (int64_t part = 0; sends && part < parts; ++part)
      std::memcpy(control_.bounce(rank(), windows_) + part * count * element,
                  behind(source_operand(operation, segment), (part * segment.count + begin) * element), bytes);
    control_.barrier(fingerprint);
    const int64_t own_part = operation.kind == CollectiveKind::ReduceScatter ? rank() * count * element : 0;
    for (int peer = 0; peer < size(); ++peer) nth(sources_, peer) = control_.bounce(peer, windows_) + own_part;
    take(operation, segment, begin, count);
  }
}

// Elements [begin, begin + count) of a segment's result, of what sources_ holds of every rank.
void PeerCommunicator::take(const Operation& operation, const Segment& segment, int64_t begin, int64_t count) {
  const int64_t element = static_cast<int64_t>(size_of(operation.source_type));
  const auto bytes = static_cast<size_t>(count * element);
  switch (operation.kind) {
    case CollectiveKind::AllGather:
      for (int peer = 0; peer < size(); ++peer)
        std::memcpy(behind(segment.target, (peer * segment.count + begin) * element), nth(sources_, peer), bytes);
      break;
    case CollectiveKind::ReduceScatter:
    case CollectiveKind::AllReduce:
      reduce(sources_.data(), size(), operation.source_type, behind(segment.target, num_bytes(begin, operation.target_type)),
             operation.target_type, count, operation.op, operation.accumulate, false);
      break;
    case CollectiveKind::Broadcast:
      if (operation.root != rank()) std::memcpy(behind(segment.target, begin * element), nth(sources_, operation.root), bytes);
      break;
    case CollectiveKind::Exchange:
    case CollectiveKind::Barrier:
      break;
  }
}

std::shared_ptr<CommBuffer> PeerCommunicator::allocate(size_t num_bytes, const char* label) {
  return memory_->allocate(*this, num_bytes, label);
}

std::shared_ptr<Communicator::Impl> PeerCommunicator::split(int color, int key) {
  return std::make_shared<PeerCommunicator>(memory_->split(*this, agree_on_split(*this, color, key)));
}

void PeerCommunicator::abort(const std::string& reason) { control_.fail(reason); }

}  // namespace zerostep
