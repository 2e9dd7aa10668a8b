#pragma once
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/error.h"

namespace zerostep {

// A path of the cache folder that cannot be used: the user's choice of folder (InputError), or a disk that is full or fails (RunError).
[[noreturn]] inline void fail_file(std::string_view what, std::string_view path, int error) {
  const char* reason = std::strerror(error);
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
      fail_input("{} '{}': {}; set data.cache to a folder that can be written", what, path, reason);
    default:
      fail_run("{} '{}': {}; make space there or set data.cache to another folder", what, path, reason);
  }
}

}  // namespace zerostep
