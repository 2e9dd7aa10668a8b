#pragma once
#include <span>
#include <vector>

#include "sharding/comm/operation.h"

namespace zerostep {

// Whether elements of the transfer go from one rank to another.
inline bool leaves_its_rank(const Transfer& transfer) { return transfer.from != transfer.to && transfer.count > 0; }

// The transfers in as few batches as there can be when no rank gives other ranks more than `most` in one: the same on every rank, and
// what one rank gives stays in order.
std::vector<std::vector<Transfer>> batches_of(std::span<const Transfer> transfers, int num_ranks, int most);

// Throws ProtocolError for a transfer that cannot be right, or that is not as Communicator::exchange wants it, as seen from `rank`.
void check_transfers(const Operation& operation, int rank, int num_ranks);

}  // namespace zerostep
