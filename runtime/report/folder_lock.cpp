#include "runtime/report/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/file_lock.h"
#include "base/host_name.h"
#include "runtime/report/metrics.h"

namespace zerostep {
namespace {

// The owner writes its name just after it has taken the lock.
std::string owner_of(int file) {
  std::array<char, 512> text{};
  for (int attempt = 0; attempt < 50; ++attempt) {
    const ssize_t size = ::pread(file, text.data(), text.size() - 1, 0);
    if (size > 0) return {text.data(), static_cast<size_t>(size)};
    ::usleep(10000);
  }
  return "a process that has not said its name";
}

}  // namespace

bool FolderLock::is_owned(const std::string& folder) {
  const FileDescriptor file(::open((folder + "/" + kFile).c_str(), O_RDONLY | O_CLOEXEC));
  return file.is_open() && try_lock(file.get(), LOCK_SH) == EWOULDBLOCK;
}

std::string FolderLock::owner(const std::string& folder) {
  if (!is_owned(folder)) return "";
  const FileDescriptor file(::open((folder + "/" + kFile).c_str(), O_RDONLY | O_CLOEXEC));
  return file.is_open() ? owner_of(file.get()) : "";
}

FolderLock::FolderLock(const std::string& folder, const std::string& key) : path_(folder + "/" + kFile) {
  for (;;) {
    file_ = FileDescriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (!file_.is_open()) fail_run("cannot make {}: {}", path_, std::strerror(errno));
    int error = try_lock(file_.get(), LOCK_EX);
    // Whoever asks for the owner holds a lock for a moment.
    for (int attempt = 0; attempt < 5 && error == EWOULDBLOCK; ++attempt) {
      ::usleep(10000);
      error = try_lock(file_.get(), LOCK_EX);
    }
    if (error == EWOULDBLOCK) {
      fail_input("the folder {} belongs to a run that is going on: {}. Wait for its end, or set another {}", folder, owner_of(file_.get()),
                 key);
    }
    if (error != 0) {
      unlocked_because_ = fmt::format("{} cannot be locked: {}", path_, std::strerror(error));
      return;
    }
    if (is_file_at(path_, file_.get())) break;
  }
  const std::string owner = fmt::format("process {} on {}, since {}", ::getpid(), host_name(), timestamp_now());
  if (::ftruncate(file_.get(), 0) != 0 || ::pwrite(file_.get(), owner.data(), owner.size(), 0) != static_cast<ssize_t>(owner.size())) {
    const int reason = errno;
    ::unlink(path_.c_str());
    fail_run("cannot write {}: {}", path_, std::strerror(reason));
  }
}

FolderLock::~FolderLock() {
  if (file_.is_open()) ::unlink(path_.c_str());
}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(unlocked_because_, other.unlocked_because_);
  std::swap(file_, other.file_);
  return *this;
}

}  // namespace zerostep
