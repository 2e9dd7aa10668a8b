#include "base/device.h"

namespace zerostep {
namespace {

class Cpu final : public Device::Impl {
 public:
  Stream compute_stream() const override { return Stream::inline_stream("compute"); }
  Stream stream(const std::string& name) const override { return Stream::worker(name); }
  Arena memory(const std::string& name, int64_t num_bytes) const override { return Arena::host_memory(name, num_bytes); }
};

}  // namespace

Device Device::cpu() { return Device(std::make_shared<const Cpu>()); }

}  // namespace zerostep
