#pragma once
#include <string>

#include "base/file_descriptor.h"

namespace zerostep {

// A name beside `path` for what is written first and then renamed to it: PATH.XXXXXXXX.partial, with digits that no other process has.
std::string unfinished_name(const std::string& path);

// A file on its way to `target`, under a name beside it that says so, which one process at a time may write: a file lock that ends with the
// process, however it ends, and what such a process left is written over. Removed with the object, unless it was renamed to its target.
class UnfinishedFile {
 public:
  // Empty, at `path`. Where the file system has no locks, at a name that no other process has. InputError naming the target while another
  // process writes to it, and where no regular file lies at `path`; RunError where the file cannot be made.
  UnfinishedFile(std::string target, const std::string& path);
  ~UnfinishedFile();
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;

  const std::string& path() const { return path_; }
  const std::string& target() const { return target_; }
  int file() const { return file_.get(); }
  // Renames it to its target once what was written is on the disk. RunError naming both. Whoever waits for the target may then have it.
  void publish();

 private:
  void open_alone();

  std::string target_, path_;
  FileDescriptor file_;
  int place_ = -1;  // among the names that remove_unfinished_files() knows
};

// Removes what this process writes and has not published (of the first few files, where it writes many at once). For a signal handler after
// which the process ends at once: it takes no lock and no memory.
void remove_unfinished_files();

}  // namespace zerostep
