#include "sharding/comm/operation.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "base/format.h"
#include "base/nth.h"

namespace zerostep {

const char* name_of(CollectiveKind kind) {
  constexpr std::array kNames{"all-gather", "reduce-scatter", "all-reduce", "broadcast", "exchange", "barrier"};
  return nth(kNames, static_cast<int>(kind));
}

int64_t Operation::total_count() const {
  int64_t total = 0;
  for (const Segment& segment : segments) total += segment.count;
  for (const Transfer& transfer : transfers) total += transfer.count;
  return total;
}

SummedPart summed_part(int64_t count, int rank, int size) {
  const int64_t each = round_up((count + size - 1) / size, 16), begin = std::min(count, each * rank);
  return {begin, std::min(count, begin + each) - begin};
}

Fingerprint::Fingerprint(const Operation& operation)
    : Fingerprint(operation.kind, static_cast<uint8_t>(operation.source_type), operation.total_count(), operation.op, operation.label) {
  num_segments = static_cast<int32_t>(operation.segments.size() + operation.transfers.size());
  root = operation.root;
  target_type = static_cast<uint8_t>(operation.target_type);
  accumulate = operation.accumulate;
  for (const Segment& segment : operation.segments) counts_hash = XXH3_64bits_withSeed(&segment.count, sizeof(segment.count), counts_hash);
  for (const Transfer& transfer : operation.transfers) {
    const int64_t same_everywhere[] = {transfer.from, transfer.to, transfer.count};
    counts_hash = XXH3_64bits_withSeed(same_everywhere, sizeof(same_everywhere), counts_hash);
  }
}

Fingerprint::Fingerprint(CollectiveKind kind, uint8_t type, int64_t total, ReduceOp op, const char* label) : total(total) {
  const size_t length = std::strlen(label);
  label_hash = XXH3_64bits(label, length);
  this->kind = static_cast<uint8_t>(kind);
  source_type = target_type = type;
  this->op = static_cast<uint8_t>(op);
  std::memcpy(this->label, label, std::min(length, sizeof(this->label) - 1));
}

bool operator==(const Fingerprint& a, const Fingerprint& b) { return std::memcmp(&a, &b, sizeof(Fingerprint)) == 0; }

namespace {
const char* type_name(uint8_t type) { return type == Fingerprint::kBytes ? "bytes" : name_of(static_cast<DType>(type)); }
}  // namespace

std::string Fingerprint::describe() const {
  const auto what = static_cast<CollectiveKind>(kind);
  if (what == CollectiveKind::Barrier) return fmt::format("barrier '{}'", label);
  if (source_type == kBytes) return fmt::format("{} of '{}' ({} bytes)", name_of(what), label, grouped(total));
  return fmt::format("{} of '{}' ({} elements of {})", name_of(what), label, grouped(total), type_name(source_type));
}

std::string Fingerprint::describe_fully() const {
  std::string text = describe();
  const bool exchange = kind == static_cast<uint8_t>(CollectiveKind::Exchange);
  if (num_segments > 1) text += fmt::format(" in {} {}", num_segments, exchange ? "transfers" : "segments");
  if (target_type != source_type) text += fmt::format(" into {}", type_name(target_type));
  if (op != static_cast<uint8_t>(ReduceOp::Sum)) text += " taking the maximum";
  if (accumulate) text += " added to the target";
  if (root != 0) text += fmt::format(" from rank {}", root);
  return text;
}

void fail_mismatch(int rank_a, const Fingerprint& a, int rank_b, const Fingerprint& b, int64_t operation_number) {
  std::string detail, way_of_a, way_of_b;
  if (a.between_gpus != b.between_gpus) {
    way_of_a = a.between_gpus ? " from GPU to GPU" : " by way of the host";
    way_of_b = b.between_gpus ? " from GPU to GPU" : " by way of the host";
  } else if (a.describe_fully() == b.describe_fully()) {
    detail = a.counts_hash == b.counts_hash                             ? " with a label that differs further on"
             : a.kind == static_cast<uint8_t>(CollectiveKind::Exchange) ? " with transfers of other sizes or between other ranks"
                                                                        : " with segments of other sizes";
  }
  fail_run(
      "the ranks have diverged: at operation {} of their group rank {} runs {}{}, but rank {} runs {}{}{}. Every rank must run the same "
      "collectives in the same order: check that all ranks were started with the same program, configuration and data.",
      operation_number, rank_a, a.describe_fully(), way_of_a, rank_b, b.describe_fully(), way_of_b, detail);
}

}  // namespace zerostep
