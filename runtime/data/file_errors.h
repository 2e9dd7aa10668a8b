#pragma once
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/error.h"

namespace zerostep {

// A path of the cache folder that cannot be used: the user's choice of folder (InputError), or a disk that is full or fails (RunError).
[[noreturn]] inline void fail_file(std::string_view what, std::string_view path, int error) {
  constexpr std::array<int, 7> kWrongFolder = {EACCES, EPERM, EROFS, ENOENT, ENOTDIR, EISDIR, ENAMETOOLONG};
  const char* reason = std::strerror(error);
  if (std::find(kWrongFolder.begin(), kWrongFolder.end(), error) != kWrongFolder.end()) {
    fail_input("{} '{}': {}; set data.cache to a folder that can be written", what, path, reason);
  }
  fail_run("{} '{}': {}; make space there or set data.cache to another folder", what, path, reason);
}

}  // namespace zerostep
