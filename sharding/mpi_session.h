#pragma once
#include <cstdint>
#include <memory>

#include "sharding/communicator.h"

namespace zerostep {

// MPI for the lifetime of the object (MPI_THREAD_SERIALIZED), at most one in a process. Without mpirun or srun: one rank, and MPI is not
// started. Where an operation has failed the destructor leaves MPI as it is, since MPI_Finalize would wait for the lost rank: the program
// should then end with a status other than 0, so that mpirun ends the job.
class MpiSession {
 public:
  MpiSession(int* argc, char*** argv);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  int rank() const;
  int size() const;
  int local_rank() const;  // among the ranks of this host
  int local_size() const;
  int first_of_host() const;  // the lowest rank of this host
  // Cores of this host that fall to this rank (sharding/comm/core_share.h): whole ones, at least 1, and exactly.
  int cores() const;
  double core_share() const;

  class State;
  const std::shared_ptr<State>& state() const { return state_; }

 private:
  std::shared_ptr<State> state_;
};
// What the environment asks for (ZEROSTEP_COMM): MPI calls even between ranks of one host ("mpi"), or that collectives of GPUs pass through
// the host ("staged"), or go through NCCL even where ranks share a GPU ("nccl"). InputError for a value that is not known.
enum class CommunicationWish : uint8_t { Auto, Messages, Staged, Nccl };
CommunicationWish communication_wish();
enum class MpiPath : uint8_t { Auto, Plain };  // Plain: MPI calls in any case
Communicator make_mpi_communicator(const MpiSession& session, const CommOptions& options, MpiPath path = MpiPath::Auto);

}  // namespace zerostep
