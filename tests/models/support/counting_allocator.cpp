#include "tests/models/support/counting_allocator.h"

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cstdlib>

namespace zerostep {

namespace {

int64_t live_bytes = 0, peak_bytes = 0;

// The size stands in the 64 bytes before the data.
class Counting final : public at::Allocator {
 public:
  at::DataPtr allocate(size_t n) override {
    if (n == 0) return {nullptr, nullptr, &release, at::Device(at::kCPU)};
    void* block = nullptr;
    if (posix_memalign(&block, 64, n + 64) != 0) throw std::bad_alloc();
    *static_cast<size_t*>(block) = n;
    live_bytes += static_cast<int64_t>(n);
    peak_bytes = std::max(peak_bytes, live_bytes);
    void* data = static_cast<char*>(block) + 64;
    return {data, data, &release, at::Device(at::kCPU)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t n) const override { default_copy_data(to, from, n); }

 private:
  static void release(void* data) {
    if (data == nullptr) return;
    void* block = static_cast<char*>(data) - 64;
    live_bytes -= static_cast<int64_t>(*static_cast<size_t*>(block));
    std::free(block);
  }
};

Counting counting;
constexpr uint8_t kPriority = 200;

}  // namespace

AllocationMeter::AllocationMeter() { c10::SetCPUAllocator(&counting, kPriority); }
AllocationMeter::~AllocationMeter() { c10::SetCPUAllocator(c10::GetDefaultCPUAllocator(), kPriority); }
int64_t AllocationMeter::live() { return live_bytes; }
int64_t AllocationMeter::peak() { return peak_bytes; }
void AllocationMeter::restart_peak() { peak_bytes = live_bytes; }

}  // namespace zerostep
