#include "sharding/comm/mpi_messages.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "base/nth.h"

namespace zerostep {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kGroupsOfAJob = 1024;
constexpr auto kYieldFor = std::chrono::milliseconds(1);
constexpr auto kSleep = std::chrono::microseconds(50);  // between two tests later on: MPI moves data only while it is called
constexpr auto kSlice = std::chrono::milliseconds(20);  // between two looks around
constexpr auto kLastWords = std::chrono::milliseconds(200);

}  // namespace

MpiJob::MpiJob(std::shared_ptr<MpiSession::State> session, int number, double timeout_seconds)
    : session(std::move(session)), timeout_seconds(timeout_seconds), number_(number) {
  std::lock_guard lock(this->session->mutex);
  int* largest = nullptr;
  int found = 0;
  MPI_Comm_get_attr(this->session->comm, MPI_TAG_UB, &largest, &found);
  if (found && tag(kGroupsOfAJob, 0) > *largest)
    fail_run("communicator {} of this program needs message tags above {}, the largest that this MPI library has", number_, *largest);
}

MpiJob::~MpiJob() {
  if (announcements_.empty() || !session->started) return;
  // A rank that has not read the news yet may not do so any more; the messages are small and have left this process.
  std::lock_guard lock(session->mutex);
  for (MPI_Request& request : announcements_)
    if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
}

int MpiJob::tag(int group, int use) const {
  if (group > kGroupsOfAJob) fail_run("more than {} groups were split from one communicator", kGroupsOfAJob);
  return (number_ * (kGroupsOfAJob + 1) + group) * 2 + use;
}

void MpiJob::announce_failure(const std::string& reason) noexcept {
  std::lock_guard news_lock(mutex_);
  if (failed_ || !session->started) return;
  failed_ = true;
  news_.rank = session->rank;
  std::strncpy(news_.text, reason.c_str(), sizeof(news_.text) - 1);
  std::lock_guard lock(session->mutex);
  for (int peer = 0; peer < session->size; ++peer) {
    if (peer == session->rank) continue;
    announcements_.push_back(MPI_REQUEST_NULL);
    MPI_Isend(&news_, sizeof(news_), MPI_BYTE, peer, tag(0, 0), session->comm, &announcements_.back());
  }
  int done = 0;
  MPI_Testall(static_cast<int>(announcements_.size()), announcements_.data(), &done, MPI_STATUSES_IGNORE);
}

void MpiJob::check(const Fingerprint& what) {
  std::lock_guard news_lock(mutex_);
  if (!failed_) {
    std::lock_guard lock(session->mutex);
    int arrived = 0;
    MPI_Status status;
    check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag(0, 0), session->comm, &arrived, &status), what.describe());
    if (arrived) {
      check_mpi(MPI_Recv(&news_, sizeof(news_), MPI_BYTE, status.MPI_SOURCE, tag(0, 0), session->comm, MPI_STATUS_IGNORE), what.describe());
      failed_ = true;
    }
  }
  if (!failed_) return;
  if (news_.rank == session->rank) fail_run("{} cannot run any more: {}", what.describe(), news_.text);
  throw PeerError(fmt::format("rank {} gives up {}: rank {} has failed: {}", session->rank, what.describe(), news_.rank, news_.text));
}

void MpiJob::check_peers(const Fingerprint& what, const std::vector<int>& ranks, int me) {
  check(what);
  for (const int rank : ranks) {
    const auto process = static_cast<size_t>(rank);
    if (rank != me && process < processes.size() && !processes[process].is_alive())
      lose(fmt::format("{} has died: its process ended while {} was waiting for it in {}. Look for its own message or a signal.",
                       name_of(rank), name_of(me), what.describe()));
  }
}

void MpiJob::lose(const std::string& why) {
  session->lost_a_rank = true;
  announce_failure(why);
  fail_run("{}", why);
}

void MpiJob::keep_forever(std::vector<std::shared_ptr<void>> buffers) {
  std::lock_guard lock(mutex_);
  for (auto& buffer : buffers) kept_.push_back(std::move(buffer));
}

std::string MpiJob::name_of(int rank) const {
  const auto other = [&](const PeerProcess& process) { return process.host() != processes[0].host(); };
  const bool several = std::any_of(processes.begin(), processes.end(), other);
  return several ? fmt::format("rank {} on {}", rank, nth(processes, rank).host()) : fmt::format("rank {}", rank);
}

