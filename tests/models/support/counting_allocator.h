#pragma once
#include <cstdint>

namespace zerostep {

// Counts what LibTorch's CPU allocator hands out while an object lives (one at a time; tensors may outlive it and are then counted out of
// its sight).
class AllocationMeter {
 public:
  AllocationMeter();
  ~AllocationMeter();
  AllocationMeter(const AllocationMeter&) = delete;
  AllocationMeter& operator=(const AllocationMeter&) = delete;
  static int64_t live();
  static int64_t peak();
  static void restart_peak();
};

}  // namespace zerostep
