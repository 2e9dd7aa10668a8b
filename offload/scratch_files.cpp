#include "offload/scratch_files.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/content_hash.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/keep_for_ever.h"
#include "base/nth.h"
#include "offload/tier.h"

namespace zerostep {
namespace {

constexpr int64_t kAlignment = kFileAlignmentBytes;

ScratchOptions checked(ScratchOptions options) {
  if (options.folders.empty()) fail_input("{} is not given for what rests in files", options.key);
  if (options.stripe_bytes < 1) fail_input("stripes of {} bytes: at least 1 is expected", options.stripe_bytes);
  options.stripe_bytes = round_up(options.stripe_bytes, kAlignment);
  if (!options.aio.make_queue) options.aio.make_queue = io_queues();
  for (auto* warn : {&options.warn, &options.warn_of_own})
    if (!*warn) *warn = [](const std::string& text) { spdlog::warn("{}", text); };
  return options;
}

int64_t aligned_bytes(const FileBuffer& buffer) {
  if (buffer.num_bytes == 0) return 0;
  const int last = buffer.num_chunks() - 1;
  return last * round_up(buffer.chunk_bytes, kAlignment) + round_up(buffer.bytes_of(last), kAlignment);
}

std::string checksum(const std::byte* memory, int64_t num_bytes) {
  return ContentHash().add(std::string_view(reinterpret_cast<const char*>(memory), static_cast<size_t>(num_bytes))).hex();
}

}  // namespace

ScratchFiles::ScratchFiles(ScratchOptions options, std::vector<FileBuffer> buffers)
    : options_(checked(std::move(options))), buffers_(std::move(buffers)), reader_(options_.aio), writer_(options_.aio) {
  int64_t begin = 0;
  for (const FileBuffer& buffer : buffers_) {
    if (buffer.num_bytes < 0 || buffer.chunk_bytes < 1)
      fail_protocol("[file tier] {}: chunks of {} of {} bytes", buffer.name, buffer.chunk_bytes, buffer.num_bytes);
    begins_.push_back(begin);
    begin += aligned_bytes(buffer);
    checksums_.emplace_back(options_.verify ? static_cast<size_t>(buffer.num_chunks()) : 0);
  }
  for (const ScratchDemand& demand : demands(buffers_, options_))
    files_.push_back(std::make_unique<ScratchFile>(demand, options_.rank, options_.warn, options_.warn_of_own));
}

ScratchFiles::~ScratchFiles() {
  if (!has_abandoned()) return;
  for (const auto& file : files_) file->remove_name();
  keep_for_ever(std::move(files_));
}

std::vector<ScratchDemand> ScratchFiles::demands(const std::vector<FileBuffer>& buffers, const ScratchOptions& options) {
  int64_t sum = 0;
  for (const FileBuffer& buffer : buffers) sum += aligned_bytes(buffer);
  const int64_t folders = std::ssize(options.folders);
  if (folders > 1) sum = round_up(sum, round_up(options.stripe_bytes, kAlignment) * folders);
  std::vector<ScratchDemand> out;
  for (const std::string& folder : options.folders) out.push_back({options.key, folder, sum / folders});
  return out;
}

int64_t ScratchFiles::num_bytes() const {
  int64_t sum = 0;
  for (const ScratchDemand& demand : demands(buffers_, options_)) sum += demand.num_bytes;
  return sum;
}

Event ScratchFiles::read(Stream& lane, int buffer, int chunk, void* memory) {
  return lane.enqueue([=, this] { transfer(false, buffer, chunk, static_cast<std::byte*>(memory)); });
}

Event ScratchFiles::write(Stream& lane, int buffer, int chunk, const void* memory) {
  // FileIo writes from it alone.
  return lane.enqueue([=, this] { transfer(true, buffer, chunk, static_cast<std::byte*>(const_cast<void*>(memory))); });
}

std::string ScratchFiles::description() const {
  const auto direct = std::count_if(files_.begin(), files_.end(), [](const auto& file) { return file->file().is_direct; });
  return fmt::format("{}, {}", reader_.description(),
                     direct == std::ssize(files_) ? "direct"
                     : direct == 0                ? "through the page cache"
                                                  : "in part direct");
}

// Stripe n lies in folder n modulo their number.
std::vector<FileTransfer> ScratchFiles::transfers(int buffer, int chunk, std::byte* memory) const {
  const FileBuffer& b = nth(buffers_, buffer);
  const int64_t stripe = options_.stripe_bytes, num_folders = std::ssize(files_);
  int64_t begin = nth(begins_, buffer) + chunk * round_up(b.chunk_bytes, kAlignment), rest = b.bytes_of(chunk);
  if (num_folders == 1) return {{&files_.front()->file(), begin, memory, rest}};
  std::vector<FileTransfer> out;
  while (rest > 0) {
    const int64_t n = begin / stripe, within = begin % stripe, size = std::min(stripe - within, rest);
    out.push_back({&nth(files_, n % num_folders)->file(), n / num_folders * stripe + within, memory, size});
    begin += size, memory += size, rest -= size;
  }
  return out;
}

void ScratchFiles::transfer(bool is_write, int buffer, int chunk, std::byte* memory) {
  if (buffer < 0 || buffer >= std::ssize(buffers_) || chunk < 0 || chunk >= nth(buffers_, buffer).num_chunks())
    fail_protocol("[file tier] chunk {} of buffer {} does not exist", chunk, buffer);
  const FileBuffer& b = nth(buffers_, buffer);
  const auto pieces = transfers(buffer, chunk, memory);
  try {
    if (is_write) {
      if (options_.verify) nth(nth(checksums_, buffer), chunk) = checksum(memory, b.bytes_of(chunk));
      return writer_.write(pieces);
    }
    reader_.read(pieces);
    if (!options_.verify || nth(nth(checksums_, buffer), chunk).empty()) return;
    const std::string found = checksum(memory, b.bytes_of(chunk)), &expected = nth(nth(checksums_, buffer), chunk);
    if (found != expected)
      fail_run(
          "the {} bytes at offset {} of {} are not what was written there: checksum {}, expected {}. The disk or its driver loses data",
          b.bytes_of(chunk), pieces.front().offset, pieces.front().file->path, found, expected);
  } catch (const RunError& error) {
    fail_run("[file tier] rank {}: chunk {} of {}: {}. {}", options_.rank, chunk, b.name, error.what(), what_helps_a_disk(options_.key));
  }
}

}  // namespace zerostep
