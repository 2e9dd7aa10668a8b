#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace zerostep {

// InputError naming the path where a directory, a device, a pipe or a socket lies there: opening or reading one may never end. Nothing is
// said where nothing lies there.
void require_regular_file(const std::string& path);

// A file mapped read-only for as long as the object lives. Pages are read when they are first touched, so a file may be larger
// than memory. Movable, not copyable; views die with the object. A file that another process cuts short meanwhile gives SIGBUS.
class MappedFile {
 public:
  // InputError, naming the path, when the file does not exist, may not be read, is not a regular file, or is a Git LFS pointer; RunError
  // when mapping fails. An empty file is valid and has no bytes.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  // Brings bytes [begin, begin + size) into memory and maps them in one call to the kernel instead of a fault every few pages. A hint.
  void populate(size_t begin, size_t size) const;
  // Takes the whole pages within bytes [begin, begin + size) out of this process's memory, so that a file that is read through once does
  // not count in its resident set. They stay valid: a later touch brings them back, from the page cache or the file. A hint.
  void release(size_t begin, size_t size) const;
  size_t num_bytes() const { return bytes_.size(); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
};

}  // namespace zerostep
