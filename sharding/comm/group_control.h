#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

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
    std::atomic<uint32_t> state;  // 0 none, 1 being written, 2 complete
    int32_t rank;
    char text[1016];
    bool set(int by_rank, const std::string& what);
    bool is_set() const { return state.load(std::memory_order_acquire) == 2; }
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
  std::byte* bounce(int rank, int64_t chunk) { return bounce_ + (2 * static_cast<size_t>(rank) + (chunk & 1)) * kBounceBytes; }

  // Waits for every rank; `what` is the operation, for messages. Throws RunError or PeerError.
  void barrier(const Fingerprint& what);
  // Throws PeerError when the group or the job has failed.
  void check(const Fingerprint& what);
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
    alignas(64) Slot slots[2];
  };
  static_assert(std::atomic<uint32_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free);

  bool failed() const { return header_->failure.is_set() || (options_.job_failure && options_.job_failure->is_set()); }
  void wait_for_generation(uint32_t old_generation, const Fingerprint& what);
  bool passed(uint32_t old_generation) const { return header_->generation.load(std::memory_order_seq_cst) != old_generation; }
  // Looks for a reason to give up the wait for the generation; throws if there is one.
  void look_around(uint32_t old_generation, const Fingerprint& what, double waited_seconds, double& left_since);
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
