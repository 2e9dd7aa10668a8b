#pragma once
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

#include "offload/pinned_memory.h"

namespace zerostep::testing {

// Locks nothing and knows what it should have; refuses from a number of slabs on, and what would be more bytes than a limit. Any thread.
class RecordingLocker final : public PageLocker {
 public:
  explicit RecordingLocker(size_t max_slabs = 1000, int64_t max_bytes = INT64_MAX) : max_slabs_(max_slabs), max_bytes_(max_bytes) {}
  int lock(void* data, int64_t num_bytes) override {
    const std::lock_guard guard(mutex_);
    if (locked.size() == max_slabs_ || num_bytes > max_bytes_ - this->num_bytes()) return ENOMEM;
    locked[static_cast<std::byte*>(data)] = num_bytes;
    return 0;
  }
  void unlock(void* data, int64_t num_bytes) noexcept override {
    const std::lock_guard guard(mutex_);
    const auto found = locked.find(static_cast<std::byte*>(data));
    if (found != locked.end() && found->second == num_bytes) locked.erase(found);
  }
  int64_t num_bytes() const {
    int64_t sum = 0;
    for (const auto& [data, size] : locked) sum += size;
    return sum;
  }
  std::map<std::byte*, int64_t> locked;

 private:
  std::mutex mutex_;
  size_t max_slabs_;
  int64_t max_bytes_;
};

}  // namespace zerostep::testing
