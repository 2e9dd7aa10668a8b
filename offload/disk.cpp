#include "offload/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/unfinished_file.h"

namespace zerostep {
namespace {

constexpr size_t kWriteBytes = size_t{8} << 20;

[[noreturn]] void fail_path(const char* what, const std::string& path, int error) {
  fail_run("cannot {} {}: {}", what, path, disk_failure(error));
}

// Closed, and removed unless it was finished.
class NewFile {
 public:
  NewFile(Disk& disk, std::string path, int flags)
      : disk_(disk), path_(std::move(path)), file_(disk.open(path_, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | flags)), error_(errno) {}
  ~NewFile() {
    if (file_.is_open() && !finished_) ::unlink(path_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  bool opened() const { return file_.is_open(); }
  int error() const { return error_; }
  // 0, or errno.
  int write(const std::byte* data, size_t size) {
    while (size > 0) {
      const ssize_t n = disk_.write(file_.get(), data, std::min(size, kWriteBytes));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno;
      if (n == 0) return ENOSPC;
      data += n;
      size -= static_cast<size_t>(n);
    }
    return 0;
  }
  int truncate(size_t size) { return disk_.truncate(file_.get(), static_cast<off_t>(size)) < 0 ? errno : 0; }
  int finish() {
    if (disk_.sync(file_.get()) < 0) return errno;
    finished_ = true;
    return 0;
  }

 private:
  Disk& disk_;
  std::string path_;
  FileDescriptor file_;
  int error_;
  bool finished_ = false;
};

}  // namespace

std::string disk_failure(int error) {
  if (error == EMFILE) return fmt::format("{} (raise `ulimit -n`)", std::strerror(error));
  if (error != ENOSPC && error != EDQUOT && error != EFBIG) return std::strerror(error);
  return fmt::format("no space for it ({}{})", std::strerror(error), error == EFBIG ? "; `ulimit -f` limits a file's size" : "");
}

int Disk::open(const std::string& path, int flags) { return ::open(path.c_str(), flags, 0666); }
ssize_t Disk::write(int file, const void* data, size_t size) { return ::write(file, data, size); }
int Disk::truncate(int file, off_t size) { return ::ftruncate(file, size); }
int Disk::sync(int file) { return ::fsync(file); }
int Disk::rename(const std::string& from, const std::string& to) { return std::rename(from.c_str(), to.c_str()); }
int Disk::make_directory(const std::string& path) { return ::mkdir(path.c_str(), 0777); }

Disk& Disk::real() {
  static Disk disk;
  return disk;
}

void rename_durably(Disk& disk, const std::string& from, const std::string& to) {
  if (disk.rename(from, to) < 0) fail_path("rename to", to, errno);
}

void sync_directory(Disk& disk, const std::string& path) {
  const FileDescriptor file(disk.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!file.is_open()) fail_path("open the folder", path, errno);
  const int error = disk.sync(file.get()) < 0 ? errno : 0;
  // Some file systems know no fsync of folders.
  if (error != 0 && error != EINVAL && error != ENOTSUP) fail_path("synchronise the folder", path, error);
}

void write_durably(Disk& disk, const std::string& path, std::string_view text) {
  const std::string partial = unfinished_name(path);  // of two processes each writes the whole text
  {
    NewFile file(disk, partial, 0);
    if (!file.opened()) fail_path("make the file", partial, file.error());
    if (const int error = file.write(reinterpret_cast<const std::byte*>(text.data()), text.size())) fail_path("write", path, error);
    if (const int error = file.finish()) fail_path("synchronise", path, error);
  }
  rename_durably(disk, partial, path);
  const std::string folder = std::filesystem::path(path).parent_path().string();
  sync_directory(disk, folder.empty() ? "." : folder);
}

void write_file_directly(Disk& disk, const std::string& path, const std::byte* data, size_t size) {
  const bool aligned = reinterpret_cast<uintptr_t>(data) % kDirectAlignment == 0;
  if (aligned) {
    NewFile file(disk, path, O_DIRECT);
    if (file.opened()) {
      const size_t whole = (size + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
      int error = file.write(data, whole);
      if (error == 0) error = file.truncate(size);
      if (error == 0) error = file.finish();
      if (error == 0) return;
      // EINVAL: the file system takes no direct writes after all.
      if (error != EINVAL) fail_path("write", path, error);
    } else if (file.error() != EINVAL) {
      fail_path("make the file", path, file.error());
    }
  }
  NewFile file(disk, path, 0);
  if (!file.opened()) fail_path("make the file", path, file.error());
  if (const int error = file.write(data, size)) fail_path("write", path, error);
  if (const int error = file.finish()) fail_path("synchronise", path, error);
}

}  // namespace zerostep
