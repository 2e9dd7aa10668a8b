#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "sharding/comm/mpi_plain.h"
#include "sharding/comm/peer_memory.h"
#include "sharding/comm/shared_memory.h"
#include "sharding/mpi_session.h"

namespace zerostep {

CommunicationWish communication_wish() {
  const char* wish = std::getenv("ZEROSTEP_COMM");
  const std::string text = wish == nullptr || *wish == '\0' ? "auto" : wish;
  if (text == "auto") return CommunicationWish::Auto;
  if (text == "mpi") return CommunicationWish::Messages;
  if (text == "staged") return CommunicationWish::Staged;
  if (text == "nccl") return CommunicationWish::Nccl;
  fail_input(
      "the environment variable ZEROSTEP_COMM is '{}': expected 'auto', 'mpi' (MPI calls even between ranks of one host), 'staged' "
      "(between GPUs by way of the host, without NCCL) or 'nccl' (NCCL even where ranks share a GPU)",
      wish);
}

Communicator make_mpi_communicator(const MpiSession& session, const CommOptions& options, MpiPath path) {
  const bool plain = communication_wish() == CommunicationWish::Messages || path == MpiPath::Plain;
  const auto& state = session.state();
  if (state->size == 1) return Communicator(make_lone_communicator(options));
  if (plain || state->local_size < state->size) return Communicator(make_plain_mpi_communicator(session, options));
  std::shared_ptr<Communicator::Impl> messages =
      make_plain_mpi_communicator(session, {.timeout_seconds = std::max(options.timeout_seconds, 60.0)});
  const Bootstrap bootstrap{state->rank, state->size,
                            [&](const std::string& text) { return messages->gather_text(text, "shared memory"); }};
  try {
    return Communicator(
        make_shared_memory_communicator(bootstrap, options, SegmentPlaces::from_environment(), [state] { state->lost_a_rank = true; }));
  } catch (const PeerError&) {
    throw;
  } catch (const RunError& error) {
    if (state->rank == 0)
      spdlog::warn("the ranks of this host cannot share memory and send messages instead, several times slower: {}", error.what());
  }
  return Communicator(make_plain_mpi_communicator(session, options));
}

}  // namespace zerostep
