#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "sharding/communicator.h"

namespace zerostep {

// One collective as the backends see it.
struct Operation {
  CollectiveKind kind = CollectiveKind::Barrier;
  DType source_type = DType::F32, target_type = DType::F32;
  ReduceOp op = ReduceOp::Sum;
  bool accumulate = false;
  int root = 0;
  std::vector<Segment> segments = {};
  std::vector<Transfer> transfers = {};  // of an exchange, which has no segments
  const char* label = "";

  int64_t total_count() const;
};

// A place so many bytes behind another, as operands are given.
inline std::byte* behind(const void* data, int64_t bytes) { return static_cast<std::byte*>(const_cast<void*>(data)) + bytes; }

// The elements of an all-reduce of `count` that a rank sums: whole cache lines but for the end.
struct SummedPart {
  int64_t begin, count;
};
SummedPart summed_part(int64_t count, int rank, int size);

// What must be the same on every rank of a group when an operation runs. Plain data: it lies in shared memory and travels in messages.
struct Fingerprint {
  static constexpr uint8_t kBytes = 255;  // source_type of a handshake that carries bytes

  uint64_t counts_hash = 0, label_hash = 0;
  int64_t total = 0;
  int32_t num_segments = 0, root = 0;  // num_segments: of an exchange, its transfers
  uint8_t kind = 0, source_type = 0, target_type = 0, op = 0, accumulate = 0;
  uint8_t between_gpus = 0;  // values go from GPU to GPU, not by way of the host
  char label[90] = {};       // cut to fit; the hash covers all of it

  explicit Fingerprint() = default;
  explicit Fingerprint(const Operation& operation);
  // A handshake that carries scalars or texts, outside the six operations.
  Fingerprint(CollectiveKind kind, uint8_t type, int64_t total, ReduceOp op, const char* label);

  // "all-gather of 'h.3' (1,234 elements of bf16)"
  std::string describe() const;
  // With everything that two ranks may disagree about.
  std::string describe_fully() const;
};
static_assert(sizeof(Fingerprint) == 128);
bool operator==(const Fingerprint& a, const Fingerprint& b);

[[noreturn]] void fail_mismatch(int rank_a, const Fingerprint& a, int rank_b, const Fingerprint& b, int64_t operation_number);
// Throws RunError, with the same text on every rank, when two ranks are not in the same operation. at(rank) gives a rank's fingerprint.
template <typename At>
void check_fingerprints(int num_ranks, int64_t operation_number, const At& at) {
  for (int rank = 1; rank < num_ranks; ++rank)
    if (!(at(rank) == at(0))) fail_mismatch(0, at(0), rank, at(rank), operation_number);
}

}  // namespace zerostep
