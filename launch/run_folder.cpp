#include "launch/run_folder.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "runtime/checkpoint/manifest.h"

namespace zerostep {
namespace fs = std::filesystem;

std::string run_folder_path(const Config& config) { return (fs::path(config.run.output_dir) / config.run.name).string(); }

RunFolder make_run_folder(const Config& config, bool continues) {
  RunFolder folder{run_folder_path(config), false};
  std::error_code error;
  fs::create_directories(folder.path, error);
  if (error)
    fail_input("{}: run.output_dir: cannot make the folder {} of the run: {}. Set run.output_dir to one that can be written", config.file,
               folder.path, error.message());
  if (::access(folder.path.c_str(), W_OK | X_OK) != 0)
    fail_input("{}: run.output_dir: cannot write into the folder {} of the run: {}", config.file, folder.path, std::strerror(errno));
  const fs::path checkpoints = fs::path(folder.path) / "checkpoints";
  if (continues) return folder;
  if (holds_checkpoints(checkpoints.string()))
    fail_input(
        "{}: the folder {} holds the checkpoints of a run, which a new one would mix up with its own: go on with --resume, set another "
        "run.name, or move {} away",
        config.file, folder.path, checkpoints.string());
  folder.replaces = fs::exists(fs::path(folder.path) / "metrics.csv", error);
  // What this run may not write must not look like its own.
  fs::remove(fs::path(folder.path) / "zo_log.jsonl", error);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder.path, error))
    if (entry.path().filename().string().starts_with("trace_rank")) fs::remove(entry.path(), error);
  return folder;
}

}  // namespace zerostep
