#include "offload/scratch_files.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <string_view>
#include <utility>

#include "base/content_hash.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/format.h"
#include "base/host_name.h"
#include "base/nth.h"

namespace zerostep {
namespace {

constexpr int64_t kAlignment = kDirectAlignment;

ScratchOptions checked(ScratchOptions options) {
  if (options.folders.empty()) fail_input("no nvme_path is given for what rests in files");
  if (options.stripe_bytes < 1) fail_input("stripes of {} bytes: at least 1 is expected", options.stripe_bytes);
  options.stripe_bytes = round_up(options.stripe_bytes, kAlignment);
  if (!options.warn) options.warn = [](const std::string& text) { spdlog::warn("{}", text); };
  return options;
}

int64_t aligned_bytes(const FileBuffer& buffer) {
  if (buffer.num_bytes == 0) return 0;
  const int last = buffer.num_chunks() - 1;
  return last * round_up(buffer.chunk_bytes, kAlignment) + round_up(buffer.bytes_of(last), kAlignment);
}

int64_t free_bytes(const std::string& folder) {
  struct statvfs status = {};
  if (::statvfs(folder.c_str(), &status) != 0) return INT64_MAX;
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

// Whose files a process may remove: machines may share a folder.
std::string prefix() { return fmt::format("zerostep_scratch_{}_", host_name()); }

// Whether a file's name begins with the number of a process that lives: it is about to take the name away by itself.
bool is_of_living_process(const std::string& name_behind_prefix) {
  const auto process = static_cast<pid_t>(std::strtol(name_behind_prefix.c_str(), nullptr, 10));
  return process > 0 && (::kill(process, 0) == 0 || errno == EPERM);
}

std::string checksum(const std::byte* memory, int64_t num_bytes) {
  return ContentHash().add(std::string_view(reinterpret_cast<const char*>(memory), static_cast<size_t>(num_bytes))).hex();
}

}  // namespace

// One file in one folder.
class ScratchFiles::Folder {
 public:
  Folder(const std::string& folder, int64_t num_bytes, const ScratchOptions& options) : folder_(folder), num_bytes_(num_bytes) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (!std::filesystem::is_directory(folder)) fail_input("nvme_path: cannot make the folder {}: {}", folder, error.message());
    remove_what_the_dead_left(options);
    open_without_name(options.rank);
    try {
      take_space(options.rank);
      go_direct(options);
    } catch (...) {
      close();
      throw;
    }
  }
  ~Folder() { close(); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const IoFile& file() const { return file_; }

 private:
  void remove_what_the_dead_left(const ScratchOptions& options) const {
    std::error_code error;
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with(prefix()) || is_of_living_process(name.substr(prefix().size()))) continue;
      if (std::filesystem::remove(entry.path(), error))
        ++count;
      else if (error)
        options.warn(fmt::format("{} is left of a run that has ended and cannot be removed: {}", entry.path().string(), error.message()));
    }
    if (count > 0)
      options.warn(fmt::format("{} scratch file{} of runs that were killed {} removed from {}", count, count == 1 ? "" : "s",
                               count == 1 ? "was" : "were", folder_));
  }

  void open_without_name(int rank) {
    file_.path = fmt::format("{}/{}{}_{}_XXXXXX", folder_, prefix(), ::getpid(), rank);
    file_.descriptor = ::mkostemp(file_.path.data(), O_CLOEXEC);
    if (file_.descriptor < 0) fail_run("[file tier] cannot make the file {}: {}", file_.path, disk_failure(errno));
    has_name_ = ::unlink(file_.path.c_str()) != 0 && errno != ENOENT;
  }

  void take_space(int rank) const {
    const auto fail_full = [&](int64_t free, int error) {
      fail_run("[file tier] no space in {}: rank {} needs {} ({} bytes), {} are free ({}). Make space or set another nvme_path", folder_,
               rank, human_bytes(num_bytes_), num_bytes_, human_bytes(free), std::strerror(error));
    };
    const int64_t free = free_bytes(folder_);
    if (num_bytes_ > free) fail_full(free, ENOSPC);
    int error = 0;
    do error = num_bytes_ == 0 ? 0 : ::posix_fallocate(file_.descriptor, 0, num_bytes_);
    while (error == EINTR);
    if (error == ENOSPC || error == EDQUOT || error == EFBIG) fail_full(free, error);
    if (error != 0) fail_run("[file tier] cannot take {} bytes for {}: {}", num_bytes_, file_.path, std::strerror(error));
  }

