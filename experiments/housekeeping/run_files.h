#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runtime/report/folder_lock.h"

namespace zerostep {

// Bytes of all regular files in a folder and below it, as their contents count, without following links. 0 of a folder that is not there.
int64_t bytes_below(const std::filesystem::path& folder);

// A folder that lies in <run>/checkpoints: a checkpoint, or what a crash or a resume has left of one. What has another name is none.
struct CheckpointFolder {
  std::filesystem::path path;
  int64_t bytes = 0;
  std::string kept;  // why it stays ("latest", "best", "newest"); "": it may go
};
// Ordered by step, the leftovers last. Stay: what `latest` and `best` name, and the `keep_newest` newest checkpoints. InputError where
// <run>/checkpoints is a link, since what it names may be others', or one of the two files cannot be read.
std::vector<CheckpointFolder> checkpoints_of(const std::filesystem::path& run, int64_t keep_newest = 1);

// The ownership of a run's folder, so that no run begins there meanwhile; or why it cannot be had: somebody has it, or nobody can tell
// whether somebody has.
struct Claim {
  std::optional<FolderLock> lock;
  std::string why_not;  // "": it is held
};
Claim claim_run(const std::filesystem::path& run);

}  // namespace zerostep
