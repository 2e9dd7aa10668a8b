#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/arena.h"

namespace zerostep {

// Keeps pages where they are: mlock, so that they are not swapped; a device that copies from them by itself registers them besides.
class PageLocker {
 public:
  virtual ~PageLocker() = default;
  // 0, or errno. Memory that is locked is in place, page by page.
  virtual int lock(void* data, int64_t num_bytes) = 0;
  virtual void unlock(void* data, int64_t num_bytes) noexcept = 0;
  static std::shared_ptr<PageLocker> system();
};

struct PinnedOptions {
  bool pin_memory = true;                                  // `pin_memory`; false: all is pageable
  int64_t slab_bytes = int64_t{1} << 30;                   // locked at a time, at most: some drivers refuse more
  std::shared_ptr<PageLocker> locker = nullptr;            // nullptr: PageLocker::system()
  std::function<void(const std::string&)> warn = nullptr;  // nullptr: the log
};

// The source of a rank's memory on the host that files and devices are read from and written to. What may not be locked stays pageable,
// which warn_of_pageable() says. Used by one thread; arenas may go in any.
class PinnedMemory {
 public:
  explicit PinnedMemory(PinnedOptions options = {});
  // Zeroed memory of the NUMA node that the caller runs on, aligned to pages; locked slab by slab from its begin, to the page where the
  // limit ends, so a device copies at once what lies within one slab. RunError when there is not enough.
  Arena memory(const std::string& name, int64_t num_bytes);
  // Locks memory that others have made, slab by slab from its begin, until the result goes.
  std::shared_ptr<void> pin(void* data, int64_t num_bytes);
  // Says how much of what lives could not be locked, why, and how to raise the limit; nothing where all is as it was asked for.
  void warn_of_pageable() const;

  // Of what lives.
  int64_t pinned_bytes() const { return bytes_->pinned; }
  int64_t pageable_bytes() const { return bytes_->pageable; }

 private:
  struct Bytes {
    std::atomic<int64_t> pinned = 0, pageable = 0;
  };
  PinnedOptions options_;
  std::shared_ptr<Bytes> bytes_;
  int error_ = 0;  // why the last slab was not locked
};

}  // namespace zerostep
