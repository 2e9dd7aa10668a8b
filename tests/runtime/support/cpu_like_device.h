#pragma once
#include <string>

#include "base/device.h"

namespace zerostep::testing {

// This machine's processor, for devices of tests that differ from it in a stream or a name.
class CpuLikeDevice : public Device::Impl {
 public:
  const std::string& name() const override { return cpu_.name(); }
  Stream compute_stream() const override { return cpu_.compute_stream(); }
  Stream stream(const std::string& name) const override { return cpu_.stream(name); }
  Arena memory(const std::string& name, int64_t num_bytes, MemoryKind kind) const override { return cpu_.memory(name, num_bytes, kind); }
  MemoryInfo memory_info() const override { return cpu_.memory_info(); }
  Event copy(Stream& stream, void* to, const void* from, int64_t num_bytes) const override {
    return cpu_.copy(stream, to, from, num_bytes);
  }

 private:
  Device cpu_ = Device::cpu();
};

}  // namespace zerostep::testing
