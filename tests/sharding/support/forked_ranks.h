#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "sharding/comm/shared_memory.h"
#include "sharding/communicator.h"

// Ranks that are processes, without MPI.
namespace zerostep::test {

// Lets forked processes exchange texts before they share anything else.
struct Meeting {
  static constexpr int kMost = 8, kRounds = 64;
  std::atomic<int> arrived[kRounds];
  char texts[kRounds][kMost][512];

  // In memory that processes which are forked afterwards share.
  static std::shared_ptr<Meeting> create();
  Bootstrap bootstrap(int rank, int size);
};

using RankBody = std::function<void(Communicator world)>;

// Forks `size` ranks; gives their exit statuses as waitpid does. A rank exits with 1 when an expectation in it has failed.
std::vector<int> run_processes(int size, const CommOptions& options, const SegmentPlaces& places, const RankBody& body);

}  // namespace zerostep::test
