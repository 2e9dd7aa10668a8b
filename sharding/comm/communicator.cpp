#include "sharding/communicator.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "base/nth.h"
#include "sharding/comm/exchange.h"
#include "sharding/comm/impl.h"

namespace zerostep {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// [begin, begin + bytes) of two operands.
bool overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
  const auto x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
  return x < y + static_cast<uintptr_t>(b_bytes) && y < x + static_cast<uintptr_t>(a_bytes);
}

// Checks the caller's operands before the other ranks are bothered.
void check_operands(const Operation& operation, int rank, int size) {
  if (operation.kind == CollectiveKind::Exchange) return check_transfers(operation, rank, size);
  const Fingerprint what(operation);
  const bool broadcast = operation.kind == CollectiveKind::Broadcast;
  if (broadcast && (operation.root < 0 || operation.root >= size))
    fail_protocol("{}: the root is rank {}, but the group has ranks 0 to {}", what.describe(), operation.root, size - 1);
  if (operation.target_type != DType::F32 && operation.target_type != operation.source_type)
    fail_protocol("{}: sums of {} go to fp32 or {}, not to {}", what.describe(), name_of(operation.source_type),
                  name_of(operation.source_type), name_of(operation.target_type));
  for (const Segment& segment : operation.segments) {
    if (segment.count < 0) fail_protocol("{}: a segment of {} elements", what.describe(), segment.count);
    if (segment.count == 0) continue;
    if (!segment.target || (!broadcast && !segment.source))
      fail_protocol("{}: a null operand for {} elements", what.describe(), segment.count);
    if (broadcast) continue;
    const int64_t part = num_bytes(segment.count, operation.source_type);
    const bool gather = operation.kind == CollectiveKind::AllGather, scatter = operation.kind == CollectiveKind::ReduceScatter;
    const int64_t source_bytes = scatter ? part * size : part;
    const int64_t target_bytes = gather ? part * size : num_bytes(segment.count, operation.target_type);
    if (!overlap(segment.source, source_bytes, segment.target, target_bytes)) continue;
    const char* place = static_cast<const char*>(gather ? segment.target : segment.source) + (gather || scatter ? part * rank : 0);
    if (place != (gather ? segment.source : segment.target) || operation.source_type != operation.target_type)
      fail_protocol("{}: source and target overlap, and not at the rank's own place with the same type", what.describe());
  }
}

Event enqueue(const std::shared_ptr<Communicator::Impl>& impl, Operation operation, Stream& stream) {
  if (impl->moves_data()) check_operands(operation, impl->rank(), impl->size());
  return impl->launch(std::move(operation), stream);
}

Operation operation_of(CollectiveKind kind, DType type, std::span<const Segment> segments, const char* label) {
  return {.kind = kind, .source_type = type, .target_type = type, .segments = {segments.begin(), segments.end()}, .label = label};
}

double combine(double a, double b, ReduceOp op) {
  if (op == ReduceOp::Sum) return a + b;
  return std::isnan(a) || a > b ? a : b;  // a NaN in b stays as well
}

}  // namespace

int Communicator::rank() const { return impl_->rank(); }
int Communicator::size() const { return impl_->size(); }
const char* Communicator::backend() const { return impl_->backend(); }
bool Communicator::shares_process() const { return impl_->shares_process(); }

Event Communicator::all_gather(std::span<const Segment> segments, DType type, Stream& stream, const char* label) {
  return enqueue(impl_, operation_of(CollectiveKind::AllGather, type, segments, label), stream);
}

Event Communicator::reduce_scatter(std::span<const Segment> segments, DType source_type, DType target_type, bool accumulate, Stream& stream,
                                   const char* label) {
  Operation operation = operation_of(CollectiveKind::ReduceScatter, source_type, segments, label);
  operation.target_type = target_type;
  operation.accumulate = accumulate;
  return enqueue(impl_, std::move(operation), stream);
}

Event Communicator::all_reduce(std::span<const Segment> segments, DType type, ReduceOp op, Stream& stream, const char* label) {
  Operation operation = operation_of(CollectiveKind::AllReduce, type, segments, label);
  operation.op = op;
  return enqueue(impl_, std::move(operation), stream);
}

