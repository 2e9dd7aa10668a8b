#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/file_descriptor.h"

namespace zerostep {

// Where shared memory may come from, in the order of preference: "memfd" (anonymous, bounded by memory alone, gone with its last
// process) or a directory (a file on tmpfs, unlinked as soon as every rank has it).
struct SegmentPlaces {
  std::vector<std::string> places = {"memfd", "/dev/shm"};
  uint64_t max_free_bytes = UINT64_MAX;  // a directory is taken to have no more than this: for tests

  // With ZEROSTEP_SHM_DIR, that place alone.
  static SegmentPlaces from_environment();
};

// Memory that several processes map. Every page exists before the first is touched: a full place is an error, never a SIGBUS.
class SharedSegment {
 public:
  SharedSegment() = default;
  // Zeroed, on a page boundary. Throws RunError saying what is missing.
  static SharedSegment create(size_t num_bytes, const std::string& place, const SegmentPlaces& places);
  // Of another process, from its address(). Throws RunError where that process or place is out of reach.
  static SharedSegment open(const std::string& address, bool writable);
  ~SharedSegment() { release(); }
  SharedSegment(SharedSegment&& other) noexcept { swap(other); }
  SharedSegment& operator=(SharedSegment&& other) noexcept {
    swap(other);
    return *this;
  }

  void* data() const { return data_; }
  size_t num_bytes() const { return num_bytes_; }
  // How other processes of this host find the segment, until unlink_name().
  const std::string& address() const { return address_; }
  // From now on nobody else can open it, and nothing of it outlives the processes that have.
  void unlink_name();

 private:
  void map(int fd, bool writable);
  void release();
  void swap(SharedSegment& other) noexcept;

  void* data_ = nullptr;
  size_t num_bytes_ = 0, mapped_bytes_ = 0;
  FileDescriptor file_;
  std::string path_, address_;
};

}  // namespace zerostep
