#pragma once
// The C++ bindings of old are not wanted.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <atomic>
#include <mutex>
#include <string>

#include "sharding/mpi_session.h"

namespace zerostep {

// What the session and the communicators of a process share. MPI is called by one thread at a time: under `mutex`, for one call at a time.
class MpiSession::State {
 public:
  bool started = false;  // false: this process is alone, and MPI is not used
  int rank = 0, size = 1, local_rank = 0, local_size = 1, first_of_host = 0, cores = 1;
  double core_share = 1;
  MPI_Comm comm = MPI_COMM_NULL;  // all ranks; MPI_ERRORS_RETURN
  std::mutex mutex;
  std::atomic<bool> lost_a_rank = false;  // MPI_Finalize would wait for it
  int next_group = 0;                     // number of the next first group
};

// Throws RunError with MPI's own words when the code is not MPI_SUCCESS.
void check_mpi(int code, const std::string& what);

}  // namespace zerostep
