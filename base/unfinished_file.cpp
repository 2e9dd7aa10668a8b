#include "base/unfinished_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <utility>

#include "base/error.h"
#include "base/file_lock.h"

namespace zerostep {

std::string unfinished_name(const std::string& path) {
  std::random_device random;
  return fmt::format("{}.{:08x}.partial", path, random() & 0xFFFFFFFFU);
}

UnfinishedFile::UnfinishedFile(std::string target, const std::string& path) : target_(std::move(target)), path_(path) {
  for (;;) {
    // O_NONBLOCK: opening a pipe must not wait for its reader.
    file_ = FileDescriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666));
    if (!file_.is_open()) fail_run("cannot make the file {}: {}", path_, std::strerror(errno));
    struct stat status {};
    if (::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
      file_ = FileDescriptor();
      fail_input("{} is there and no regular file: {} is written under this name first; remove it", path_, target_);
    }
    const int error = try_lock(file_.get(), LOCK_EX);
    if (error == EWOULDBLOCK) {
      file_ = FileDescriptor();  // it is the other's
      fail_input("{}: another process writes it at this moment (to {}): wait for its end, or give another name", target_, path_);
    }
    if (error != 0) {
      open_alone();
      return;
    }
    if (is_file_at(path_, file_.get())) break;
  }
  if (::ftruncate(file_.get(), 0) != 0) fail_run("cannot write {}: {}", path_, std::strerror(errno));
}

void UnfinishedFile::open_alone() {
  ::unlink(path_.c_str());  // nobody can lock it, so that nobody writes to it
  path_ = unfinished_name(target_);
  file_ = FileDescriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file_.is_open()) fail_run("cannot make the file {}: {}", path_, std::strerror(errno));
}

UnfinishedFile::~UnfinishedFile() {
  if (file_.is_open()) ::unlink(path_.c_str());
}

void UnfinishedFile::publish() {
  if (::fsync(file_.get()) != 0) fail_run("cannot write {} to its device: {}", path_, std::strerror(errno));
  if (std::rename(path_.c_str(), target_.c_str()) != 0) fail_run("cannot rename {} to {}: {}", path_, target_, std::strerror(errno));
  file_ = FileDescriptor();
}

}  // namespace zerostep
