#include "base/device.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "base/control_group.h"

namespace zerostep {
namespace {

int64_t available_memory(const struct sysinfo& system) {
  std::ifstream file("/proc/meminfo");
  for (std::string name, unit; file >> name;) {
    int64_t kibibytes = 0;
    if (name == "MemAvailable:" && file >> kibibytes >> unit) return kibibytes * 1024;
    std::getline(file, unit);
  }
  return static_cast<int64_t>(system.freeram) * system.mem_unit;
}

class Cpu final : public Device::Impl {
 public:
  const std::string& name() const override { return name_; }
  Stream compute_stream() const override { return Stream::inline_stream("compute"); }
  Stream stream(const std::string& name) const override { return Stream::worker(name); }
  Arena memory(const std::string& name, int64_t num_bytes, MemoryKind) const override { return Arena::host_memory(name, num_bytes); }
  MemoryInfo memory_info() const override {
    struct sysinfo system {};
    if (::sysinfo(&system) != 0) return {INT64_MAX, INT64_MAX};
    const auto group = free_bytes_in_control_groups();
    const int64_t available = available_memory(system);
    return {group ? std::min(*group, available) : available, static_cast<int64_t>(system.totalram) * system.mem_unit};
  }
  Event copy(Stream& stream, void* to, const void* from, int64_t num_bytes) const override {
    return stream.enqueue([=] { std::memcpy(to, from, static_cast<size_t>(num_bytes)); });
  }

 private:
  std::string name_ = "cpu";
};

}  // namespace

Device Device::cpu() { return Device(std::make_shared<const Cpu>()); }

}  // namespace zerostep
