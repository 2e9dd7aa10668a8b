#pragma once
#include <algorithm>
#include <cstdint>

namespace zerostep {

// Allocations and releases of a piece of code told in their order: what is live, and the highest it ever was.
class MemoryTimeline {
 public:
  MemoryTimeline& take(int64_t bytes) {
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    return *this;
  }
  MemoryTimeline& give(int64_t bytes) {
    live_ -= bytes;
    return *this;
  }
  // Taken and given back at once.
  MemoryTimeline& pass(int64_t bytes) { return take(bytes).give(bytes); }
  int64_t live() const { return live_; }
  int64_t peak() const { return peak_; }

 private:
  int64_t live_ = 0, peak_ = 0;
};

}  // namespace zerostep
