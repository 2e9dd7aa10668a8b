#include "sharding/comm/group_control.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstring>
#include <vector>

#include "sharding/comm/core_share.h"

namespace zerostep {
namespace {

// A peer that has a core of its own arrives within the spins, one that shares this core needs the yields.
constexpr int kSpins = 200, kYields = 50;
constexpr long kPauseNanoseconds = 50'000'000;     // between two checks of the peers
constexpr double kGraceForALastWordSeconds = 0.3;  // a rank that leaves in distress says so first

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

long futex(std::atomic<uint32_t>* word, int operation, bool between_processes, uint32_t value, const timespec* timeout) {
  return syscall(SYS_futex, word, operation | (between_processes ? 0 : FUTEX_PRIVATE_FLAG), value, timeout, nullptr, 0);
}

std::string list_of_ranks(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += fmt::format("{}{}", i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ", ranks[i]);
  return text;
}

}  // namespace

bool GroupControl::FailureRecord::set(int failed_rank, const std::string& what) { return write(kNone, kBeingWritten, failed_rank, what); }

bool GroupControl::FailureRecord::take_over(int failed_rank, const std::string& what) {
  return write(kBeingWritten, kTakenOver, failed_rank, what);
}

bool GroupControl::FailureRecord::write(uint32_t from, uint32_t meanwhile, int failed_rank, const std::string& what) {
  if (!state.compare_exchange_strong(from, meanwhile, std::memory_order_acq_rel)) return false;
  rank = failed_rank;
  const size_t length = std::min(what.size(), sizeof(text) - 1);
  std::memcpy(text, what.data(), length);
  text[length] = 0;
  state.store(kComplete, std::memory_order_seq_cst);
  return true;
}

size_t GroupControl::num_bytes(int size, bool with_bounce) {
  return sizeof(Header) + static_cast<size_t>(size) * (sizeof(RankBlock) + (with_bounce ? 2 * kBounceBytes : 0));
}

GroupControl::GroupControl(void* memory, int rank, int size, Options options)
    : header_(static_cast<Header*>(memory)),
      blocks_(reinterpret_cast<RankBlock*>(static_cast<std::byte*>(memory) + sizeof(Header))),
      bounce_(reinterpret_cast<std::byte*>(blocks_ + size)),
      rank_(rank),
      size_(size),
      spins_(size <= share_of_cores({allowed_cores()}, 0) ? kSpins : 0),
      options_(std::move(options)) {}

void GroupControl::barrier(const Fingerprint& what) {
  if (size_ == 1) return;
  check(what);
  const uint32_t generation = header_->generation.load(std::memory_order_acquire);
  blocks_[rank_].arrivals.store(++arrivals_, std::memory_order_relaxed);
  if (header_->arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_)) {
    header_->arrived.store(0, std::memory_order_relaxed);
    header_->generation.store(generation + 1, std::memory_order_seq_cst);
    if (header_->waiters.load(std::memory_order_seq_cst) > 0) wake_all();
    return;
  }
  wait_for_generation(generation, what);
}

void GroupControl::wait_for_generation(uint32_t old_generation, const Fingerprint& what) {
  for (int i = 0; i < spins_; ++i) {
    if (passed(old_generation)) return;
    pause_cpu();
  }
  for (int i = 0; i < kYields; ++i) {
    if (passed(old_generation)) return;
    sched_yield();
  }
  struct Waiting {
    std::atomic<uint32_t>& count;
    explicit Waiting(std::atomic<uint32_t>& waiters) : count(waiters) { count.fetch_add(1, std::memory_order_seq_cst); }
    ~Waiting() { count.fetch_sub(1, std::memory_order_relaxed); }
  } waiting(header_->waiters);
  const auto start = std::chrono::steady_clock::now();
  double left_since = -1;
  while (!passed(old_generation)) {
    const timespec pause{0, kPauseNanoseconds};
    futex(&header_->generation, FUTEX_WAIT, options_.between_processes, old_generation, &pause);
    if (passed(old_generation)) return;
    check_wait(old_generation, what, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), left_since);
  }
}

void GroupControl::check(const Fingerprint& what) {
  for (FailureRecord* record : {&header_->failure, options_.job_failure}) {
    if (!record || !record->is_set()) continue;
    const bool of_job = record == options_.job_failure;
    if (record->rank == (of_job ? options_.job_rank : rank_)) fail_run("{} cannot run any more: {}", what.describe(), record->text);
    throw PeerError(fmt::format("rank {} gives up {}: rank {}{} has failed: {}", rank_, what.describe(), record->rank,
                                of_job ? " of the first group" : "", record->text));
  }
}

