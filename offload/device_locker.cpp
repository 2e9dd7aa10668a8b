#include "offload/device_locker.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <utility>

#include "base/error.h"

namespace zerostep {
namespace {

class DeviceLocker final : public PageLocker {
 public:
  explicit DeviceLocker(Device device) : device_(std::move(device)) {}
  int lock(void* data, int64_t num_bytes) override {
    try {
      std::shared_ptr<void> pinned = device_.pin(data, num_bytes);
      const std::lock_guard lock(mutex_);
      pinned_[data] = std::move(pinned);
      return 0;
    } catch (const RunError& error) {
      spdlog::debug("{}", error.what());
      return ENOMEM;
    }
  }
  void unlock(void* data, int64_t) noexcept override {
    const std::lock_guard lock(mutex_);
    pinned_.erase(data);
  }

 private:
  Device device_;
  std::mutex mutex_;
  std::map<void*, std::shared_ptr<void>> pinned_;
};

}  // namespace

std::shared_ptr<PageLocker> page_locker(const Device& device) {
  if (device.is_host()) return PageLocker::system();
  return std::make_shared<DeviceLocker>(device);
}

}  // namespace zerostep
