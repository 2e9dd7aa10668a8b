#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/arena.h"
#include "base/stream.h"

namespace zerostep {

// What a rank computes on: where its work is queued and where its memory comes from. A value handle over one backend.
class Device {
 public:
  class Impl {
   public:
    virtual ~Impl() = default;
    virtual Stream compute_stream() const = 0;
    virtual Stream stream(const std::string& name) const = 0;
    virtual Arena memory(const std::string& name, int64_t num_bytes) const = 0;
  };
  explicit Device(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  // This machine's processor. Its compute stream is the caller itself, so what is enqueued there is done when enqueue() returns; other
  // streams are threads.
  static Device cpu();

  Stream compute_stream() const { return impl_->compute_stream(); }
  // A stream of its own beside the compute stream; ends with its last handle.
  Stream stream(const std::string& name) const { return impl_->stream(name); }
  // Zeroed memory of the device. RunError when there is not enough.
  Arena memory(const std::string& name, int64_t num_bytes) const { return impl_->memory(name, num_bytes); }

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace zerostep