Event Communicator::broadcast(std::span<const Segment> segments, DType type, int root, Stream& stream, const char* label) {
  Operation operation = operation_of(CollectiveKind::Broadcast, type, segments, label);
  operation.root = root;
  return enqueue(impl_, std::move(operation), stream);
}

Event Communicator::exchange(std::span<const Transfer> transfers, DType type, Stream& stream, const char* label) {
  Operation operation = operation_of(CollectiveKind::Exchange, type, {}, label);
  operation.transfers = {transfers.begin(), transfers.end()};
  return enqueue(impl_, std::move(operation), stream);
}

Event Communicator::barrier(Stream& stream, const char* label) {
  return enqueue(impl_, {.kind = CollectiveKind::Barrier, .label = label}, stream);
}

void Communicator::all_reduce_scalars(std::span<double> values, ReduceOp op, const char* label) {
  const auto start = std::chrono::steady_clock::now();
  const auto ranks = static_cast<size_t>(size());
  constexpr size_t kPerHandshake = Impl::kSmallBytes / sizeof(double);
  std::vector<double> all(std::min(values.size(), kPerHandshake) * ranks);
  for (size_t begin = 0; begin < values.size(); begin += kPerHandshake) {
    const std::span<double> part = values.subspan(begin, std::min(kPerHandshake, values.size() - begin));
    impl_->gather_small(
        Fingerprint(CollectiveKind::AllReduce, static_cast<uint8_t>(DType::F64), static_cast<int64_t>(part.size()), op, label), part.data(),
        part.size_bytes(), all.data());
    if (!impl_->moves_data()) continue;
    for (size_t i = 0; i < part.size(); ++i) {
      part[i] = all[i];
      for (size_t rank = 1; rank < ranks; ++rank) part[i] = combine(part[i], all[rank * part.size() + i], op);
    }
  }
  const auto elements = static_cast<int64_t>(values.size() * (ranks - 1));
  impl_->count(&CommCounters::scalars, elements, num_bytes(elements, DType::F64), seconds_since(start));
}

std::vector<std::string> Communicator::all_gather_text(const std::string& text, const char* label) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::string> texts = impl_->gather_text(text, label);
  int64_t bytes = 0;
  for (const std::string& other : texts) bytes += static_cast<int64_t>(other.size());
  bytes -= static_cast<int64_t>(text.size());
  impl_->count(&CommCounters::scalars, bytes, bytes, seconds_since(start));
  return texts;
}

std::shared_ptr<CommBuffer> Communicator::allocate(size_t num_bytes, const char* label, MemoryKind kind) {
  return kind == MemoryKind::Device ? impl_->allocate_on_device(num_bytes, label) : impl_->allocate(num_bytes, label);
}
Communicator Communicator::split(int color, int key) { return Communicator(impl_->split(color, key)); }
Communicator Communicator::split(const std::function<std::pair<int, int>(int)>& color_and_key) {
  return Communicator(impl_->split(color_and_key));
}
void Communicator::abort(const std::string& reason) noexcept { impl_->abort(reason); }
void Communicator::lend_staging(std::span<std::byte> memory) { impl_->lend_staging(memory); }
void Communicator::take_staging_back(std::span<std::byte> memory) { impl_->take_staging_back(memory); }
void Communicator::agree_on_host_memory(bool is_pinned) { impl_->agree_on_host_memory(is_pinned); }

bool Communicator::meets_on_device() const { return impl_->meets_on_device(); }
void Communicator::note_device_waited() { impl_->note_device_waited(); }
void Communicator::wait_for_meetings() { impl_->wait_for_meetings(); }
CommCounters Communicator::counters() const { return impl_->counters(); }

