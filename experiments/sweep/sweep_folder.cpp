#include "experiments/sweep/sweep_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "experiments/sweep/journal.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

std::string held_folder_text(const SweepFile& file, const std::string& goes_on) {
  return fmt::format("the folder {} holds a sweep{} already{}; another name (or output_dir) keeps both", file.folder(),
                     goes_on.empty() ? " of another base" : "", goes_on.empty() ? "" : fmt::format(". `{}` goes on with it", goes_on));
}

}  // namespace

bool holds_sweep(const SweepFile& file) {
  std::error_code error;
  return fs::exists(fs::path(file.folder()) / Journal::kFile, error);
}

void require_sweep(const SweepFile& file) {
  if (!holds_sweep(file))
    fail_input("--resume: {} holds no sweep ({} is expected there): start it without --resume, or name its output_dir and name",
               file.folder(), Journal::kFile);
}

std::string refusal_of_held_folder(const SweepFile& file, const std::string& goes_on) {
  return "without --dry-run this command is refused: " + held_folder_text(file, goes_on);
}

FolderLock claim_sweep_folder(const SweepFile& file, bool resumes, const std::string& goes_on) {
  if (resumes) require_sweep(file);
  const std::string folder = file.folder();
  if (!resumes && holds_sweep(file)) fail_input("{}: {}", file.file, held_folder_text(file, goes_on));
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || ::access(folder.c_str(), W_OK | X_OK) != 0)
    fail_input("{}: output_dir: the folder {} cannot be {}: {}. Name one that can be written", file.file, folder,
               error ? "made" : "written into", error ? error.message() : std::string(std::strerror(errno)));
  return {folder, "name or output_dir of the sweep"};
}

}  // namespace zerostep
