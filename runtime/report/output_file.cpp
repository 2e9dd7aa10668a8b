#include "runtime/report/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/unfinished_file.h"

namespace zerostep {
namespace {

[[noreturn]] void fail_write(const std::string& path, int reason) {
  const char* advice =
      reason == ENOSPC || reason == EDQUOT || reason == EFBIG ? ": free some space, or set run.output_dir to a disk with more" : "";
  const char* word = reason == EDQUOT || reason == EFBIG ? " (no space for it)" : "";
  fail_run("cannot write {}: {}{}{}", path, std::strerror(reason), word, advice);
}

}  // namespace

OutputFile::OutputFile(const std::string& path, Mode mode) : path_(path) {
  // O_NONBLOCK: opening a FIFO must not wait for its reader.
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND | O_NONBLOCK | (mode == Mode::Append ? 0 : O_TRUNC);
  file_ = FileDescriptor(::open(path.c_str(), flags, 0666));
  if (!is_open()) fail_write(path_, errno);
  struct stat status {};
  if (::fstat(file_.get(), &status) == 0 && S_ISFIFO(status.st_mode)) fail_run("cannot write {}: it is a pipe; a file is expected", path_);
}

void OutputFile::write(std::string_view text) {
  if (!is_open()) return;
  while (!text.empty()) {
    const ssize_t written = ::write(file_.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_write(path_, errno);
    text.remove_prefix(static_cast<size_t>(written));
  }
}

bool OutputFile::empty() const {
  struct stat status {};
  return !is_open() || ::fstat(file_.get(), &status) != 0 || status.st_size == 0;
}

int64_t keep_lines(const std::string& path, const std::function<bool(std::string_view line)>& keep) {
  require_regular_file(path);
  std::ifstream in(path, std::ios::binary);
  if (!in) return 0;
  int64_t lines = 0;
  uintmax_t bytes = 0;
  for (std::string line; std::getline(in, line) && !in.eof() && keep(line); ++lines) bytes += line.size() + 1;
  in.close();
  std::error_code error;
  std::filesystem::resize_file(path, bytes, error);
  if (error) fail_run("cannot cut {}: {}", path, error.message());
  return lines;
}

void cut_after_last(const std::string& path, const std::function<bool(std::string_view line)>& keep) {
  require_regular_file(path);
  int64_t last = 0, line_number = 0;
  {
    std::ifstream in(path, std::ios::binary);
    for (std::string line; std::getline(in, line) && !in.eof();) {
      ++line_number;
      if (keep(line)) last = line_number;
    }
  }
  keep_lines(path, [&last](std::string_view) { return last-- > 0; });
}

void write_file(const std::string& path, std::string_view text) {
  const std::string partial = unfinished_name(path);
  try {
    OutputFile(partial, OutputFile::Mode::Truncate).write(text);
  } catch (const RunError&) {
    ::unlink(partial.c_str());
    throw;
  }
  if (::rename(partial.c_str(), path.c_str()) != 0) fail_write(path, errno);
}

}  // namespace zerostep
