#pragma once
#include <string>

#include "base/file_descriptor.h"

namespace zerostep {

// A folder belongs to one process as long as the process lives, however it ends: a file lock on `owner.lock` in it, whose text says which
// process that is. The file goes with the object.
class FolderLock {
 public:
  static constexpr const char* kFile = "owner.lock";

  FolderLock() = default;  // of nothing
  // Becomes the owner of an existing folder. `key` names what the user can change ("run.name"). InputError naming the folder and its owner
  // where it has one; RunError where the file cannot be made.
  FolderLock(const std::string& folder, const std::string& key);
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept = default;
  FolderLock& operator=(FolderLock&& other) noexcept;

  // Whether a process owns the folder now. Holds the lock for a moment where none does.
  static bool is_owned(const std::string& folder);
  // Its owner in the owner's words ("process 12 on HOST, since ..."); "": it has none.
  static std::string owner(const std::string& folder);

  // Why the folder could not be locked, in words: its file system has no locks. "": it is.
  const std::string& unlocked_because() const { return unlocked_because_; }

 private:
  std::string path_, unlocked_because_;
  FileDescriptor file_;
};

}  // namespace zerostep
