#include "launch/replaceable.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/unfinished_file.h"
#include "offload/disk.h"

namespace zerostep {
namespace {

// Makes a file as write_durably() would, and removes it. 0, or errno.
int try_to_write(const std::string& path) {
  const std::string partial = unfinished_name(path);
  const FileDescriptor made(::open(partial.c_str(), O_WRONLY | O_CLOEXEC | O_CREAT | O_EXCL, 0666));
  return made.is_open() && ::unlink(partial.c_str()) == 0 ? 0 : errno;
}

}  // namespace

void check_replaceable(const std::string& option, const std::string& path, std::string_view beginning) {
  std::error_code ignored;
  const std::filesystem::path folder = std::filesystem::absolute(path, ignored).parent_path();
  if (!std::filesystem::is_directory(folder, ignored)) fail_input("{} {}: {} is no folder", option, path, folder.string());
  if (std::filesystem::is_symlink(path, ignored))
    fail_input("{} {}: that is a link, which the file would replace: name the file that it leads to", option, path);
  if (std::filesystem::exists(path, ignored)) {
    std::string found(beginning.size(), '\0');
    if (std::filesystem::is_regular_file(path, ignored)) std::ifstream(path).read(found.data(), static_cast<std::streamsize>(found.size()));
    if (found != beginning) fail_input("{} {}: that exists and is nothing that {} wrote before: give another name", option, path, option);
  }
  if (const int error = try_to_write(path)) fail_input("{} {}: no file can be made there: {}", option, path, disk_failure(error));
}

}  // namespace zerostep
