#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "base/new_folders.h"
#include "launch/subject.h"
#include "runtime/config/config.h"
#include "runtime/report/folder_lock.h"

namespace zerostep {

// Whether a run has left its figures, its plan, its log of scalars or its checkpoints there.
bool is_folder_of_run(const std::filesystem::path& folder);

// <run.output_dir>/<run.name>
std::string run_folder_path(const Config& config);

// InputError as RunFolder::claim gives where the folder of a run cannot be made or written. Leaves nothing.
void check_run_folder(const Config& config);

// The folder of a run, and what one run may do in it. A claimed folder has this process as its owner until the object goes. Until begin()
// nothing in it has changed, and what claim() has made goes with the object.
class RunFolder {
 public:
  RunFolder() = default;  // of nothing
  // As the other ranks know it.
  explicit RunFolder(std::string path) : path_(std::move(path)) {}
  // Makes the folder where it is missing and becomes its owner. `continues`: the run goes on from a checkpoint in it. A folder that is not
  // the run's own and holds a run is refused unless run.overwrite is set; a name that the file does not give gets a number where the folder
  // is there already, in `config` too. InputError: the folder cannot be made or written, holds a run, or has another owner.
  static RunFolder claim(Config& config, bool continues);
  ~RunFolder();
  RunFolder(RunFolder&&) noexcept = default;
  RunFolder& operator=(RunFolder&& other) noexcept;

  // InputError naming path and key where begin() would remove something that the run itself reads, or a place that it writes to.
  void check_spares(const Config& config, const std::vector<NamedPath>& paths) const;
  // The run begins: where it does not go on, what a former run has left goes.
  void begin();

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  // Whether another run's files go when this one begins.
  bool replaces() const { return !former_.empty(); }
  const FolderLock& lock() const { return lock_; }

 private:
  void leave();

  std::string path_;
  FolderLock lock_;
  NewFolders new_folders_;                     // that go again unless the run begins
  std::vector<std::filesystem::path> former_;  // what a former run has left
};

// Where csv_monitor and tensorboard write: <output_path>/<job_name>, below the run's folder where the file names no path.
std::string csv_folder(const Config& config, const RunFolder& folder);
std::string tensorboard_folder(const Config& config, const RunFolder& folder);
// Checks the files that a run writes outside its folder, makes the folders of csv_monitor.output_path and tensorboard.output_path, as some
// of `new_folders`, and becomes their owner. InputError naming the key; not where TensorBoard's folder cannot be made or written, which its
// writer warns of.
std::vector<FolderLock> claim_other_files(const Config& config, const RunFolder& folder, NewFolders& new_folders);
// Moves what another run has left in these folders of csv_monitor and tensorboard into a folder beside them, FOLDER.former: for a run that
// begins. Gives what is to be said of it. RunError where something cannot be moved.
std::vector<std::string> set_series_aside(const Config& config, const RunFolder& folder);

}  // namespace zerostep
