#pragma once
#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "offload/tier.h"

namespace zerostep {

// The calls to the operating system by which a checkpoint reaches the disk, one by one, so that tests can let any of them fail. As the
// system's own they return -1 (write: or fewer bytes) and set errno.
class Disk {
 public:
  virtual ~Disk() = default;
  virtual int open(const std::string& path, int flags);
  virtual ssize_t write(int file, const void* data, size_t size);
  virtual int truncate(int file, off_t size);
  virtual int sync(int file);
  virtual int rename(const std::string& from, const std::string& to);
  virtual int make_directory(const std::string& path);
  static Disk& real();
};

// What errno says of a file that could not be read or written; of a full disk, whatever its file system calls that, "no space".
std::string disk_failure(int error);

// `path` with its content on the disk, or not at all: a file beside it of a name that no other process has, written, synchronised and
// renamed. RunError naming the path.
void write_durably(Disk& disk, const std::string& path, std::string_view text);
// The entries of a directory are on the disk.
void sync_directory(Disk& disk, const std::string& path);
// Renames and says what failed.
void rename_durably(Disk& disk, const std::string& from, const std::string& to);

// Writes `size` bytes from memory to a new file at the speed of the disk: past the page cache where the file system lets it, in which case
// `data` is best aligned to kDirectAlignment and readable up to a multiple of it. On the disk when the call returns. RunError naming the
// path; what was written is removed.
inline constexpr size_t kDirectAlignment = static_cast<size_t>(kFileAlignmentBytes);
void write_file_directly(Disk& disk, const std::string& path, const std::byte* data, size_t size);

}  // namespace zerostep
