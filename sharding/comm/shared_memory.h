#pragma once
#include <functional>
#include <string>
#include <vector>

#include "sharding/comm/impl.h"
#include "sharding/comm/shared_segment.h"

namespace zerostep {

// How processes that want to share memory talk before they do.
struct Bootstrap {
  int rank = 0, size = 1;
  // Gives every rank's text in rank order.
  std::function<std::vector<std::string>(const std::string&)> exchange;
};

// The communicator of processes of one host. Throws RunError, with the same outcome on every rank, when they cannot share memory.
// on_lost_rank is called when a rank has died or stayed silent.
std::shared_ptr<Communicator::Impl> make_shared_memory_communicator(const Bootstrap& bootstrap, const CommOptions& options,
                                                                    const SegmentPlaces& places, std::function<void()> on_lost_rank);

}  // namespace zerostep
