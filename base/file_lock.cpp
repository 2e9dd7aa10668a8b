#include "base/file_lock.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>

namespace zerostep {

int wait_for_lock(int file, int kind) {
  while (::flock(file, kind) != 0)
    if (errno != EINTR) return errno;
  return 0;
}

int try_lock(int file, int kind) { return wait_for_lock(file, kind | LOCK_NB); }

bool is_file_at(const std::string& path, int file) {
  struct stat here {
  }, there{};
  return ::fstat(file, &here) == 0 && ::stat(path.c_str(), &there) == 0 && here.st_ino == there.st_ino && here.st_dev == there.st_dev;
}

}  // namespace zerostep
