#include "runtime/memory/memory_meter.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "base/dtype.h"
#include "base/format.h"
#include "base/program_name.h"
#include "runtime/memory/page_heap.h"

namespace zerostep {
namespace {

thread_local MemoryMeter::Counts* meter_of_thread = nullptr;
std::atomic<MemoryMeter::Counts*> meter_of_process = nullptr;  // of threads that have none

MemoryMeter::Counts* current_meter() {
  return meter_of_thread != nullptr ? meter_of_thread : meter_of_process.load(std::memory_order_relaxed);
}

constexpr size_t kHeaderBytes = 64;
constexpr size_t kHeapFrom = 4096;              // below, malloc's own caches are as good
constexpr size_t kPageBytes = size_t{2} << 20;  // huge pages, where the system has them

// Lies in front of every block.
struct Header {
  MemoryMeter::Counts* meter;
  size_t counted;  // bytes asked for
};
static_assert(sizeof(Header) <= kHeaderBytes);

void add(MemoryMeter::Counts& meter, int64_t num_bytes) {
  const int64_t live = meter.live.fetch_add(num_bytes, std::memory_order_relaxed) + num_bytes;
  const int64_t arenas = meter.arenas.load(std::memory_order_relaxed), limit = meter.device_limit.load(std::memory_order_relaxed);
  if (live > limit - arenas) {
    meter.live.fetch_sub(num_bytes, std::memory_order_relaxed);
    throw MemoryError(fmt::format("{}, and run.device_memory is {} bytes ({}): raise it, or take what `{} plan` says needs less",
                                  needed_text(arenas, live - num_bytes, num_bytes), grouped(limit), human_bytes(limit), program_name()));
  }
  int64_t peak = meter.peak.load(std::memory_order_relaxed);
  while (live > peak && !meter.peak.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
  }
}

}  // namespace

class MeteredAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t num_bytes) override {
    if (num_bytes == 0) return {nullptr, nullptr, &MeteredAllocator::release, c10::Device(c10::DeviceType::CPU)};
    MemoryMeter::Counts* meter = current_meter();
    if (meter != nullptr) add(*meter, static_cast<int64_t>(num_bytes));
    void* block = nullptr;
    try {
      block = num_bytes < kHeapFrom ? small_block(num_bytes) : heap_block(block_bytes(num_bytes), meter);
    } catch (...) {
      if (meter != nullptr) meter->live.fetch_sub(static_cast<int64_t>(num_bytes), std::memory_order_relaxed);
      throw;
    }
    *static_cast<Header*>(block) = {meter, num_bytes};
    void* data = static_cast<std::byte*>(block) + kHeaderBytes;
    return {data, data, &MeteredAllocator::release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &MeteredAllocator::release; }
  void copy_data(void* target, const void* source, size_t count) const override { default_copy_data(target, source, count); }

  void release_free() {
    const std::lock_guard lock(mutex_);
    heap_.release_free(SIZE_MAX);
    most_ = live_;
  }

  static MeteredAllocator& instance() {
    static MeteredAllocator* allocator = new MeteredAllocator;  // outlives every tensor
    return *allocator;
  }

 private:
  // What a tensor takes of the heap, whose places begin at multiples of 64 bytes.
  static size_t block_bytes(size_t num_bytes) {
    return static_cast<size_t>(round_up(static_cast<int64_t>(num_bytes), kAlignmentBytes)) + kHeaderBytes;
  }

  static void* small_block(size_t num_bytes) {
    void* block = nullptr;
    if (posix_memalign(&block, kAlignmentBytes, num_bytes + kHeaderBytes) != 0)
      throw MemoryError(fmt::format("out of host memory: a tensor of {} bytes finds none", num_bytes));
    return block;
  }

  void* heap_block(size_t bytes, MemoryMeter::Counts* meter) {
    const std::lock_guard lock(mutex_);
    const PageHeap::Block block = heap_.take(bytes);
    live_ += bytes;
    most_ = std::max(most_, live_);
    if (block.new_pages > 0) {
      // A free place of the right size is not always among the pages that are there. What is given back for that is taken and zeroed again
      // in every step, so a little more than blocks take may stay. How much is a choice: a step of any mode needs up to a tenth, and an
      // eighth is the next power of two.
      const size_t bound = most_ + most_ / 8 + 2 * kPageBytes;
      if (heap_.held_bytes() > bound) heap_.release_free(heap_.held_bytes() - bound);
      if (meter != nullptr) meter->system_allocations.fetch_add(1, std::memory_order_relaxed);
    }
    return block.data;
  }

  static void release(void* data) {
    if (data == nullptr) return;
    auto* block = static_cast<std::byte*>(data) - kHeaderBytes;
    const Header header = *reinterpret_cast<Header*>(block);
    if (header.meter != nullptr) header.meter->live.fetch_sub(static_cast<int64_t>(header.counted), std::memory_order_relaxed);
    if (header.counted < kHeapFrom)
      std::free(block);
    else
      instance().give(block, block_bytes(header.counted));
  }

  void give(std::byte* block, size_t bytes) {
    const std::lock_guard lock(mutex_);
    heap_.give(block, bytes);
    live_ -= bytes;
  }

  std::mutex mutex_;
  PageHeap heap_{kPageBytes};
  size_t live_ = 0, most_ = 0;  // bytes of blocks of the heap, and the most of them
};

std::string needed_text(int64_t arena_bytes, int64_t tensor_bytes, int64_t one_more) {
  const int64_t all = arena_bytes + tensor_bytes + one_more;
  return fmt::format("needs {} bytes ({}), {} of them in arenas, {} in tensors that are there and {} for one more", grouped(all),
                     human_bytes(all), grouped(arena_bytes), grouped(tensor_bytes), grouped(one_more));
}

void install_metered_allocator() {
  static std::once_flag once;
  std::call_once(once, [] { c10::SetCPUAllocator(&MeteredAllocator::instance(), /*priority=*/100); });
}

void release_free_memory() { MeteredAllocator::instance().release_free(); }

MemoryMeter::MemoryMeter() {
  static std::mutex mutex;
  static auto* all = new std::vector<std::unique_ptr<Counts>>;
  const std::lock_guard lock(mutex);
  counts_ = all->emplace_back(std::make_unique<Counts>()).get();
}

MeterScope::MeterScope(MemoryMeter& meter, Threads threads) : threads_(threads), former_counts_(meter_of_thread) {
  meter_of_thread = meter.counts_;
  if (threads == Threads::All) former_process_counts_ = meter_of_process.exchange(meter.counts_);
}

MeterScope::~MeterScope() {
  meter_of_thread = former_counts_;
  if (threads_ == Threads::All) meter_of_process = former_process_counts_;
}

}  // namespace zerostep
