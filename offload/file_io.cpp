#include "offload/file_io.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "base/dtype.h"
#include "base/error.h"
#include "base/format.h"
#include "base/keep_for_ever.h"
#include "base/nth.h"
#include "offload/disk.h"

namespace zerostep {
namespace {

constexpr int64_t kAlignment = kDirectAlignment;
constexpr int64_t kMaxBlock = int64_t{1} << 30;
constexpr int kMaxFruitless = 1000, kPatience = 8;  // from the ninth on a completion without progress is followed by a pause

AioOptions checked(AioOptions options) {
  const auto require = [](const char* key, int64_t value, int64_t max) {
    if (value < 1 || value > max) fail_input("aio.{} is {}; 1 to {} is expected", key, value, max);
  };
  require("block_size", options.block_size, kMaxBlock);
  require("queue_depth", options.queue_depth, 4096);
  require("intra_op_parallelism", options.intra_op_parallelism, 1024);
  options.block_size = round_up(options.block_size, kAlignment);
  if (!options.make_queue) options.make_queue = io_queues();
  return options;
}

bool is_aligned(const void* memory) { return reinterpret_cast<uintptr_t>(memory) % kAlignment == 0; }

std::string text(bool is_write, const FileTransfer& block) {
  return fmt::format("{} {} bytes at offset {} of {}", is_write ? "write" : "read", block.num_bytes, block.offset, block.file->path);
}

// The blocks of several transfers one after the other.
class Blocks {
 public:
  Blocks(std::span<const FileTransfer> transfers, int64_t block_size) : transfers_(transfers), block_size_(block_size) { skip_finished(); }
  bool empty() const { return transfers_.empty(); }
  FileTransfer pop() {
    FileTransfer block = transfers_.front();
    block.offset += begun_, block.memory += begun_;
    block.num_bytes = std::min(block.num_bytes - begun_, block_size_);
    begun_ += block.num_bytes;
    skip_finished();
    return block;
  }

 private:
  void skip_finished() {
    while (!transfers_.empty() && begun_ == transfers_.front().num_bytes) transfers_ = transfers_.subspan(1), begun_ = 0;
  }
  std::span<const FileTransfer> transfers_;
  int64_t block_size_, begun_ = 0;
};

}  // namespace

FileIo::FileIo(const AioOptions& options)
    : options_(checked(options)), slots_(static_cast<size_t>(options_.max_in_flight())), queue_(options_.make_queue(options_)) {
  for (int slot = options_.max_in_flight(); slot > 0;) idle_.push_back(--slot);
}

FileIo::~FileIo() {
  if (has_abandoned_) keep_for_ever(std::move(slots_));
}

bool FileIo::has_abandoned() const {
  std::lock_guard lock(mutex_);
  return has_abandoned_;
}

FileIoCounts FileIo::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

std::string FileIo::description() const {
  return fmt::format("{}, {} requests of {} in flight", queue_->name(), options_.max_in_flight(), human_bytes(options_.block_size));
}

void FileIo::run(bool is_write, std::span<const FileTransfer> transfers) {
  std::lock_guard lock(mutex_);
  if (!end_.empty()) fail_run("{}", end_);
  for (const FileTransfer& transfer : transfers)
    if (transfer.num_bytes < 0 || transfer.offset < 0 || (transfer.file->is_direct && transfer.offset % kAlignment != 0))
      fail_protocol("[file I/O] cannot {}: the offset must be a multiple of {}", text(is_write, transfer), kAlignment);
  Blocks blocks(transfers, options_.block_size);
  std::string failure;
  std::vector<IoRequest> requests;
  int num_in_flight = 0;
  try {
    for (;;) {
      if (options_.overlap_events || num_in_flight == 0)
        while (failure.empty() && !blocks.empty() && !idle_.empty()) requests.push_back(begin(is_write, blocks.pop()));
      num_in_flight += static_cast<int>(requests.size());
      counts_.requests += std::ssize(requests);
      queue_->submit(requests);
      requests.clear();
      if (num_in_flight == 0) break;
      const auto completions = queue_->wait(options_.stall_seconds);
      if (completions.empty()) fail_run("no answer of the disk within {} seconds ({})", options_.stall_seconds, queue_->name());
      for (const IoCompletion& completion : completions) {
        --num_in_flight;
        if (is_unfinished(is_write, completion, failure))
          requests.push_back(request(is_write, completion.slot));
        else
          nth(slots_, completion.slot).is_busy = false, idle_.push_back(completion.slot);
      }
    }
  } catch (const std::exception& error) {
    give_up(is_write, num_in_flight, error);
  }
  if (!failure.empty()) throw RunError(failure);
}

IoRequest FileIo::begin(bool is_write, const FileTransfer& block) {
  const int index = idle_.back();
  idle_.pop_back();
  Slot& slot = nth(slots_, index);
  slot.block = block;
  slot.num_done = 0, slot.fruitless = 0, slot.is_busy = true;
  slot.is_copied = block.file->is_direct && (!is_aligned(block.memory) || block.num_bytes % kAlignment != 0);
  if (slot.is_copied) {
    ++counts_.copied;
    const auto capacity = static_cast<size_t>(options_.block_size), size = static_cast<size_t>(block.num_bytes);
    if (!slot.copy) slot.copy.reset(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, capacity)));
    if (!slot.copy) throw std::bad_alloc();
    if (is_write)
      std::memset(std::copy_n(block.memory, size, slot.copy.get()), 0, static_cast<size_t>(round_up(block.num_bytes, kAlignment)) - size);
  }
  return request(is_write, index);
}

