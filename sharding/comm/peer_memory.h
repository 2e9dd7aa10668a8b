#pragma once
#include <memory>
#include <string>

#include "sharding/comm/group_control.h"

namespace zerostep {

class PeerCommunicator;

// How the ranks of a group that can read each other's memory do so. One object a rank and group.
class PeerMemory {
 public:
  PeerMemory(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~PeerMemory() = default;
  virtual const char* backend() const = 0;
  virtual bool shares_process() const { return false; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  virtual GroupControl& control() = 0;

  // What peers need to find an operand of this rank; Operand::kStaged as its buffer when they cannot.
  virtual Operand publish(const void* operand, size_t num_bytes) = 0;
  // A peer's operand (or this rank's own) as readable here.
  virtual const std::byte* resolve(int rank, const Operand& operand) = 0;

  // Collective, through the operations of `group`, which uses this memory.
  virtual std::shared_ptr<CommBuffer> allocate(PeerCommunicator& group, size_t num_bytes, const char* label) = 0;
  virtual std::shared_ptr<PeerMemory> split(PeerCommunicator& group, const SplitGroup& members) = 0;

 private:
  const int rank_, size_;
};

// The algorithms, one for threads and processes alike: every rank publishes where its operands lie, and each reads the others' in place.
class PeerCommunicator final : public HostCommunicator {
 public:
  explicit PeerCommunicator(std::shared_ptr<PeerMemory> memory);
  ~PeerCommunicator() override;

  const char* backend() const override { return memory_->backend(); }
  bool shares_process() const override { return memory_->shares_process(); }
  void gather_small(const Fingerprint& fingerprint, const void* mine, size_t num_bytes, void* all) override;
  std::shared_ptr<CommBuffer> allocate(size_t num_bytes, const char* label) override;
  std::shared_ptr<Impl> split(int color, int key) override;
  void abort(const std::string& reason) override;
  void check_peers(const Fingerprint& what) override { control_.check_peers(what); }

 private:
  void run(const Operation& operation) override;
  // Runs `body` alone, unless the group has failed; what it throws ends the group.
  template <typename Body>
  void guarded(const Fingerprint& fingerprint, Body&& body);
  // Arrives with the slot as it stands, waits for all, and compares the fingerprints.
  void meet(const Fingerprint& fingerprint);
  GroupControl::Slot& my_slot() { return control_.slot(rank(), operations_); }

  void run_small(const Operation& operation, const Fingerprint& fingerprint);
  void run_alone(const Operation& operation, std::span<const Segment> segments);
  void run_segments(const Operation& operation, const Fingerprint& fingerprint, std::span<const Segment> segments);
  // `direct`: the segments whose operands every rank can read in place.
  void run_direct(const Operation& operation, const Fingerprint& fingerprint, std::span<const Segment> segments,
                  std::span<const int> direct);
  void copy_direct(const Operation& operation, const Segment& segment, int i, bool past_cache);
  void run_staged(const Operation& operation, const Fingerprint& fingerprint, const Segment& segment);
  void take(const Operation& operation, const Segment& segment, int64_t begin, int64_t count);
  const std::byte* source_of(int rank, int segment);

  // In peer_exchange.cpp.
  void run_exchange(const Operation& operation, const Fingerprint& fingerprint);
  void exchange_small(const Operation& operation, const Fingerprint& fingerprint);
  // Gives whether a rank has read another one's memory, which must then stay until all have.
  bool exchange_batch(const Operation& operation, const Fingerprint& fingerprint, std::span<const Transfer> batch, bool past_cache);

  std::shared_ptr<PeerMemory> memory_;
  GroupControl& control_;
  std::mutex mutex_;  // one operation at a time
  int64_t operations_ = 0;
  int64_t windows_ = 0;               // staged, by all operations so far
  std::vector<const void*> sources_;  // of all ranks, for one segment
  const size_t past_cache_bytes_;
};

// A group of one in this process.
std::shared_ptr<Communicator::Impl> make_lone_communicator(const CommOptions& options);

}  // namespace zerostep
