#pragma once
#include "sharding/comm/impl.h"
#include "sharding/comm/mpi_state.h"
#include "sharding/mpi_session.h"

namespace zerostep {

struct PlainMpiOptions {
  int64_t max_message_bytes = int64_t{1} << 29;  // longer ones go in parts: MPI's counts are ints; at least 8 KiB
  int64_t reduce_bytes = int64_t{32} << 20;      // what a reduce-scatter holds of the other ranks' values at once
};

// Collectives over messages between pairs of ranks, for ranks that share no memory: direct exchanges, non-blocking and polled, so that
// every wait is bounded and sums are made here, in rank order. Collective over the session's ranks.
std::shared_ptr<Communicator::Impl> make_plain_mpi_communicator(const MpiSession& session, const CommOptions& options,
                                                                const PlainMpiOptions& plain = {});

}  // namespace zerostep