IoRequest FileIo::request(bool is_write, int index) {
  const Slot& slot = nth(slots_, index);
  const FileTransfer& block = slot.block;
  const int64_t rest = block.num_bytes - slot.num_done;
  return {block.file->descriptor,
          is_write,
          block.offset + slot.num_done,
          (slot.is_copied ? slot.copy.get() : block.memory) + slot.num_done,
          slot.is_copied ? round_up(rest, kAlignment) : rest,
          index};
}

bool FileIo::is_unfinished(bool is_write, const IoCompletion& completion, std::string& failure) {
  Slot& slot = nth(slots_, completion.slot);
  const FileTransfer& block = slot.block;
  const int64_t result = completion.result, rest = block.num_bytes - slot.num_done;
  const auto fail = [&](const std::string& reason) {
    if (failure.empty()) failure = fmt::format("cannot {}: {}", text(is_write, block), reason);
    return false;
  };
  if (result >= rest) {
    (is_write ? counts_.bytes_written : counts_.bytes_read) += block.num_bytes;
    if (slot.is_copied && !is_write) std::copy_n(slot.copy.get(), block.num_bytes, block.memory);
    return false;
  }
  const bool is_passing = result == -EINTR || result == -EAGAIN;
  if (result < 0 && !is_passing) return fail(disk_failure(static_cast<int>(-result)));
  if (result == 0 && !is_write) return fail(fmt::format("the file ends {} bytes before", rest));
  ++(is_passing ? counts_.repeated : counts_.continued);
  const int64_t progress = is_passing ? 0 : block.file->is_direct ? result / kAlignment * kAlignment : result;
  slot.num_done += progress;
  slot.fruitless = progress > 0 ? 0 : slot.fruitless + 1;
  if (slot.fruitless == kMaxFruitless)
    return fail(fmt::format("{} attempts without progress ({})", kMaxFruitless,
                            is_passing ? std::strerror(static_cast<int>(-result)) : "fewer bytes than a sector, or none"));
  if (slot.fruitless > kPatience) ::usleep(1000);
  return failure.empty();
}

void FileIo::give_up(bool is_write, int num_in_flight, const std::exception& error) {
  const auto slot = std::find_if(slots_.begin(), slots_.end(), [](const Slot& s) { return s.is_busy; });
  end_ = slot == slots_.end() ? error.what() : fmt::format("cannot {}: {}", text(is_write, slot->block), error.what());
  has_abandoned_ = num_in_flight > 0;
  throw RunError(end_);
}

}  // namespace zerostep