void MpiMessages::send(int peer, int tag, const void* data, int64_t num_bytes) {
  std::lock_guard lock(job_.session->mutex);
  const auto* bytes = static_cast<const char*>(data);
  for (int64_t begin = 0; begin < num_bytes; begin += max_bytes_) {
    requests_.push_back(MPI_REQUEST_NULL);
    peers_.push_back(peer);
    check_mpi(MPI_Isend(bytes + begin, static_cast<int>(std::min(max_bytes_, num_bytes - begin)), MPI_BYTE, nth(members_, peer), tag,
                        job_.session->comm, &requests_.back()),
              fmt::format("sending to rank {}", peer));
  }
}

void MpiMessages::receive(int peer, int tag, void* data, int64_t num_bytes) {
  std::lock_guard lock(job_.session->mutex);
  auto* bytes = static_cast<char*>(data);
  for (int64_t begin = 0; begin < num_bytes; begin += max_bytes_) {
    requests_.push_back(MPI_REQUEST_NULL);
    peers_.push_back(peer);
    check_mpi(MPI_Irecv(bytes + begin, static_cast<int>(std::min(max_bytes_, num_bytes - begin)), MPI_BYTE, nth(members_, peer), tag,
                        job_.session->comm, &requests_.back()),
              fmt::format("receiving from rank {}", peer));
  }
}

// True when some have ended since the last call.
bool MpiMessages::test() {
  if (pending_ == 0) return false;
  std::lock_guard lock(job_.session->mutex);
  int ended = 0;
  std::vector<int> which(requests_.size());
  check_mpi(MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &ended, which.data(), MPI_STATUSES_IGNORE),
            "waiting for messages");
  if (ended == MPI_UNDEFINED || ended == 0) return false;
  pending_ -= static_cast<size_t>(ended);
  return true;
}

void MpiMessages::wait(const Fingerprint& what) {
  pending_ = requests_.size();
  auto moved = Clock::now(), looked = moved;
  while (pending_ > 0) {
    const bool some = test();
    const auto now = Clock::now();
    if (some) {
      moved = now;
      continue;
    }
    if (now - moved < kYieldFor)
      sched_yield();
    else
      std::this_thread::sleep_for(kSleep);
    if (now - looked < kSlice) continue;
    looked = now;
    check_peers(what, std::chrono::duration<double>(now - moved).count());
  }
  requests_.clear();
  peers_.clear();
}

void MpiMessages::check_peers(const Fingerprint& what, double waited_seconds) {
  std::set<int> silent;  // ranks of the session
  for (size_t i = 0; i < requests_.size(); ++i)
    if (requests_[i] != MPI_REQUEST_NULL) silent.insert(nth(members_, peers_[i]));
  const int me = nth(members_, my_rank_);
  job_.check_peers(what, {silent.begin(), silent.end()}, me);
  if (waited_seconds <= job_.timeout_seconds) return;
  std::vector<std::string> names;
  for (const int rank : silent) names.push_back(job_.name_of(rank));
  job_.lose(
      fmt::format("{} {} not arrived at {} for {:.3g} s, seen from {}. If a step may take that long, raise run.collective_timeout_seconds.",
                  fmt::join(names, ", "), names.size() == 1 ? "has" : "have", what.describe(), waited_seconds, job_.name_of(me)));
}

MpiMessages::~MpiMessages() {
  const auto pending = [&] { return std::any_of(requests_.begin(), requests_.end(), [](MPI_Request r) { return r != MPI_REQUEST_NULL; }); };
  if (!pending()) return;
  // Given up: what has not begun is called back, what has gets a moment to end.
  std::unique_lock lock(job_.session->mutex);
  for (MPI_Request& request : requests_)
    if (request != MPI_REQUEST_NULL) MPI_Cancel(&request);
  for (const auto start = Clock::now(); pending() && Clock::now() - start < kLastWords;) {
    int done = 0;
    MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
    if (done) break;
    sched_yield();
  }
  // MPI may still look at the buffers of what is left.
  if (pending()) job_.keep_forever(std::move(kept_));
}

}  // namespace zerostep
