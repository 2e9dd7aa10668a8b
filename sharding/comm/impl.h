#pragma once
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>

#include "sharding/comm/operation.h"

namespace zerostep {

// What a backend provides. Everything but launch() blocks its caller. Calls may come from several threads: a backend runs one operation at
// a time.
class Communicator::Impl {
 public:
  // The most bytes a rank that gather_small moves.
  static constexpr size_t kSmallBytes = 4096;

  Impl(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  virtual const char* backend() const = 0;
  virtual bool shares_process() const { return false; }
  // False when operands are only counted, so that null pointers are no mistake.
  virtual bool moves_data() const { return true; }

  // Puts an operation, whose operands have been checked, on the caller's stream, and gives the event after it. Does not wait for the
  // operation; backends of GPUs may wait until the other ranks have put it too, or while pageable memory is copied. The backend
  // count()s it there when it is done: one that queues kernels of its own does so on stream.native_handle(), and looks later when they were
  // done.
  virtual Event launch(Operation operation, Stream& stream) = 0;
  // all = size() times `num_bytes` (at most kSmallBytes) in rank order; one handshake.
  virtual void gather_small(const Fingerprint& fingerprint, const void* mine, size_t num_bytes, void* all) = 0;
  virtual std::shared_ptr<CommBuffer> allocate(size_t num_bytes, const char* label) = 0;
  virtual std::shared_ptr<CommBuffer> allocate_on_device(size_t num_bytes, const char* label) { return allocate(num_bytes, label); }
  virtual std::shared_ptr<Impl> split(int color, int key) = 0;
  virtual std::shared_ptr<Impl> split(const std::function<std::pair<int, int>(int)>& color_and_key) {
    const auto [color, key] = color_and_key(rank_);
    return split(color, key);
  }
  virtual void abort(const std::string& reason) = 0;
  // Throws as an operation that waits for the others would when one of them has failed or died. Never blocks.
  virtual void check_peers(const Fingerprint&) {}
  virtual void lend_staging(std::span<std::byte>) {}
  virtual void take_staging_back(std::span<std::byte>) {}
  virtual void agree_on_host_memory(bool) {}
  virtual bool meets_on_device() { return true; }
  virtual void note_device_waited() {}
  virtual void wait_for_meetings() {}

  // Texts of any length, in rank order.
  std::vector<std::string> gather_text(const std::string& text, const char* label);

  // An operation that is done, or one that is launched and takes its time later (count_seconds()).
  void count(const Operation& operation, double seconds);
  void count(CommCounters::Entry CommCounters::*which, int64_t elements, int64_t bytes, double seconds);
  void count_seconds(CollectiveKind kind, double seconds);
  virtual CommCounters counters();

 private:
  const int rank_, size_;
  mutable std::mutex counters_mutex_;
  CommCounters counters_;
};

// A backend whose operations are work of the host's: one task on the stream each.
class HostCommunicator : public Communicator::Impl, public std::enable_shared_from_this<HostCommunicator> {
 public:
  using Impl::Impl;
  Event launch(Operation operation, Stream& stream) final;

 private:
  virtual void run(const Operation& operation) = 0;  // blocks
};

// The ranks of a split's new group, as ranks of the old one, in the order of (key, rank); the caller's place among them is `rank`.
struct SplitGroup {
  std::vector<int> members;
  int rank = 0;
};
SplitGroup agree_on_split(Communicator::Impl& parent, int color, int key);

}  // namespace zerostep
