#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "sharding/comm/mpi_state.h"
#include "sharding/comm/operation.h"
#include "sharding/comm/peer_process.h"
#include "sharding/mpi_session.h"

namespace zerostep {

// What all groups that come from one first communicator share in a process: MPI itself, the tags, the news of a failure.
class MpiJob {
 public:
  MpiJob(std::shared_ptr<MpiSession::State> session, int number, double timeout_seconds);
  ~MpiJob();

  // Tags of a group of this job; groups with a member in common have different numbers.
  struct Tags {
    int header, data;
  };
  Tags tags(int group) const { return {tag(group, 0), tag(group, 1)}; }
  int next_group() const { return next_group_; }
  void set_next_group(int number) { next_group_ = number; }

  // Tells every rank of the job once; later failures of it are echoes.
  void announce_failure(const std::string& reason) noexcept;
  // Throws when a rank of the job has failed.
  void check(const Fingerprint& what);

  // Likewise, and when one of `ranks`, for which `me` waits, has died, which ends the job. Ranks of the session. Never blocks.
  void check_peers(const Fingerprint& what, const std::vector<int>& ranks, int me);
  // Ends the job with a reason that this rank has found.
  [[noreturn]] void lose(const std::string& why);

  // Buffers of messages that could not be called back.
  void keep_forever(std::vector<std::shared_ptr<void>> buffers);

  // "rank 1", or "rank 1 on h2" where the ranks are of several hosts.
  std::string name_of(int rank) const;

  std::shared_ptr<MpiSession::State> session;
  std::atomic<double> timeout_seconds;
  std::vector<PeerProcess> processes;  // by rank of the session; empty until introduced

 private:
  struct News {
    int32_t rank;
    char text[508];
  };
  int tag(int group, int use) const;

  const int number_;
  int next_group_ = 1;
  std::mutex mutex_;
  bool failed_ = false;
  News news_ = {};
  std::vector<MPI_Request> announcements_;
  std::vector<std::shared_ptr<void>> kept_;
};

// The messages of one step of an operation. All of them end before the object does, or its buffers (`keep`) outlive it.
class MpiMessages {
 public:
  MpiMessages(MpiJob& job, const std::vector<int>& members, int my_rank, int64_t max_message_bytes)
      : job_(job), members_(members), my_rank_(my_rank), max_bytes_(max_message_bytes) {}
  ~MpiMessages();
  MpiMessages(const MpiMessages&) = delete;
  MpiMessages& operator=(const MpiMessages&) = delete;

  // `peer` is a rank of the group. Large messages go in pieces.
  void send(int peer, int tag, const void* data, int64_t num_bytes);
  void receive(int peer, int tag, void* data, int64_t num_bytes);
  // Waits for all of them; looks around for dead and failed ranks meanwhile.
  void wait(const Fingerprint& what);
  void keep(std::shared_ptr<void> buffer) { kept_.push_back(std::move(buffer)); }

 private:
  bool test();
  void check_peers(const Fingerprint& what, double waited_seconds);

  MpiJob& job_;
  const std::vector<int>& members_;
  const int my_rank_;
  const int64_t max_bytes_;
  std::vector<MPI_Request> requests_;
  std::vector<int> peers_;  // of each request
  size_t pending_ = 0;
  std::vector<std::shared_ptr<void>> kept_;
};

}  // namespace zerostep
