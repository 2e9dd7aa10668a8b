#include "base/unfinished_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <random>
#include <utility>

#include "base/error.h"
#include "base/file_lock.h"
#include "base/nth.h"

namespace zerostep {
namespace {

// What a signal handler may read: names in memory that is never freed.
struct KnownName {
  std::atomic<bool> is_taken{false}, is_set{false};
  std::array<char, PATH_MAX> path{};
};
std::array<KnownName, 8> known_names;
static_assert(std::atomic<bool>::is_always_lock_free);

// -1 where the name is too long, or there is no place.
int remember(const std::string& path) {
  for (size_t i = 0; i < known_names.size() && path.size() < PATH_MAX; ++i) {
    KnownName& known = nth(known_names, i);
    if (known.is_taken.exchange(true)) continue;
    known.path.at(path.copy(known.path.data(), path.size())) = '\0';
    known.is_set.store(true);
    return static_cast<int>(i);
  }
  return -1;
}

void forget(int place) {
  if (place < 0) return;
  KnownName& known = nth(known_names, place);
  known.is_set.store(false);
  known.is_taken.store(false);
}

}  // namespace

void remove_unfinished_files() {
  for (const KnownName& known : known_names)
    if (known.is_set.load()) ::unlink(known.path.data());
}

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
  place_ = remember(path_);
}

void UnfinishedFile::open_alone() {
  ::unlink(path_.c_str());  // nobody can lock it, so that nobody writes to it
  path_ = unfinished_name(target_);
  file_ = FileDescriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file_.is_open()) fail_run("cannot make the file {}: {}", path_, std::strerror(errno));
  place_ = remember(path_);
}

UnfinishedFile::~UnfinishedFile() {
  forget(place_);
  if (file_.is_open()) ::unlink(path_.c_str());
}

void UnfinishedFile::publish() {
  if (::fsync(file_.get()) != 0) fail_run("cannot write {} to its device: {}", path_, std::strerror(errno));
  forget(std::exchange(place_, -1));  // from here on the name may be another's
  if (std::rename(path_.c_str(), target_.c_str()) != 0) fail_run("cannot rename {} to {}: {}", path_, target_, std::strerror(errno));
  file_ = FileDescriptor();
}

}  // namespace zerostep
