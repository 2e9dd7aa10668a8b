#include "sharding/comm/exchange.h"

#include <algorithm>

#include "base/error.h"
#include "base/format.h"
#include "base/nth.h"

namespace zerostep {
namespace {

struct Place {
  uintptr_t begin, end;
  const Transfer* transfer;
};

Place place_of(const void* data, const Transfer& transfer, DType type) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  return {begin, begin + static_cast<uintptr_t>(num_bytes(transfer.count, type)), &transfer};
}

std::string describe(const Transfer& transfer) {
  return fmt::format("{} elements from rank {} to rank {}", grouped(transfer.count), transfer.from, transfer.to);
}

bool stays_in_place(const Transfer& transfer) { return transfer.from == transfer.to && transfer.source == transfer.target; }

// What this rank reads and writes must lie apart, but for sources among themselves.
void check_overlaps(const Operation& operation, const Fingerprint& what, int rank) {
  std::vector<Place> targets;
  for (const Transfer& transfer : operation.transfers)
    if (transfer.to == rank && transfer.count > 0 && !stays_in_place(transfer))
      targets.push_back(place_of(transfer.target, transfer, operation.source_type));
  std::sort(targets.begin(), targets.end(), [](const Place& a, const Place& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < targets.size(); ++i)
    if (targets[i].begin < targets[i - 1].end)
      fail_protocol("{}: the targets of {} and of {} overlap on rank {}; each needs a place of its own", what.describe(),
                    describe(*targets[i - 1].transfer), describe(*targets[i].transfer), rank);
  for (const Transfer& transfer : operation.transfers) {
    if (transfer.from != rank || transfer.count == 0) continue;
    const Place source = place_of(transfer.source, transfer, operation.source_type);
    const auto after =
        std::partition_point(targets.begin(), targets.end(), [&](const Place& target) { return target.end <= source.begin; });
    if (after != targets.end() && after->begin < source.end)
      fail_protocol("{}: the source of {} and the target of {} overlap on rank {}; an exchange may not write what it reads",
                    what.describe(), describe(transfer), describe(*after->transfer), rank);
  }
}

}  // namespace

std::vector<std::vector<Transfer>> batches_of(std::span<const Transfer> transfers, int num_ranks, int most) {
  std::vector<int> given(static_cast<size_t>(num_ranks));
  std::vector<std::vector<Transfer>> batches;
  for (const Transfer& transfer : transfers) {
    const int before = leaves_its_rank(transfer) ? nth(given, transfer.from)++ : 0;
    const auto batch = static_cast<size_t>(before / most);
    if (batch >= batches.size()) batches.resize(batch + 1);
    batches[batch].push_back(transfer);
  }
  return batches;
}

void check_transfers(const Operation& operation, int rank, int num_ranks) {
  const Fingerprint what(operation);
  const auto is_member = [&](int other) { return other >= 0 && other < num_ranks; };
  for (const Transfer& transfer : operation.transfers) {
    if (!is_member(transfer.from) || !is_member(transfer.to))
      fail_protocol("{}: {}, but the group has ranks 0 to {}", what.describe(), describe(transfer), num_ranks - 1);
    if (transfer.count < 0) fail_protocol("{}: a count below zero ({})", what.describe(), describe(transfer));
    if (transfer.count == 0) continue;
    if ((transfer.from == rank && !transfer.source) || (transfer.to == rank && !transfer.target))
      fail_protocol("{}: a null operand on rank {} for {}", what.describe(), rank, describe(transfer));
  }
  check_overlaps(operation, what, rank);
}

}  // namespace zerostep
