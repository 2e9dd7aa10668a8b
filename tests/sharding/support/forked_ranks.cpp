#include "tests/sharding/support/forked_ranks.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <iostream>
#include <string>

namespace zerostep::test {

std::shared_ptr<Meeting> Meeting::create() {
  void* const memory = mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return {static_cast<Meeting*>(memory), [](Meeting* meeting) { munmap(meeting, sizeof(Meeting)); }};
}

Bootstrap Meeting::bootstrap(int rank, int size) {
  return {rank, size, [this, rank, size, round = 0](const std::string& text) mutable {
            std::strncpy(texts[round][rank], text.c_str(), sizeof(texts[round][rank]) - 1);
            ++arrived[round];
            while (arrived[round] < size) sched_yield();
            std::vector<std::string> all;
            for (int i = 0; i < size; ++i) all.emplace_back(texts[round][i]);
            ++round;
            return all;
          }};
}

std::vector<int> run_processes(int size, const CommOptions& options, const SegmentPlaces& places, const RankBody& body) {
  const auto meeting = Meeting::create();
  std::cout.flush();
  std::vector<pid_t> pids;
  for (int rank = 0; rank < size; ++rank) {
    const pid_t pid = fork();
    if (pid == 0) {
      try {
        body(Communicator(make_shared_memory_communicator(meeting->bootstrap(rank, size), options, places, nullptr)));
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << rank << ": " << error.what();
      }
      std::cout.flush();
      _exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    pids.push_back(pid);
  }
  std::vector<int> statuses(pids.size());
  for (size_t i = 0; i < pids.size(); ++i) waitpid(pids[i], &statuses[i], 0);
  return statuses;
}

}  // namespace zerostep::test
