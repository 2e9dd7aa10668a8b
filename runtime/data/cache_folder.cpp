#include "runtime/data/cache_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "base/file_lock.h"
#include "offload/disk.h"
#include "runtime/data/file_errors.h"

namespace zerostep {
namespace {

// Time stamps are as coarse as 2 s on some file systems.
constexpr int64_t kYoungNs = 2000000000;
// Ends every entry, so that one cut short is not taken for a whole one.
constexpr const char* kIndexEnd = " zerostep-index-1\n";

bool may_not_be_written(int error) { return error == EACCES || error == EPERM || error == EROFS; }

}  // namespace

CacheFolder::CacheFolder(std::string path, std::function<void(const std::string&)> warn) : path_(std::move(path)), warn_(std::move(warn)) {
  std::error_code error;
  std::filesystem::create_directories(path_, error);
  if (error) fail_file("cannot create the token cache folder", path_, error.value());
  if (!std::filesystem::is_directory(path_, error)) fail_file("cannot use the token cache folder", path_, ENOTDIR);
}

std::optional<CacheFolder::Lock> CacheFolder::lock(const std::string& name) const {
  const std::string path = file(name + ".lock");
  const int descriptor = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (descriptor < 0 && may_not_be_written(errno)) return std::nullopt;
  if (descriptor < 0) fail_file("cannot create", path, errno);
  Lock lock(descriptor);
  if (const int error = wait_for_lock(descriptor, LOCK_EX); error != 0) fail_file("cannot lock", path, error);
  return lock;
}

std::optional<std::string> CacheFolder::recall(const std::string& stamp_hash) const {
  const std::string path = file(stamp_hash + ".index");
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
  std::ifstream in(path, std::ios::binary);
  std::stringstream content;
  content << in.rdbuf();
  const std::string text = content.str();
  if (!in || !text.ends_with(kIndexEnd)) return std::nullopt;
  return text.substr(0, text.size() - std::strlen(kIndexEnd));
}

void CacheFolder::remember(const std::string& stamp_hash, const std::vector<FileStamp>& stamps, int64_t looked_at_ns,
                           const std::string& text) const {
  const bool young =
      std::any_of(stamps.begin(), stamps.end(), [&](const FileStamp& stamp) { return stamp.modified_ns > looked_at_ns - kYoungNs; });
  if (young) return;
  static std::atomic<int> counter = 0;
  const std::string path = file(stamp_hash + ".index"), temporary = fmt::format("{}.{}.{}", path, ::getpid(), counter++);
  errno = 0;
  std::ofstream out(temporary, std::ios::binary);
  out << text << kIndexEnd;
  out.close();
  if (!out || std::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    std::remove(temporary.c_str());
    warn_(fmt::format("cannot write '{}': {}; the next start will read the corpus again to know it", path, std::strerror(error)));
  }
}

void CacheFolder::publish(const std::string& temporary, const std::string& name) const {
  const std::string path = file(name);
  if (std::rename(temporary.c_str(), path.c_str()) != 0) fail_file("cannot rename the token cache to", path, errno);
  sync_directory(Disk::real(), path_);
}

}  // namespace zerostep
