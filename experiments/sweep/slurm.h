#pragma once
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "experiments/sweep/task_states.h"
#include "experiments/sweep/work.h"

namespace zerostep {

// A job array of Slurm: a task for each run. What it may take of the cluster besides (partition, time, GPUs, account) sbatch reads from its
// own variables: SBATCH_PARTITION, SBATCH_TIMELIMIT, SBATCH_GPUS_PER_NODE, SBATCH_ACCOUNT... The runs' folders, and `folder`, must be seen
// by all nodes. To be shared by the tasks' Work.
class SlurmArray {
 public:
  struct Task {
    std::vector<std::string> command;  // with its arguments, without srun
    std::string output;                // a file that gets what it says, at its end
  };
  // Writes the batch script into `folder` and hands it to sbatch: tasks of `ranks` ranks each, at most `jobs` at once (0: any number).
  // RunError: sbatch is not there, or refuses it; with what it says.
  SlurmArray(const std::filesystem::path& folder, const std::string& name, const std::vector<Task>& tasks, int ranks, int jobs);
  const std::string& id() const { return id_; }

  // Whether it runs, or has: as squeue says, or the task itself, which leaves a file at its beginning and one at its end.
  bool has_begun(size_t task);
  // Its exit status, or 128 + SIGKILL of a task that has left none and that squeue does not list any more (TaskStates::is_lost).
  std::optional<int> ended(size_t task);
  // Whether Slurm has taken it, or the task has ended.
  bool signal(size_t task, const char* name);
  bool cancel(size_t task);

 private:
  void refresh();  // what squeue says
  void look();     // at what tasks have left
  bool told(const std::vector<std::string>& command);

  std::filesystem::path folder_;
  std::string id_;
  TaskStates states_;
  std::map<size_t, int> statuses_;  // that tasks have left
  std::set<size_t> begun_, cancelled_;
  std::chrono::steady_clock::time_point looked_;
};

// The task of a run.
std::unique_ptr<Work> make_slurm_work(std::shared_ptr<SlurmArray> array, size_t task);
// Whether Slurm still has a job of this number. False where it does not know the job any more, or where there is no squeue. RunError where
// squeue does not answer, or refuses for another reason: the job may well run.
bool is_in_slurm(const std::string& id);

}  // namespace zerostep
