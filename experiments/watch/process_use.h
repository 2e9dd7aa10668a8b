#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace zerostep {

// The processes of the job that owns a run's folder, where it runs on this host: the owner, as FolderLock::owner() names it, and of a job
// under Open MPI every rank here. None where the owner is elsewhere or gone.
std::vector<int> processes_of(const std::string& owner);

// What processes take of this host.
struct ProcessUse {
  int processes = 0;  // that are still there
  double cpu_seconds = 0;
  int64_t resident_bytes = 0;  // of all of them: pages that they share count once for each
};
ProcessUse use_of(const std::vector<int>& processes);

}  // namespace zerostep
