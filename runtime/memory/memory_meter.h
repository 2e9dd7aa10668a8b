#pragma once
#include <atomic>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace zerostep {

// A tensor that cannot be had: the machine has no more memory, or a limit would be passed. Who runs the operation knows its name.
class MemoryError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// "needs N bytes (N MiB), ..." in arenas, in tensors that are there and in one more.
std::string needed_text(int64_t arena_bytes, int64_t tensor_bytes, int64_t one_more);

// Counts what LibTorch holds for one rank: bytes of live tensors and their peak. Ranks that are threads have one each.
class MemoryMeter {
 public:
  struct Counts {
    std::atomic<int64_t> live{0}, peak{0}, system_allocations{0};
    std::atomic<int64_t> device_limit{std::numeric_limits<int64_t>::max()}, arenas{0};
  };
  MemoryMeter();
  int64_t live_bytes() const { return counts_->live.load(std::memory_order_relaxed); }
  int64_t peak_bytes() const { return counts_->peak.load(std::memory_order_relaxed); }
  void reset_peak() { counts_->peak.store(counts_->live.load()); }
  // Allocations for which the system gave pages.
  int64_t system_allocations() const { return counts_->system_allocations.load(std::memory_order_relaxed); }
  // From now on a tensor with which this rank's tensors and its arenas of `arena_bytes` take more than run.device_memory is a MemoryError.
  void set_limit(int64_t device_memory, int64_t arena_bytes) {
    counts_->arenas = arena_bytes;
    counts_->device_limit = device_memory;
  }

 private:
  friend class MeterScope;
  Counts* counts_;  // lives as long as the process: a tensor may outlive its meter
};

// Replaces LibTorch's CPU allocator of this process, once: every tensor is counted, and pages of freed ones serve the next, so that a
// training step neither maps memory nor faults pages after the second one. Free pages are kept only while the process holds at most an
// eighth (and 4 MiB) more for tensors than they ever took at once. Call before any rank starts.
void install_metered_allocator();

// Gives back the pages of tensors that are gone. What tensors took until now no longer counts for what is kept.
void release_free_memory();

// While it lives, what this thread allocates counts for `meter` (and stays so until it is freed, by whatever thread).
class MeterScope {
 public:
  // All: what threads without a scope allocate counts too. Those are the threads of at::parallel_for and of the libraries, which know
  // nothing of the thread that calls them. For a process in which one rank runs: of ranks that are threads, one would count what another's
  // helpers allocate. Such scopes of one process are nested.
  enum class Threads : uint8_t { Own, All };
  explicit MeterScope(MemoryMeter& meter, Threads threads = Threads::Own);
  ~MeterScope();
  MeterScope(const MeterScope&) = delete;
  MeterScope& operator=(const MeterScope&) = delete;

 private:
  Threads threads_;
  MemoryMeter::Counts *former_counts_, *former_process_counts_ = nullptr;
};

}  // namespace zerostep