  // Some file systems refuse direct access when it is asked for, others when it is tried.
  void go_direct(const ScratchOptions& options) {
    const int flags = ::fcntl(file_.descriptor, F_GETFL);
    if (num_bytes_ == 0 || flags < 0) return;
    int error = ::fcntl(file_.descriptor, F_SETFL, flags | O_DIRECT) != 0 ? errno : 0;
    if (error == 0) {
      const std::unique_ptr<void, decltype(&std::free)> zeros(std::aligned_alloc(kDirectAlignment, kDirectAlignment), &std::free);
      if (!zeros) throw std::bad_alloc();
      std::memset(zeros.get(), 0, kDirectAlignment);
      file_.is_direct = ::pwrite(file_.descriptor, zeros.get(), kDirectAlignment, 0) >= 0;
      if (file_.is_direct) return;
      error = errno;
      ::fcntl(file_.descriptor, F_SETFL, flags);
    }
    if (error != EINVAL) fail_run("[file tier] cannot write {}: {}", file_.path, disk_failure(error));
    options.warn(fmt::format(
        "the file system of {} has no direct access (O_DIRECT): what rests there goes through the page cache, slower and in memory besides",
        folder_));
  }

  void close() {
    if (has_name_) ::unlink(file_.path.c_str());
    ::close(file_.descriptor);
  }

  std::string folder_;
  int64_t num_bytes_;
  IoFile file_;
  bool has_name_ = false;
};

ScratchFiles::ScratchFiles(ScratchOptions options, std::vector<FileBuffer> buffers)
    : options_(checked(std::move(options))),
      buffers_(std::move(buffers)),
      reader_(options_.aio, options_.make_queue(options_.aio)),
      writer_(options_.aio, options_.make_queue(options_.aio)) {
  int64_t begin = 0;
  for (const FileBuffer& buffer : buffers_) {
    if (buffer.num_bytes < 0 || buffer.chunk_bytes < 1)
      fail_protocol("[file tier] {}: chunks of {} of {} bytes", buffer.name, buffer.chunk_bytes, buffer.num_bytes);
    begins_.push_back(begin);
    begin += aligned_bytes(buffer);
    checksums_.emplace_back(options_.verify ? static_cast<size_t>(buffer.num_chunks()) : 0);
  }
  for (const std::string& folder : options_.folders)
    folders_.push_back(std::make_unique<Folder>(folder, num_bytes() / std::ssize(options_.folders), options_));
}

ScratchFiles::~ScratchFiles() = default;

int64_t ScratchFiles::num_bytes(const std::vector<FileBuffer>& buffers, const ScratchOptions& options) {
  int64_t sum = 0;
  for (const FileBuffer& buffer : buffers) sum += aligned_bytes(buffer);
  const int64_t folders = std::ssize(options.folders);
  return folders <= 1 ? sum : round_up(sum, round_up(options.stripe_bytes, kAlignment) * folders);
}

Event ScratchFiles::read(Stream& lane, int buffer, int chunk, void* memory) {
  return lane.enqueue([=, this] { transfer(false, buffer, chunk, static_cast<std::byte*>(memory)); });
}

Event ScratchFiles::write(Stream& lane, int buffer, int chunk, const void* memory) {
  // FileIo writes from it alone.
  return lane.enqueue([=, this] { transfer(true, buffer, chunk, static_cast<std::byte*>(const_cast<void*>(memory))); });
}

std::string ScratchFiles::description() const {
  const auto direct = std::count_if(folders_.begin(), folders_.end(), [](const auto& folder) { return folder->file().is_direct; });
  return fmt::format("{}, {}", reader_.description(),
                     direct == std::ssize(folders_) ? "direct"
                     : direct == 0                  ? "through the page cache"
                                                    : "in part direct");
}

// Stripe n lies in folder n modulo their number.
std::vector<FileTransfer> ScratchFiles::transfers(int buffer, int chunk, std::byte* memory) const {
  const FileBuffer& b = nth(buffers_, buffer);
  const int64_t stripe = options_.stripe_bytes, num_folders = std::ssize(folders_);
  int64_t begin = nth(begins_, buffer) + chunk * round_up(b.chunk_bytes, kAlignment), rest = b.bytes_of(chunk);
  if (num_folders == 1) return {{&folders_.front()->file(), begin, memory, rest}};
  std::vector<FileTransfer> out;
  while (rest > 0) {
    const int64_t n = begin / stripe, within = begin % stripe, size = std::min(stripe - within, rest);
    out.push_back({&nth(folders_, n % num_folders)->file(), n / num_folders * stripe + within, memory, size});
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
    fail_run("[file tier] rank {}: chunk {} of {}: {}", options_.rank, chunk, b.name, error.what());
  }
}

}  // namespace zerostep
