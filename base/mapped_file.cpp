#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/file_descriptor.h"

namespace zerostep {
namespace {

// What a repository holds instead of a large file until Git LFS brings it.
bool is_lfs_pointer(std::string_view text) {
  constexpr size_t kLongest = 1024;  // of the format
  return text.size() <= kLongest && text.starts_with("version https://git-lfs.github.com/spec/");
}

void require_regular(const std::string& path, mode_t mode) {
  if (!S_ISREG(mode))
    fail_input("'{}' is {}; a regular file is expected", path, S_ISDIR(mode) ? "a directory" : "a device, pipe or socket");
}

void unmap(std::span<const std::byte> bytes) {
  if (!bytes.empty()) ::munmap(const_cast<std::byte*>(bytes.data()), bytes.size());
}

}  // namespace

void require_regular_file(const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) == 0) require_regular(path, status.st_mode);
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a FIFO must not wait for its writer.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) fail_input("cannot open '{}' for reading: {}; give the path of a readable file", path, std::strerror(errno));
  struct stat status = {};
  if (::fstat(file.get(), &status) != 0) fail_run("cannot read the size of '{}': {}", path, std::strerror(errno));
  require_regular(path, status.st_mode);
  const auto num_bytes = static_cast<size_t>(status.st_size);
  if (num_bytes == 0) return;
  void* data = ::mmap(nullptr, num_bytes, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail_run("cannot map the {} bytes of '{}' into memory: {}", num_bytes, path, std::strerror(errno));
  bytes_ = {static_cast<const std::byte*>(data), num_bytes};
  if (!is_lfs_pointer(text())) return;
  unmap(bytes_);
  fail_input("'{}' is a pointer of Git LFS: {} bytes that stand for the file. Fetch it (`git lfs pull` in its repository) or download it",
             path, num_bytes);
}

void MappedFile::populate(size_t begin, size_t size) const {
#ifdef MADV_POPULATE_READ
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE)), from = begin / page * page;
  ::madvise(const_cast<std::byte*>(bytes_.data()) + from, begin + size - from, MADV_POPULATE_READ);
#else
  (void)begin, (void)size;
#endif
}

void MappedFile::release(size_t begin, size_t size) const {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE)), from = (begin + page - 1) / page * page,
             to = (begin + size) / page * page;
  if (from < to) ::madvise(const_cast<std::byte*>(bytes_.data()) + from, to - from, MADV_DONTNEED);
}

MappedFile::~MappedFile() { unmap(bytes_); }

MappedFile::MappedFile(MappedFile&& other) noexcept : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    unmap(bytes_);
    path_ = std::move(other.path_);
    bytes_ = std::exchange(other.bytes_, {});
  }
  return *this;
}

}  // namespace zerostep
