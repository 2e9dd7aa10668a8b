#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "sharding/comm/mpi_plain.h"
#include "sharding/comm/peer_memory.h"
#include "sharding/comm/shared_memory.h"
#include "sharding/mpi_session.h"

namespace zerostep {
namespace {

bool plain_is_wanted(MpiPath path) {
  const char* wish = std::getenv("ZEROSTEP_COMM");
  if (wish && *wish && std::strcmp(wish, "mpi") != 0 && std::strcmp(wish, "auto") != 0)
    fail_input("ZEROSTEP_COMM is '{}'; it may be 'mpi' (messages even between ranks of one host) or 'auto'", wish);
  return path == MpiPath::Plain || (wish && std::strcmp(wish, "mpi") == 0);
}

}  // namespace

Communicator make_mpi_communicator(const MpiSession& session, const CommOptions& options, MpiPath path) {
  const bool plain = plain_is_wanted(path);
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
