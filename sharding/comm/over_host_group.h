#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "base/device.h"
#include "sharding/comm/device_buffer.h"
#include "sharding/comm/impl.h"

namespace zerostep {

// What the groups of a device have in common: small values, memory of the host and failures are those of the same ranks' group on the host.
class OverHostGroup : public Communicator::Impl {
 public:
  bool shares_process() const override { return host_.shares_process(); }
  void gather_small(const Fingerprint& fingerprint, const void* mine, size_t num_bytes, void* all) override {
    host_.impl()->gather_small(fingerprint, mine, num_bytes, all);
  }
  std::shared_ptr<CommBuffer> allocate(size_t num_bytes, const char* label) override {
    return host_.allocate(num_bytes, label, MemoryKind::PinnedHost);
  }
  std::shared_ptr<CommBuffer> allocate_on_device(size_t num_bytes, const char* label) override {
    return std::make_shared<DeviceBuffer>(device_, num_bytes, label);
  }
  void abort(const std::string& reason) override { host_.abort(reason); }

 protected:
  OverHostGroup(Communicator host, Device device) : Impl(host.rank(), host.size()), host_(std::move(host)), device_(std::move(device)) {}

  Communicator host_;
  Device device_;
};

}  // namespace zerostep
