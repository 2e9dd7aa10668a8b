#pragma once
#include <filesystem>

#include "offload/disk.h"

namespace zerostep {

// What else than complete checkpoints lies in <run>/checkpoints, by the beginning of its name: one that is being written or came to
// nothing, one that is being removed, one of steps that a run has gone back before.
inline constexpr const char *kPartialCheckpoint = ".partial-", *kRemovedCheckpoint = ".removed-", *kAbandonedCheckpoint = "abandoned-";

// Removes a checkpoint, which loses its name first: what is left where that is interrupted is never taken for one. RunError.
void remove_checkpoint(Disk& disk, const std::filesystem::path& path);

}  // namespace zerostep
