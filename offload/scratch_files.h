#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/stream.h"
#include "offload/file_io.h"
#include "offload/scratch_folder.h"

namespace zerostep {

// A buffer that rests in files, in chunks that are fetched and written one by one; the last chunk may be shorter.
struct FileBuffer {
  std::string name;
  int64_t num_bytes = 0, chunk_bytes = 0;

  int num_chunks() const { return static_cast<int>((num_bytes + chunk_bytes - 1) / chunk_bytes); }
  int64_t bytes_of(int chunk) const { return std::min(chunk_bytes, num_bytes - chunk * chunk_bytes); }
};

struct ScratchOptions {
  std::string key = "nvme_path";            // of the configuration, in messages
  std::vector<std::string> folders;         // its value: one for each disk that the bytes are spread over
  int64_t stripe_bytes = int64_t{1} << 20;  // that lie in one folder before the next has its turn; rounded up to kDirectAlignment
  int rank = 0;                             // for names and messages
  bool verify = false;                      // `aio.verify`: checksums of chunks, kept in memory
  AioOptions aio;
  // Of what every rank of a host finds alike, once for each thing; nullptr: the log.
  std::function<void(const std::string&)> warn = nullptr;
  // Of what this rank has done and no other has to do any more: files of dead runs that it removed; nullptr: the log.
  std::function<void(const std::string&)> warn_of_own = nullptr;
};

// A rank's buffers in files, one in each folder (ScratchFile). Their space is taken from the disks when the object is made, so that a full
// disk shows before the first step; contents are zeros until they are written.
class ScratchFiles {
 public:
  // Makes folders that are not there. InputError where that fails, or no file can be made there; RunError naming the folder, the bytes
  // needed and the bytes free where the disk is full, or what else the system says.
  ScratchFiles(ScratchOptions options, std::vector<FileBuffer> buffers);
  ~ScratchFiles();
  ScratchFiles(const ScratchFiles&) = delete;
  ScratchFiles& operator=(const ScratchFiles&) = delete;

  // What the buffers take of each folder.
  static std::vector<ScratchDemand> demands(const std::vector<FileBuffer>& buffers, const ScratchOptions& options);
  // Bytes of all files.
  int64_t num_bytes() const;
  // Bytes that the transfer of a chunk moves.
  int64_t bytes_of(int buffer, int chunk) const { return buffers_[static_cast<size_t>(buffer)].bytes_of(chunk); }

  // Enqueue the transfer of a chunk between its file and bytes_of(chunk) bytes of memory, at best aligned to kDirectAlignment. The event is
  // when memory or file have it; its failure names the chunk too. Memory and object outlive that. A chunk is used by one transfer at a
  // time; reads go on beside writes.
  Event read(Stream& lane, int buffer, int chunk, void* memory);
  Event write(Stream& lane, int buffer, int chunk, const void* memory);

  // Whether the system may still use memory and files of a transfer that has failed; the files are then never closed, and the memory must
  // not be given back.
  bool has_abandoned() const { return reader_.has_abandoned() || writer_.has_abandoned(); }
  FileIoCounts read_counts() const { return reader_.counts(); }
  FileIoCounts write_counts() const { return writer_.counts(); }
  // How files are read and written here, for the log: "io_uring, 8 requests of 1.00 MiB in flight, direct".
  std::string description() const;
  // As the options name them.
  const std::vector<std::string>& folders() const { return options_.folders; }

 private:
  std::vector<FileTransfer> transfers(int buffer, int chunk, std::byte* memory) const;
  void transfer(bool is_write, int buffer, int chunk, std::byte* memory);

  ScratchOptions options_;
  std::vector<FileBuffer> buffers_;
  std::vector<std::vector<std::string>> checksums_;  // per buffer and chunk; "": never written
  std::vector<int64_t> begins_;                      // of buffers, in the bytes that are spread over the folders
  std::vector<std::unique_ptr<ScratchFile>> files_;  // one in each folder
  FileIo reader_, writer_;
};

}  // namespace zerostep
