#pragma once
#include "base/device.h"
#include "sharding/communicator.h"

namespace zerostep {

// Memory of a device for operands of one rank.
class DeviceBuffer final : public CommBuffer {
 public:
  DeviceBuffer(const Device& device, size_t num_bytes, const char* label)
      : num_bytes_(num_bytes), arena_(device.memory(label, round_up(static_cast<int64_t>(num_bytes), kAlignmentBytes))) {
    if (num_bytes > 0) data_ = arena_.allocate(static_cast<int64_t>(num_bytes), label);
  }
  void* data() const override { return data_; }
  size_t num_bytes() const override { return num_bytes_; }

 private:
  size_t num_bytes_;
  Arena arena_;
  void* data_ = nullptr;
};

}  // namespace zerostep
