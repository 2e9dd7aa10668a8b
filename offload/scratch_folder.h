#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/new_folders.h"
#include "offload/file_io.h"

namespace zerostep {

// What a rank puts into a folder.
struct ScratchDemand {
  std::string key;  // of the configuration that names the folder, for messages
  std::string folder;
  int64_t num_bytes = 0;
};

// What ranks put on one disk, on which several folders may lie.
struct DiskDemand {
  uint64_t disk = 0;        // the number of its file system
  std::string key, folder;  // of the first demand
  int64_t num_bytes = 0;    // of all of the ranks
  int64_t free_bytes = 0;   // of the disk, now; INT64_MAX: the system does not say
};
// So many ranks' demands, disk by disk. Folders need not be there yet; what the system knows no disk of is left out.
std::vector<DiskDemand> demands_of_disks(std::span<const ScratchDemand> demands, int ranks);

// The end of a message of a disk that fails.
std::string what_helps_a_disk(const std::string& key);
// Why the disks have no room for so many ranks, disk by disk, since several folders may lie on one; "": they have it. Folders need not be
// there yet.
std::string lack_of_room(std::span<const ScratchDemand> demands, int ranks);
// The same of what so many ranks put on disks.
std::string lack_of_room(std::span<const DiskDemand> demands, int ranks);
// Bytes that have room in folders when they are spread evenly over them; INT64_MAX: the system does not say. Folders need not be there yet.
int64_t free_room(std::span<const std::string> folders);
// Before a run: makes the folders, which go with what it gives unless they are kept, and sees that files of this size may be made there,
// whatever room there is. InputError naming the key, the folder and the way out.
NewFolders try_scratch_folders(std::span<const ScratchDemand> demands);
// The same, and that they have room for so many ranks.
NewFolders require_scratch_folders(std::span<const ScratchDemand> demands, int ranks);

// A file of one rank in a folder, whose space is taken when it is made. It loses its name as soon as it is open: whatever ends the process,
// the disk has its space back at once. A name that remains (the process was killed within those microseconds, or the file system does not
// let the name of an open file go) is removed with the object or by the next one in this folder on this host. Removing the name of a file
// that is open costs its owner nothing, so no lock is needed to tell runs that live from those that are dead.
class ScratchFile {
 public:
  using Warn = std::function<void(const std::string&)>;
  // `warn` and `warn_of_own` as ScratchOptions. InputError and RunError as ScratchFiles.
  ScratchFile(const ScratchDemand& demand, int rank, const Warn& warn, const Warn& warn_of_own);
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile() { remove_name(); }

  const IoFile& file() const { return file_; }
  // The file stays as it is.
  void remove_name();

 private:
  void take_space(const ScratchDemand& demand, int rank) const;
  void go_direct(const ScratchDemand& demand, int rank, const Warn& warn);

  FileDescriptor descriptor_;
  IoFile file_;
  bool has_name_ = false;
};

}  // namespace zerostep
