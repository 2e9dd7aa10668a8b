#pragma once
#include <atomic>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "sharding/comm/impl.h"

namespace zerostep {

// Where an operand lies, as the other ranks of a group find it.
struct Operand {
  static constexpr uint32_t kStaged = ~uint32_t{0};  // not readable by peers: it goes through the bounce area
  uint64_t offset = 0;
  uint32_t buffer = 0;
  uint32_t owner = 0;
};

// What the ranks of a group share: one control block a rank, a barrier, a record of failure, bounce areas. It lies in plain memory between
// threads and in shared memory between processes; zeroed memory is a valid start. Everything waits with a bound.
class GroupControl {
 public:
  static constexpr int kMaxOperands = 128;            // segments of one handshake
  static constexpr size_t kBounceBytes = 256 * 1024;  // of one of a rank's two bounce areas

  // What a rank publishes for an operation. Two, by the operation's parity: a rank writes one only after every rank has arrived at
  // the operation after the one that used it last, hence is done with it.
  struct Slot {
    Fingerprint fingerprint;
    union {
      struct {
        Operand source[kMaxOperands], target[kMaxOperands];
      };
      alignas(kAlignmentBytes) std::byte payload[Communicator::Impl::kSmallBytes];
    };
  };

  // The first failure of a group: whoever sets it says what has happened, everybody else is told.
  struct FailureRecord {
    enum State : uint32_t { kNone, kBeingWritten, kTakenOver, kComplete };
    std::atomic<uint32_t> state;
    int32_t rank;
    char text[1016];
    // Each tells whether it has written the record. A second one may take over from a process that was killed while it wrote.
    bool set(int failed_rank, const std::string& what);
    bool take_over(int failed_rank, const std::string& what);
    bool is_set() const { return state.load(std::memory_order_seq_cst) == kComplete; }

   private:
    bool write(uint32_t from, uint32_t meanwhile, int failed_rank, const std::string& what);
  };

  // How a rank looks at its peers and what it shares with the group that this one was split from.
  struct Options {
    double timeout_seconds = 600;
    bool between_processes = false;
    std::function<bool(int rank)> is_alive;  // false when a peer's process has ended
    std::function<void()> on_lost_rank;      // when a peer has died or stayed silent
    FailureRecord* job_failure = nullptr;    // of the first group, which every rank of the job watches; null in that group
    int job_rank = 0;
  };

  static size_t num_bytes(int size, bool with_bounce);
  GroupControl(void* memory, int rank, int size, Options options);

  Slot& slot(int rank, int64_t operation) { return blocks_[rank].slots[operation & 1]; }
  std::byte* bounce(int rank, int64_t window) { return bounce_ + (2 * static_cast<size_t>(rank) + (window & 1)) * kBounceBytes; }

  // Waits for every rank; `what` is the operation, for messages. Throws RunError or PeerError.
  void barrier(const Fingerprint& what);
  // Throws PeerError when the group or the job has failed.
  void check(const Fingerprint& what);
  // Likewise, and RunError, which ends the group, when a peer has died. Never blocks.
  void check_peers(const Fingerprint& what);
  // This rank reads the memory of its peers for as long as the object lives. Throws PeerError, like check(), when the group has failed:
  // then peers may have taken their memory back.
  class Reading {
   public:
    Reading(GroupControl& control, const Fingerprint& what) : control_(control) { control_.begin_reading(what); }
    ~Reading() { control_.end_reading(); }
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

   private:
    GroupControl& control_;
  };
  // In a group that has failed: waits until no peer reads this rank's memory any more. Peers only copy meanwhile, so it is soon.
  void wait_for_readers() noexcept;
  // Records that this rank has failed, and wakes who waits. Never blocks.
  void fail(const std::string& reason) noexcept;
  // Says that this rank will not come again.
  void leave() noexcept;

  FailureRecord& failure() { return header_->failure; }
  FailureRecord* job_failure() { return options_.job_failure ? options_.job_failure : &header_->failure; }
  int job_rank() const { return options_.job_failure ? options_.job_rank : rank_; }

 private:
  struct Header {
    alignas(64) std::atomic<uint32_t> arrived;
    alignas(64) std::atomic<uint32_t> generation;  // futex word
    std::atomic<uint32_t> waiters;
    alignas(64) FailureRecord failure;
  };
  struct RankBlock {
    alignas(64) std::atomic<uint64_t> arrivals;
    std::atomic<uint32_t> left;
    std::atomic<uint32_t> reading;
    alignas(64) Slot slots[2];
  };
  static_assert(std::atomic<uint32_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free);

  bool failed() const { return header_->failure.is_set() || (options_.job_failure && options_.job_failure->is_set()); }
  void begin_reading(const Fingerprint& what);
  void end_reading() noexcept { blocks_[rank_].reading.store(0, std::memory_order_release); }
  void wait_for_generation(uint32_t old_generation, const Fingerprint& what);
  bool passed(uint32_t old_generation) const { return header_->generation.load(std::memory_order_seq_cst) != old_generation; }
  std::vector<int> dead_peers() const;
  [[noreturn]] void give_up_on_dead(const std::vector<int>& dead, const Fingerprint& what);
  // Looks for a reason to give up the wait for the generation; throws if there is one.
  void check_wait(uint32_t old_generation, const Fingerprint& what, double waited_seconds, double& left_since);
  [[noreturn]] void give_up(const std::string& why);
  void wake_all() noexcept;

  Header* header_;
  RankBlock* blocks_;
  std::byte* bounce_;
  const int rank_, size_, spins_;
  Options options_;
  uint64_t arrivals_ = 0;
};

}  // namespace zerostep
