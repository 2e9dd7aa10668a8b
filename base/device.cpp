#include "base/device.h"

#include <cstring>

namespace zerostep {
namespace {

class Cpu final : public Device::Impl {
 public:
  const std::string& name() const override { return name_; }
  Stream compute_stream() const override { return Stream::inline_stream("compute"); }
  Stream stream(const std::string& name) const override { return Stream::worker(name); }
  Arena memory(const std::string& name, int64_t num_bytes, MemoryKind) const override { return Arena::host_memory(name, num_bytes); }
  Event copy(Stream& stream, void* to, const void* from, int64_t num_bytes) const override {
    return stream.enqueue([=] { std::memcpy(to, from, static_cast<size_t>(num_bytes)); });
  }
  Event fill(Stream& stream, void* to, uint8_t value, int64_t num_bytes) const override {
    return stream.enqueue([=] { std::memset(to, value, static_cast<size_t>(num_bytes)); });
  }

 private:
  std::string name_ = "cpu";
};

}  // namespace

Device Device::cpu() { return Device(std::make_shared<const Cpu>()); }

}  // namespace zerostep
