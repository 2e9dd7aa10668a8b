#include "experiments/housekeeping/run_files.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "experiments/records/read_file.h"
#include "runtime/checkpoint/checkpoint_folders.h"
#include "runtime/checkpoint/manifest.h"

namespace zerostep {
namespace fs = std::filesystem;
namespace {

// The checkpoint that a file `latest` or `best` names; "": there is no such file.
std::string named_in(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(file, error))) return "";
  std::istringstream in(read_file(file));
  std::string name;
  in >> name;
  return name;
}

}  // namespace

int64_t bytes_below(const fs::path& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code ignored;
    if (at->is_symlink(ignored) || !at->is_regular_file(ignored)) continue;
    const auto size = at->file_size(ignored);
    if (!ignored) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

std::vector<CheckpointFolder> checkpoints_of(const fs::path& run, int64_t keep_newest) {
  const fs::path folder = run / "checkpoints";
  std::vector<std::pair<int64_t, CheckpointFolder>> complete;
  std::vector<CheckpointFolder> leftovers;
  std::error_code error;
  if (fs::is_symlink(folder, error))
    fail_input("{} is a link to {}, which is not followed", folder.string(), fs::read_symlink(folder, error).string());
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    int64_t step = 0;
    std::error_code ignored;
    if (entry.is_symlink(ignored) || !entry.is_directory(ignored)) continue;
    const auto is_left = [&](const char* prefix) { return name.starts_with(prefix + std::string("step_")); };
    if (parse_checkpoint_name(name, step))
      complete.push_back({step, {entry.path(), bytes_below(entry.path()), ""}});
    else if (is_left(kPartialCheckpoint) || is_left(kRemovedCheckpoint) || is_left(kAbandonedCheckpoint))
      leftovers.push_back({entry.path(), bytes_below(entry.path()), ""});
  }
  std::sort(complete.begin(), complete.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  const std::string latest = named_in(folder / kLatestFile), best = named_in(folder / kBestFile);
  std::vector<CheckpointFolder> out;
  for (size_t i = 0; i < complete.size(); ++i) {
    CheckpointFolder checkpoint = std::move(complete[i].second);
    const std::string name = checkpoint.path.filename().string();
    const auto keep = [&](const char* why) { checkpoint.kept += (checkpoint.kept.empty() ? "" : ", ") + std::string(why); };
    if (name == latest) keep("latest");
    if (name == best) keep("best");
    if (checkpoint.kept.empty() && static_cast<int64_t>(i) + keep_newest >= std::ssize(complete)) keep("newest");
    out.push_back(std::move(checkpoint));
  }
  std::sort(leftovers.begin(), leftovers.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  out.insert(out.end(), leftovers.begin(), leftovers.end());
  return out;
}

Claim claim_run(const fs::path& run) {
  Claim claim;
  try {
    claim.lock.emplace(run.string(), "run.name");
    claim.why_not = claim.lock->unlocked_because();
    if (!claim.why_not.empty()) claim.why_not += ": whether a run owns it cannot be known";
  } catch (const std::exception& error) {  // it has an owner, or its folder cannot be written
    claim.why_not = error.what();
  }
  if (!claim.why_not.empty()) claim.lock.reset();
  return claim;
}

}  // namespace zerostep
