#include "sharding/mpi_session.h"

#include <cstdlib>
#include <initializer_list>
#include <vector>

#include "sharding/comm/core_share.h"
#include "sharding/comm/mpi_state.h"

namespace zerostep {
namespace {

bool any_set(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (std::getenv(name)) return true;
  return false;
}

// True when a launcher has started this process as one of several MPI ranks (or as a job of one).
bool launched() {
  if (any_set({"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_FD", "HYDRA_CONTROL_FD"})) return true;
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  if (tasks && std::atoi(tasks) > 1)
    fail_input(
        "srun has started {} tasks without MPI's start-up protocol, so each would run alone. Start them with `srun --mpi=pmix` (`srun "
        "--mpi=list` shows what there is) or with mpirun.",
        tasks);
  return false;
}

}  // namespace

void check_mpi(int code, const std::string& what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail_run("{}: MPI says {}", what, text);
}

MpiSession::MpiSession(int* argc, char*** argv) : state_(std::make_shared<State>()) {
  const cpu_set_t mine = allowed_cores();
  state_->cores = share_of_cores({mine}, 0);
  state_->core_share = state_->cores;
  if (!launched()) return;  // MPI_Init alone would start a daemon and take a third of a second
  // Without it a waiting rank holds its core, also between ranks that have one each: measured 8 ms a barrier.
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided), "starting MPI");
  if (provided < MPI_THREAD_SERIALIZED)
    fail_run("this MPI library lets only one thread call it (it offers thread level {}, MPI_THREAD_SERIALIZED is {})", provided,
             static_cast<int>(MPI_THREAD_SERIALIZED));
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &state_->comm), "starting MPI");
  MPI_Comm_set_errhandler(state_->comm, MPI_ERRORS_RETURN);
  MPI_Comm_rank(state_->comm, &state_->rank);
  MPI_Comm_size(state_->comm, &state_->size);
  MPI_Comm host;
  check_mpi(MPI_Comm_split_type(state_->comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host), "finding the ranks of this host");
  MPI_Comm_rank(host, &state_->local_rank);
  MPI_Comm_size(host, &state_->local_size);
  state_->first_of_host = state_->rank;
  check_mpi(MPI_Bcast(&state_->first_of_host, 1, MPI_INT, 0, host), "finding the ranks of this host");
  std::vector<cpu_set_t> allowed(static_cast<size_t>(state_->local_size));
  check_mpi(MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, allowed.data(), sizeof(mine), MPI_BYTE, host), "finding the cores of this host");
  state_->cores = share_of_cores(allowed, state_->local_rank);
  state_->core_share = zerostep::core_share(allowed, state_->local_rank);
  MPI_Comm_free(&host);
  state_->started = true;
}

MpiSession::~MpiSession() {
  if (!state_->started) return;
  state_->started = false;  // a communicator that lives longer leaves MPI alone
  if (state_->lost_a_rank) return;
  MPI_Comm_free(&state_->comm);
  MPI_Finalize();
}

int MpiSession::rank() const { return state_->rank; }
int MpiSession::size() const { return state_->size; }
int MpiSession::local_rank() const { return state_->local_rank; }
int MpiSession::local_size() const { return state_->local_size; }
int MpiSession::first_of_host() const { return state_->first_of_host; }
int MpiSession::cores() const { return state_->cores; }
double MpiSession::core_share() const { return state_->core_share; }

}  // namespace zerostep
