#include "runtime/checkpoint/checkpoint_folders.h"

namespace zerostep {

void remove_checkpoint(Disk& disk, const std::filesystem::path& path) {
  const std::filesystem::path removed = path.parent_path() / (kRemovedCheckpoint + path.filename().string());
  std::error_code ignored;
  std::filesystem::remove_all(removed, ignored);
  rename_durably(disk, path.string(), removed.string());
  std::filesystem::remove_all(removed, ignored);
}

}  // namespace zerostep
