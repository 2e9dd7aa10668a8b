#include "sharding/comm/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sstream>
#include <utility>

#include "base/disk_space.h"
#include "base/dtype.h"
#include "base/error.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace zerostep {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr uint64_t kMarginBytes = uint64_t{4} << 20;  // left free for others
constexpr const char* kMemfd = "memfd";

// Bytes mapped for a segment: its own and a last page that identifies it.
size_t mapped_size(size_t num_bytes) { return static_cast<size_t>(round_up(static_cast<int64_t>(num_bytes), kPageBytes)) + kPageBytes; }

uint64_t& identity(void* data, size_t mapped_bytes) {
  return *reinterpret_cast<uint64_t*>(static_cast<std::byte*>(data) + mapped_bytes - sizeof(uint64_t));
}

void check_free_space(const std::string& directory, size_t num_bytes, uint64_t max_free_bytes) {
  const auto space = disk_space(directory);
  if (!space) fail_run("shared memory in {}: {}", directory, std::strerror(errno));
  const uint64_t free_bytes = std::min(static_cast<uint64_t>(space->free), max_free_bytes);
  if (num_bytes + kMarginBytes > free_bytes)
    fail_run(
        "shared memory in {}: {} bytes and a margin of {} are needed, {} are free. Enlarge it (docker run --shm-size=...) or name another "
        "tmpfs with ZEROSTEP_SHM_DIR.",
        directory, num_bytes, kMarginBytes, free_bytes);
}

}  // namespace

SegmentPlaces SegmentPlaces::from_environment() {
  SegmentPlaces places;
  if (const char* directory = std::getenv("ZEROSTEP_SHM_DIR"); directory && *directory) places.places = {directory};
  return places;
}

SharedSegment SharedSegment::create(size_t num_bytes, const std::string& place, const SegmentPlaces& places) {
  SharedSegment segment;
  segment.num_bytes_ = num_bytes;
  segment.mapped_bytes_ = mapped_size(num_bytes);
  const uint64_t id = (static_cast<uint64_t>(std::random_device{}()) << 32) | std::random_device{}();
  std::string where;
  if (place == kMemfd) {
    segment.file_ = FileDescriptor(memfd_create("zerostep", MFD_CLOEXEC));
    if (!segment.file_.is_open()) fail_run("anonymous shared memory (memfd_create): {}", std::strerror(errno));
    where = fmt::format("/proc/{}/fd/{}", getpid(), segment.file_.get());
  } else {
    check_free_space(place, segment.mapped_bytes_, places.max_free_bytes);
    where = fmt::format("{}/zerostep-{}-{:016x}", place, getpid(), id);
    segment.file_ = FileDescriptor(::open(where.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!segment.file_.is_open()) fail_run("shared memory in {}: {}", where, std::strerror(errno));
    segment.path_ = where;
  }
  // Takes the pages now; a place that is full says so here.
  int error = EINTR;
  while (error == EINTR) error = posix_fallocate(segment.file_.get(), 0, static_cast<off_t>(segment.mapped_bytes_));
  if (error != 0) fail_run("{} bytes of shared memory in {}: {}", num_bytes, place, std::strerror(error));
  segment.map(segment.file_.get(), true);
  madvise(segment.data_, segment.mapped_bytes_, MADV_HUGEPAGE);                                    // a hint
  if (madvise(segment.data_, segment.mapped_bytes_, MADV_POPULATE_WRITE) != 0 && errno != EINVAL)  // EINVAL: before Linux 5.14
    fail_run("{} bytes of shared memory in {}: {}", num_bytes, place, std::strerror(errno));
  identity(segment.data_, segment.mapped_bytes_) = id;
  segment.address_ = fmt::format("{} {} {}", num_bytes, id, where);
  return segment;
}

SharedSegment SharedSegment::open(const std::string& address, bool writable) {
  SharedSegment segment;
  std::istringstream in(address);
  uint64_t id = 0;
  std::string where;
  in >> segment.num_bytes_ >> id >> std::ws;
  std::getline(in, where);
  segment.mapped_bytes_ = mapped_size(segment.num_bytes_);
  segment.file_ = FileDescriptor(::open(where.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  const int fd = segment.file_.get();
  if (fd < 0) fail_run("shared memory of another rank, {}: {}", where, std::strerror(errno));
  struct stat info {};
  // Another PID namespace may hold some other file under that name.
  const bool right_size = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && static_cast<size_t>(info.st_size) == segment.mapped_bytes_;
  if (right_size) segment.map(fd, writable);
  if (!right_size || identity(segment.data_, segment.mapped_bytes_) != id)
    fail_run("shared memory of another rank, {}: it is not the one that was announced (does each rank have its own PID namespace?)", where);
  madvise(segment.data_, segment.mapped_bytes_, MADV_POPULATE_READ);  // page tables in advance; without it they fill on use
  segment.unlink_name();
  return segment;
}

void SharedSegment::map(int fd, bool writable) {
  void* data = mmap(nullptr, mapped_bytes_, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) fail_run("{} bytes of shared memory could not be mapped: {}", num_bytes_, std::strerror(errno));
  data_ = data;
}

void SharedSegment::unlink_name() {
  if (!path_.empty()) unlink(path_.c_str());
  path_.clear();
  file_ = {};
}

void SharedSegment::release() {
  unlink_name();
  if (data_) munmap(data_, mapped_bytes_);
  data_ = nullptr;
}

void SharedSegment::swap(SharedSegment& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(num_bytes_, other.num_bytes_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
  std::swap(file_, other.file_);
  std::swap(path_, other.path_);
  std::swap(address_, other.address_);
}

}  // namespace zerostep
