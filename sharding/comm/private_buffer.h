#pragma once
#include "sharding/communicator.h"

namespace zerostep {

// Memory of this process alone: zeroed, on a 64-byte boundary, in huge pages where it is large and the system gives them.
class PrivateBuffer final : public CommBuffer {
 public:
  explicit PrivateBuffer(size_t num_bytes);
  ~PrivateBuffer() override;
  PrivateBuffer(const PrivateBuffer&) = delete;
  PrivateBuffer& operator=(const PrivateBuffer&) = delete;
  void* data() const override { return data_; }
  size_t num_bytes() const override { return num_bytes_; }

 private:
  size_t num_bytes_;
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  void* data_ = nullptr;
};

}  // namespace zerostep
