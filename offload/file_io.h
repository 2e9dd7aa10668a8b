#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "offload/io/io_queue.h"

namespace zerostep {

// A file that is open for reading and writing. Direct: opened past the page cache, so that requests are whole multiples of
// kDirectAlignment in memory, file and size.
struct IoFile {
  std::string path;
  int descriptor = -1;
  bool is_direct = false;
};

// Bytes of a file and where they lie in memory. The offset in a direct file is a multiple of kDirectAlignment; memory and size are best
// multiples of it too, as others go through one copy more. The file belongs to the transfer up to the next such multiple: a write fills
// it with zeros.
struct FileTransfer {
  const IoFile* file = nullptr;
  int64_t offset = 0;
  std::byte* memory = nullptr;
  int64_t num_bytes = 0;
};

struct FileIoCounts {
  int64_t bytes_read = 0, bytes_written = 0;
  int64_t requests = 0;   // handed to the system, those that continue or repeat others too
  int64_t continued = 0;  // completed in part
  int64_t repeated = 0;   // to be made again (EINTR, EAGAIN)
  int64_t copied = 0;     // for their alignment
};

// Reads and writes files in requests of AioOptions::block_size, as many in flight as the options say. Any thread; one transfer at a time,
// others wait for it.
class FileIo {
 public:
  // InputError where an option is out of range.
  explicit FileIo(const AioOptions& options);
  ~FileIo();
  FileIo(const FileIo&) = delete;
  FileIo& operator=(const FileIo&) = delete;

  // Block the caller until all is done. RunError naming the operation, the file, offset, size and what the system says, when nothing is in
  // flight any more; where that cannot be waited for (the queue fails, or a request takes longer than AioOptions::stall_seconds), this and
  // every later call fails, and what is in flight is abandoned.
  void read(std::span<const FileTransfer> transfers) { run(false, transfers); }
  void write(std::span<const FileTransfer> transfers) { run(true, transfers); }

  // Whether the system may still read or write memory and files of a transfer that has failed: neither may be given back then.
  bool has_abandoned() const;
  FileIoCounts counts() const;
  // "io_uring, 8 requests of 1.00 MiB in flight"
  std::string description() const;

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  // A request's place: the block that it transfers and how far it has come.
  struct Slot {
    FileTransfer block;
    int64_t num_done = 0;
    int fruitless = 0;  // completions in a row without progress
    bool is_busy = false;
    bool is_copied = false;                 // through `copy`
    std::unique_ptr<std::byte, Free> copy;  // block_size bytes, made when first needed
  };

  void run(bool is_write, std::span<const FileTransfer> transfers);
  IoRequest begin(bool is_write, const FileTransfer& block);
  IoRequest request(bool is_write, int slot);
  // Whether the rest is to be asked for. `failure` becomes what ends the transfer, if it was empty.
  bool is_unfinished(bool is_write, const IoCompletion& completion, std::string& failure);
  // What is in flight is abandoned.
  [[noreturn]] void give_up(bool is_write, int num_in_flight, const std::exception& error);

  AioOptions options_;
  mutable std::mutex mutex_;
  std::vector<Slot> slots_;
  std::vector<int> idle_;
  FileIoCounts counts_;
  std::string end_;  // why nothing can be transferred any more
  bool has_abandoned_ = false;
  std::unique_ptr<IoQueue> queue_;
};

}  // namespace zerostep
