#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include "base/nth.h"
#include "sharding/comm/exchange.h"
#include "sharding/comm/peer_memory.h"
#include "sharding/comm/reduce_kernels.h"

namespace zerostep {
namespace {

constexpr auto kBounceBytes = static_cast<int64_t>(GroupControl::kBounceBytes);

int64_t bytes_of(const Transfer& transfer, DType type) { return num_bytes(transfer.count, type); }

// The part of [place, place + num_bytes) that lies in the window of one bounce area.
struct Part {
  int64_t begin, num_bytes;  // begin: from `place`
};
Part part_in_window(int64_t place, int64_t num_bytes, int64_t window) {
  const int64_t begin = std::max<int64_t>(window - place, 0), end = std::min(window + kBounceBytes - place, num_bytes);
  return {begin, std::max<int64_t>(end - begin, 0)};
}

// What a rank gives that peers cannot read: its operands one after the other, as they pass through its bounce areas. An operand that
// goes to many passes once.
class Passage {
 public:
  int64_t place_of(const void* source, int64_t num_bytes) {
    const auto [operand, is_new] = places_.try_emplace({source, num_bytes}, end_);
    if (is_new) end_ += round_up(num_bytes, kAlignmentBytes);
    return operand->second;
  }
  void write(std::byte* bounce, int64_t window) const {
    for (const auto& [operand, place] : places_) {
      const Part part = part_in_window(place, operand.second, window);
      if (part.num_bytes > 0)
        std::memcpy(bounce + (place + part.begin - window), static_cast<const std::byte*>(operand.first) + part.begin,
                    static_cast<size_t>(part.num_bytes));
    }
  }

 private:
  std::map<std::pair<const void*, int64_t>, int64_t> places_;  // of (source, bytes)
  int64_t end_ = 0;
};

void copy_kept(const Transfer& transfer, int rank, DType type, bool past_cache) {
  if (transfer.to != rank || transfer.from != rank || transfer.count == 0 || transfer.source == transfer.target) return;
  copy_bytes(transfer.target, transfer.source, static_cast<size_t>(bytes_of(transfer, type)), past_cache);
}

}  // namespace

void PeerCommunicator::run_exchange(const Operation& operation, const Fingerprint& fingerprint) {
  std::vector<int64_t> given(static_cast<size_t>(size()));  // bytes, by rank
  int64_t received = 0;
  for (const Transfer& transfer : operation.transfers) {
    const int64_t bytes = bytes_of(transfer, operation.source_type);
    if (leaves_its_rank(transfer)) nth(given, transfer.from) += bytes;
    if (transfer.to == rank()) received += bytes;
  }
  if (*std::max_element(given.begin(), given.end()) <= static_cast<int64_t>(kSmallBytes)) return exchange_small(operation, fingerprint);

  const bool past_cache = static_cast<size_t>(received) > past_cache_bytes_;
  bool memory_was_read = false;
  for (const std::vector<Transfer>& batch : batches_of(operation.transfers, size(), GroupControl::kMaxOperands))
    if (exchange_batch(operation, fingerprint, batch, past_cache)) memory_was_read = true;
  if (memory_was_read) control_.barrier(fingerprint);
}

// One handshake: the elements travel in the control blocks.
void PeerCommunicator::exchange_small(const Operation& operation, const Fingerprint& fingerprint) {
  int64_t at = 0;
  for (const Transfer& transfer : operation.transfers) {
    if (transfer.from != rank() || !leaves_its_rank(transfer)) continue;
    const int64_t bytes = bytes_of(transfer, operation.source_type);
    std::memcpy(my_slot().payload + at, transfer.source, static_cast<size_t>(bytes));
    at += bytes;
  }
  meet(fingerprint);
  std::vector<int64_t> read_at(static_cast<size_t>(size()));
  for (const Transfer& transfer : operation.transfers) {
    copy_kept(transfer, rank(), operation.source_type, false);
    if (!leaves_its_rank(transfer)) continue;
    const int64_t bytes = bytes_of(transfer, operation.source_type);
    int64_t& from = nth(read_at, transfer.from);
    if (transfer.to == rank())
      std::memcpy(transfer.target, control_.slot(transfer.from, operations_).payload + from, static_cast<size_t>(bytes));
    from += bytes;
  }
  ++operations_;
}

bool PeerCommunicator::exchange_batch(const Operation& operation, const Fingerprint& fingerprint, std::span<const Transfer> batch,
                                      bool past_cache) {
  const DType type = operation.source_type;
  Passage passage;
  int published = 0;
  for (const Transfer& transfer : batch) {
    if (transfer.from != rank() || !leaves_its_rank(transfer)) continue;
    const int64_t bytes = bytes_of(transfer, type);
    Operand operand = memory_->publish(transfer.source, static_cast<size_t>(bytes));
    if (operand.buffer == Operand::kStaged) operand.offset = static_cast<uint64_t>(passage.place_of(transfer.source, bytes));
    my_slot().source[published++] = operand;
  }
  meet(fingerprint);

  struct Arrival {
    const Transfer* transfer;
    int64_t place;  // in the passage of the rank that gives it
  };
  std::vector<Arrival> arrivals;
  std::vector<int> seen(static_cast<size_t>(size()));
  int64_t longest_passage = 0;
  bool memory_was_read = false;
  std::optional<GroupControl::Reading> reading(std::in_place, control_, fingerprint);
  for (const Transfer& transfer : batch) {
    copy_kept(transfer, rank(), type, past_cache);
    if (!leaves_its_rank(transfer)) continue;
    const int64_t bytes = bytes_of(transfer, type);
    const Operand& operand = control_.slot(transfer.from, operations_).source[nth(seen, transfer.from)++];
    if (operand.buffer == Operand::kStaged) {
      const auto place = static_cast<int64_t>(operand.offset);
      longest_passage = std::max(longest_passage, place + bytes);
      if (transfer.to == rank()) arrivals.push_back({&transfer, place});
    } else {
      memory_was_read = true;
      if (transfer.to == rank())
        copy_bytes(transfer.target, memory_->resolve(transfer.from, operand), static_cast<size_t>(bytes), past_cache);
    }
  }
  reading.reset();
  // Window by window, all ranks at once. Of the two areas of a rank, the one being written was read before the last barrier.
  for (int64_t window = 0; window < longest_passage; window += kBounceBytes, ++windows_) {
    passage.write(control_.bounce(rank(), windows_), window);
    control_.barrier(fingerprint);
    for (const auto& [transfer, place] : arrivals) {
      const Part part = part_in_window(place, bytes_of(*transfer, type), window);
      if (part.num_bytes > 0)
        std::memcpy(static_cast<std::byte*>(transfer->target) + part.begin,
                    control_.bounce(transfer->from, windows_) + (place + part.begin - window), static_cast<size_t>(part.num_bytes));
    }
  }
  ++operations_;
  return memory_was_read;
}

}  // namespace zerostep