void GroupControl::check_peers(const Fingerprint& what) {
  check(what);
  if (const std::vector<int> dead = dead_peers(); !dead.empty()) {
    if (options_.on_lost_rank) options_.on_lost_rank();
    give_up_on_dead(dead, what);
  }
}

std::vector<int> GroupControl::dead_peers() const {
  std::vector<int> dead;
  for (int rank = 0; rank < size_ && options_.is_alive; ++rank)
    if (rank != rank_ && !blocks_[rank].left.load(std::memory_order_acquire) && !options_.is_alive(rank)) dead.push_back(rank);
  return dead;
}

void GroupControl::give_up_on_dead(const std::vector<int>& dead, const Fingerprint& what) {
  give_up(
      fmt::format("{} {} died: the process ended while rank {} was waiting for it in {}. Look for its own message or a signal (an "
                  "out-of-memory kill leaves only a line in the system's log).",
                  list_of_ranks(dead), dead.size() == 1 ? "has" : "have", rank_, what.describe()));
}

void GroupControl::check_wait(uint32_t old_generation, const Fingerprint& what, double waited_seconds, double& left_since) {
  // A peer may fail, leave or die after it has met this rank: what is seen of it counts only while the barrier is still closed.
  if (failed()) {
    if (passed(old_generation)) return;
    check(what);
  }
  const std::vector<int> dead = dead_peers();
  std::vector<int> silent, left;
  for (int rank = 0; rank < size_; ++rank) {
    const bool arrived = blocks_[rank].arrivals.load(std::memory_order_acquire) >= arrivals_;
    const bool has_left = blocks_[rank].left.load(std::memory_order_acquire);
    if (!arrived) silent.push_back(rank);
    if (!arrived && has_left) left.push_back(rank);
  }
  if (passed(old_generation)) return;
  const bool late = waited_seconds > options_.timeout_seconds && !silent.empty();
  if ((late || !dead.empty()) && options_.on_lost_rank) options_.on_lost_rank();
  if (!dead.empty()) give_up_on_dead(dead, what);
  if (!left.empty()) {
    if (left_since < 0) left_since = waited_seconds;
    if (waited_seconds - left_since > kGraceForALastWordSeconds)
      give_up(
          fmt::format("{} {} left the group and will not arrive at {}, where rank {} is waiting. Every rank must run the same "
                      "collectives in the same order.",
                      list_of_ranks(left), left.size() == 1 ? "has" : "have", what.describe(), rank_));
  }
  if (late)
    give_up(
        fmt::format("{} {} not arrived at {} for {:.3g} s, seen from rank {}. If a step may take that long, raise "
                    "run.collective_timeout_seconds.",
                    list_of_ranks(silent), silent.size() == 1 ? "has" : "have", what.describe(), waited_seconds, rank_));
}

void GroupControl::give_up(const std::string& why) {
  FailureRecord& record = header_->failure;
  if (!record.set(rank_, why)) {
    // Whoever writes the record is done at once, unless it was killed meanwhile: then this rank writes it.
    const auto start = std::chrono::steady_clock::now();
    const auto waited = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
    while (!record.is_set() && waited() < kGraceForALastWordSeconds) sched_yield();
    if (record.is_set() && record.rank != rank_)
      throw PeerError(fmt::format("rank {} gives up: rank {} has failed: {}", rank_, record.rank, record.text));
    record.take_over(rank_, why);
  }
  wake_all();
  throw RunError(why);
}

void GroupControl::fail(const std::string& reason) noexcept {
  header_->failure.set(rank_, reason);
  if (options_.job_failure) options_.job_failure->set(options_.job_rank, reason);
  wake_all();
}

// Between processes a rank's memory stays mapped where it is read. Between threads it goes with its owner: either the reader sees the
// failure before it reads, or the owner sees the reader.
void GroupControl::begin_reading(const Fingerprint& what) {
  if (options_.between_processes) return;
  blocks_[rank_].reading.store(1, std::memory_order_seq_cst);
  if (!failed()) return;
  end_reading();
  check(what);
}

void GroupControl::wait_for_readers() noexcept {
  if (options_.between_processes) return;
  while (!failed()) sched_yield();  // a peer thread may be writing the record
  for (int rank = 0; rank < size_; ++rank)
    while (rank != rank_ && blocks_[rank].reading.load(std::memory_order_seq_cst) != 0) sched_yield();
}

void GroupControl::leave() noexcept { blocks_[rank_].left.store(1, std::memory_order_release); }

void GroupControl::wake_all() noexcept { futex(&header_->generation, FUTEX_WAKE, options_.between_processes, INT_MAX, nullptr); }

}  // namespace zerostep
