#include "runtime/memory/memory_meter.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"

namespace zerostep {
namespace {

thread_local MemoryMeter::Counts* meter_of_thread = nullptr;
std::atomic<MemoryMeter::Counts*> meter_of_process = nullptr;  // of threads that have none

MemoryMeter::Counts* current_meter() {
  return meter_of_thread != nullptr ? meter_of_thread : meter_of_process.load(std::memory_order_relaxed);
}

constexpr size_t kHeaderBytes = 64;
constexpr size_t kCachedFrom = 4096;           // below, malloc's own caches are as good
constexpr size_t kHugeFrom = size_t{4} << 20;  // huge pages pay from here

// Lies in front of every block.
struct Header {
  MemoryMeter::Counts* meter;
  size_t counted;   // bytes asked for, rounded up to 64
  size_t capacity;  // bytes of the block behind the header
};
static_assert(sizeof(Header) <= kHeaderBytes);

// Sizes in steps of an eighth of the next lower power of two: at most 12.5 % is lost, and shapes that differ a little share blocks.
size_t size_class(size_t bytes) {
  if (bytes < kCachedFrom) return bytes;
  const size_t step = std::bit_floor(bytes) / 8;
  return (bytes + step - 1) / step * step;
}

}  // namespace

class MeteredAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t num_bytes) override {
    if (num_bytes == 0) return {nullptr, nullptr, &MeteredAllocator::release, c10::Device(c10::DeviceType::CPU)};
    const size_t counted = static_cast<size_t>(round_up(static_cast<int64_t>(num_bytes), kAlignmentBytes));
    const size_t capacity = size_class(counted);
    MemoryMeter::Counts* meter = current_meter();
    Header* header = take(capacity);
    if (header == nullptr) {
      header = static_cast<Header*>(system_block(capacity));
      if (meter != nullptr) meter->system_allocations.fetch_add(1, std::memory_order_relaxed);
    }
    *header = {meter, counted, capacity};
    if (header->meter != nullptr) {
      const int64_t live =
          header->meter->live.fetch_add(static_cast<int64_t>(counted), std::memory_order_relaxed) + static_cast<int64_t>(counted);
      int64_t peak = header->meter->peak.load(std::memory_order_relaxed);
      while (live > peak && !header->meter->peak.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
      }
    }
    void* data = reinterpret_cast<std::byte*>(header) + kHeaderBytes;
    return {data, data, &MeteredAllocator::release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &MeteredAllocator::release; }
  void copy_data(void* target, const void* source, size_t count) const override { default_copy_data(target, source, count); }

  static MeteredAllocator& instance() {
    static MeteredAllocator* allocator = new MeteredAllocator;  // outlives every tensor
    return *allocator;
  }

 private:
  static void* system_block(size_t capacity) {
    void* block = nullptr;
    if (posix_memalign(&block, capacity >= kHugeFrom ? size_t{2} << 20 : size_t{64}, capacity + kHeaderBytes) != 0)
      fail_run("out of host memory: LibTorch asks for {} bytes", capacity);
    if (capacity >= kHugeFrom) madvise(block, capacity + kHeaderBytes, MADV_HUGEPAGE);
    return block;
  }

  Header* take(size_t capacity) {
    if (capacity < kCachedFrom) return nullptr;
    const std::lock_guard lock(mutex_);
    const auto it = free_.find(capacity);
    if (it == free_.end() || it->second.empty()) return nullptr;
    Header* header = it->second.back();
    it->second.pop_back();
    cached_ -= capacity;
    return header;
  }

  static void release(void* data) {
    if (data == nullptr) return;
    Header* header = reinterpret_cast<Header*>(static_cast<std::byte*>(data) - kHeaderBytes);
    if (header->meter != nullptr) header->meter->live.fetch_sub(static_cast<int64_t>(header->counted), std::memory_order_relaxed);
    if (header->capacity < kCachedFrom) {
      std::free(header);
      return;
    }
    instance().give(header);
  }

  void give(Header* header) {
    const std::lock_guard lock(mutex_);
    free_[header->capacity].push_back(header);
    cached_ += header->capacity;
  }

  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<Header*>> free_;  // by capacity
  size_t cached_ = 0;
};

void install_metered_allocator() {
  static std::once_flag once;
  std::call_once(once, [] { c10::SetCPUAllocator(&MeteredAllocator::instance(), /*priority=*/100); });
}

MemoryMeter::MemoryMeter() {
  static std::mutex mutex;
  static auto* all = new std::vector<std::unique_ptr<Counts>>;
  const std::lock_guard lock(mutex);
  counts_ = all->emplace_back(std::make_unique<Counts>()).get();
}

MeterScope::MeterScope(MemoryMeter& meter, Threads threads) : threads_(threads), before_(meter_of_thread) {
  meter_of_thread = meter.counts_;
  if (threads == Threads::All) before_of_process_ = meter_of_process.exchange(meter.counts_);
}

MeterScope::~MeterScope() {
  meter_of_thread = before_;
  if (threads_ == Threads::All) meter_of_process = before_of_process_;
}

}  // namespace zerostep