std::vector<std::string> Communicator::Impl::gather_text(const std::string& text, const char* label) {
  const auto ranks = static_cast<size_t>(size_);
  const auto fingerprint = [&](size_t bytes) {
    return Fingerprint(CollectiveKind::AllGather, Fingerprint::kBytes, static_cast<int64_t>(bytes), ReduceOp::Sum, label);
  };
  const uint64_t length = text.size();
  std::vector<uint64_t> lengths(ranks, length);
  gather_small(fingerprint(sizeof(length)), &length, sizeof(length), lengths.data());
  std::vector<std::string> texts(ranks);
  const uint64_t longest = *std::max_element(lengths.begin(), lengths.end());
  for (uint64_t begin = 0; begin < longest; begin += kSmallBytes) {
    const uint64_t part = std::min<uint64_t>(kSmallBytes, longest - begin);
    std::string mine = begin < length ? text.substr(begin, part) : std::string();
    mine.resize(part);
    std::string all(part * ranks, '\0');
    gather_small(fingerprint(part), mine.data(), part, all.data());
    for (size_t rank = 0; rank < ranks; ++rank)
      if (begin < lengths[rank]) texts[rank] += all.substr(rank * part, std::min(part, lengths[rank] - begin));
  }
  return texts;
}

Event HostCommunicator::launch(Operation operation, Stream& stream) {
  return stream.enqueue([self = shared_from_this(), operation = std::move(operation)] {
    const auto start = std::chrono::steady_clock::now();
    self->run(operation);
    self->count(operation, seconds_since(start));
  });
}

namespace {

CommCounters::Entry CommCounters::*entry_of(CollectiveKind kind) {
  constexpr std::array kEntries{&CommCounters::all_gather, &CommCounters::reduce_scatter, &CommCounters::all_reduce,
                                &CommCounters::broadcast,  &CommCounters::exchange,       &CommCounters::barrier};
  return nth(kEntries, static_cast<int>(kind));
}

int64_t received_elements(const Operation& operation, int64_t rank, int64_t ranks) {
  const int64_t total = operation.total_count();
  switch (operation.kind) {
    case CollectiveKind::AllGather:
    case CollectiveKind::ReduceScatter:
      return (ranks - 1) * total;
    case CollectiveKind::AllReduce:
      return (2 * (ranks - 1) * total + ranks - 1) / ranks;
    case CollectiveKind::Broadcast:
      return operation.root == rank ? 0 : total;
    case CollectiveKind::Exchange: {
      int64_t received = 0;
      for (const Transfer& transfer : operation.transfers)
        if (transfer.to == rank && transfer.from != rank) received += transfer.count;
      return received;
    }
    case CollectiveKind::Barrier:
      break;
  }
  return 0;
}

}  // namespace

void Communicator::Impl::count(const Operation& operation, double seconds) {
  const int64_t elements = received_elements(operation, rank_, size_);
  count(entry_of(operation.kind), elements, num_bytes(elements, operation.source_type), seconds);
}

void Communicator::Impl::count_seconds(CollectiveKind kind, double seconds) {
  std::lock_guard lock(counters_mutex_);
  (counters_.*entry_of(kind)).seconds += seconds;
}

void Communicator::Impl::count(CommCounters::Entry CommCounters::*which, int64_t elements, int64_t bytes, double seconds) {
  std::lock_guard lock(counters_mutex_);
  CommCounters::Entry& entry = counters_.*which;
  ++entry.calls;
  entry.elements += elements;
  entry.bytes += bytes;
  entry.seconds += seconds;
}

CommCounters Communicator::Impl::counters() {
  std::lock_guard lock(counters_mutex_);
  return counters_;
}

SplitGroup agree_on_split(Communicator::Impl& parent, int color, int key) {
  const int64_t mine[2] = {color, key};
  std::vector<std::array<int64_t, 2>> all(static_cast<size_t>(parent.size()));
  parent.gather_small(Fingerprint(CollectiveKind::AllGather, Fingerprint::kBytes, sizeof(mine), ReduceOp::Sum, "split"), mine, sizeof(mine),
                      all.data());
  SplitGroup group;
  for (int rank = 0; rank < parent.size(); ++rank)
    if (nth(all, rank)[0] == color) group.members.push_back(rank);
  std::stable_sort(group.members.begin(), group.members.end(), [&](int a, int b) { return nth(all, a)[1] < nth(all, b)[1]; });
  group.rank = static_cast<int>(std::find(group.members.begin(), group.members.end(), parent.rank()) - group.members.begin());
  return group;
}

}  // namespace zerostep
