#pragma once
#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "offload/disk.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/shard_image.h"

namespace zerostep {

// Writes the checkpoints of a run, one rank's part of them, behind the run's back: save() copies the rank's state and returns, a thread
// brings the copy to the disk. Ranks meet in the folder: each leaves a note beside its file; rank 0 reads the notes, writes the manifest,
// gives the folder its name, lets `latest` point to it and removes what is no longer kept. A checkpoint exists under its name only when all
// of it is on the disk.
class CheckpointWriter {
 public:
  struct Options {
    std::string folder;            // <run>/checkpoints
    int rank = 0, ranks = 1;       // of those that write
    int64_t keep = 2;              // newest ones that stay; 0: all
    double timeout_seconds = 600;  // for the other ranks' files
    Disk* disk = &Disk::real();
  };
  // Removes what an interrupted run left half done (rank 0; before the other ranks save anything). Holds memory for a copy of the pieces.
  // `copy` is called by save().
  CheckpointWriter(Options options, const std::vector<StatePiece>& pieces, CopyState copy);
  // Waits for this rank's own file, not for other ranks'; without finish() before it, a checkpoint under way may come to nothing.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Returns when the state may change again; waits first for an earlier checkpoint that is still being written, and throws, once the new
  // one is under way, what went wrong with it (RunError). `manifest`: rank 0's, without the files.
  void save(Manifest manifest);
  // RunError: what went wrong since the last call.
  void check();
  // Waits until all is written, then check().
  void finish();
  // The step of the checkpoint that is under way on this rank: its file is being written or, on rank 0, completed; -1: none is. From any
  // thread.
  int64_t under_way();
  // The step of the last checkpoint that save() was called for; -1: none. From any thread.
  int64_t last_begun();
  // Rank 0 stops waiting for files of other ranks: a checkpoint that lacks one fails. For a job in which a rank has failed before it came
  // to save(). From any thread.
  void abandon() { abandoned_ = true; }
  // Waits until none is; false when one still is after so long. From any thread.
  bool wait_until_written(double seconds);
  // The same for a process that takes the job with it when it ends: until rank 0 has completed what this rank has written.
  bool wait_until_complete(double seconds);

  struct Times {
    int64_t count = 0, bytes = 0;  // checkpoints; of this rank's file
    double waited_seconds = 0, staged_seconds = 0, written_seconds = 0;
  };
  // What went wrong without harm since the last call; "": nothing.
  std::string take_warning();
  Times times();
  int64_t image_bytes() const { return static_cast<int64_t>(image_.size()); }
  static std::string file_of_rank(int rank);

 private:
  void write(const Manifest& manifest);
  Manifest::File write_shard(const std::string& partial);
  void complete(const std::string& partial, Manifest manifest);
  std::vector<Manifest::File> files_of_all(const std::string& partial);
  bool is_completed(int64_t step) const;
  void remove_partial(int64_t before);
  void remove_old(int64_t step, int64_t best_step);
  void join();

  Options options_;
  ShardImage image_;
  CopyState copy_;
  std::thread thread_;
  std::atomic<bool> abandoned_{false};
  std::mutex mutex_;                   // of what follows
  int64_t writing_ = -1, saved_ = -1;  // this rank's file of the checkpoint of a step, and the one before
  std::string error_, warning_;
  Times times_;
};

}  // namespace zerostep
