#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "base/error.h"
#include "tests/runtime/support/checkpoint_case.h"

// Checkpoints while they are written: what is left when a write fails, ranks are late or the process dies at any point of it.
namespace zerostep::testing {
namespace {

// Lets the n-th call fail, or all from the n-th on.
class FailingDisk : public Disk {
 public:
  enum class Fault { NoSpace, InputOutput, Short };
  FailingDisk(int at, Fault fault, bool once) : at_(at), fault_(fault), once_(once) {}
  int calls() const { return calls_; }
  int open(const std::string& path, int flags) override { return fails() ? -1 : Disk::open(path, flags); }
  ssize_t write(int file, const void* data, size_t size) override {
    const bool now = fails();
    // A direct write of less than a block is no such write.
    if (now && fault_ == Fault::Short && size > 8192) return Disk::write(file, data, 4096);
    return now && fault_ != Fault::Short ? -1 : Disk::write(file, data, size);
  }
  int truncate(int file, off_t size) override { return fails() ? -1 : Disk::truncate(file, size); }
  int sync(int file) override { return fails() ? -1 : Disk::sync(file); }
  int rename(const std::string& from, const std::string& to) override { return fails() ? -1 : Disk::rename(from, to); }
  int make_directory(const std::string& path) override { return fails() ? -1 : Disk::make_directory(path); }

 private:
  bool fails() {
    const int now = calls_++;
    const bool fail = once_ ? now == at_ : now >= at_;
    if (fail) errno = fault_ == Fault::NoSpace ? ENOSPC : EIO;
    return fail;
  }
  std::atomic<int> calls_{0};
  int at_;
  Fault fault_;
  bool once_;
};

TEST_F(Checkpoints, AFailedWriteIsSaidAndLeavesTheCheckpointBefore) {
  for (const auto fault : {FailingDisk::Fault::NoSpace, FailingDisk::Fault::InputOutput})
    for (const bool once : {true, false})
      for (int at = 0;; ++at) {
        fs::remove_all(folder());
        save(1);
        Rank rank = state_of(0, 1, 2);
        FailingDisk disk(at, fault, once);
        std::string error;
        {
          CheckpointWriter writer(options(0, 1, &disk), rank.pieces, rank.copy());
          writer.save(manifest_of(2));
          error = error_of([&] { writer.finish(); });
          EXPECT_EQ(error_of([&] { writer.check(); }), "") << "said twice";
        }
        const bool reached = disk.calls() > at;
        EXPECT_EQ(error.empty(), !reached) << "call " << at << ": " << error;
        if (!reached) {
          EXPECT_GT(at, 12);
          break;
        }
        EXPECT_NE(error.find(root_.string()), std::string::npos) << error;
        if (fault == FailingDisk::Fault::NoSpace) {
          EXPECT_NE(error.find("space"), std::string::npos) << error;
        }
        expect_whole(latest_checkpoint(folder()));
        // With room again the next one is written.
        CheckpointWriter again(options(), rank.pieces, rank.copy());
        again.save(manifest_of(2));
        again.finish();
        EXPECT_EQ(CheckpointReader(latest_checkpoint(folder())).manifest().step, 2);
        expect_whole(latest_checkpoint(folder()));
      }
}

TEST_F(Checkpoints, ShortWritesAreGoneOnWith) {
  for (int at = 0; at < 14; ++at) {
    fs::remove_all(folder());
    Rank rank = state_of(0, 1, 2);
    FailingDisk disk(at, FailingDisk::Fault::Short, true);
    CheckpointWriter writer(options(0, 1, &disk), rank.pieces, rank.copy());
    writer.save(manifest_of(2));
    if (error_of([&] { writer.finish(); }).empty()) expect_whole(latest_checkpoint(folder()));
  }
}

TEST_F(Checkpoints, AnotherRanksFailureEndsTheWaitForIt) {
  Rank first = state_of(0, 2, 1), second = state_of(1, 2, 1);
  FailingDisk disk(3, FailingDisk::Fault::NoSpace, true);
  CheckpointWriter zero(options(0, 2), first.pieces, first.copy()), one(options(1, 2, &disk), second.pieces, second.copy());
  zero.save(manifest_of(1));
  one.save(manifest_of(1));
  EXPECT_NE(error_of([&] { one.finish(); }).find("rank 1"), std::string::npos);
  const std::string error = error_of([&] { zero.finish(); });
  EXPECT_NE(error.find("rank 1"), std::string::npos);
  EXPECT_NE(error.find("space"), std::string::npos);
  EXPECT_NE(error_of([&] { latest_checkpoint(folder()); }), "");
}

TEST_F(Checkpoints, ARankThatWritesNothingIsNamed) {
  Rank first = state_of(0, 2, 1);
  CheckpointWriter::Options given = options(0, 2);
  given.timeout_seconds = 0.2;
  CheckpointWriter zero(given, first.pieces, first.copy());
  zero.save(manifest_of(1));
  EXPECT_NE(error_of([&] { zero.finish(); }).find("rank 1 has not written"), std::string::npos);
}

// Holds up the first call until it is let go.
class SlowDisk : public Disk {
 public:
  int make_directory(const std::string& path) override {
    while (!free_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return Disk::make_directory(path);
  }
  std::atomic<bool> free_{false};
};

TEST_F(Checkpoints, WhoeverEndsTheRunCanWaitForTheOneThatIsBeingWritten) {
  Rank rank = state_of(0, 1, 7);
  SlowDisk disk;
  CheckpointWriter writer(options(0, 1, &disk), rank.pieces, rank.copy());
  EXPECT_EQ(writer.under_way(), -1);
  EXPECT_TRUE(writer.wait_until_written(0));
  writer.save(manifest_of(7));
  EXPECT_EQ(writer.under_way(), 7);
  EXPECT_FALSE(writer.wait_until_written(0.05));
  disk.free_ = true;
  EXPECT_TRUE(writer.wait_until_written(60));
  EXPECT_EQ(writer.under_way(), -1);
  expect_whole(latest_checkpoint(folder()));
}

// Another rank than 0 knows by the folder that its checkpoint is complete.
TEST_F(Checkpoints, ARankIsThroughWhenRankZeroHasCompletedTheCheckpoint) {
  Rank first = state_of(0, 2, 7), second = state_of(1, 2, 7);
  SlowDisk disk;
  CheckpointWriter zero(options(0, 2, &disk), first.pieces, first.copy()), one(options(1, 2), second.pieces, second.copy());
  one.save(manifest_of(7));
  one.finish();
  EXPECT_EQ(one.under_way(), -1);
  EXPECT_TRUE(one.wait_until_written(0));
  EXPECT_FALSE(one.wait_until_complete(0.05));
  zero.save(manifest_of(7));
  EXPECT_FALSE(one.wait_until_complete(0.05));
  disk.free_ = true;
  EXPECT_TRUE(one.wait_until_complete(60));
  EXPECT_EQ(CheckpointReader(latest_checkpoint(folder())).manifest().step, 7);
  // One that came to nothing is not waited for.
  FailingDisk failing(3, FailingDisk::Fault::NoSpace, false);
  CheckpointWriter broken(options(0, 2, &failing), first.pieces, first.copy());
  one.save(manifest_of(8));
  one.finish();
  broken.save(manifest_of(8));
  EXPECT_NE(error_of([&] { broken.finish(); }), "");
  EXPECT_TRUE(one.wait_until_complete(60));
}

// Opens a folder late, to synchronise it: when it is gone, or after a while.
class LateDisk : public Disk {
 public:
  int open(const std::string& path, int flags) override {
    for (int i = 0; (flags & O_DIRECTORY) != 0 && i < 200 && fs::exists(path); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return Disk::open(path, flags);
  }
};

// Rank 0 renames the folder as soon as it has seen what the others note in it.
TEST_F(Checkpoints, ARankIsDoneWithTheFolderWhenItsNoteAppears) {
  Rank first = state_of(0, 2, 7), second = state_of(1, 2, 7);
  LateDisk disk;
  CheckpointWriter zero(options(0, 2), first.pieces, first.copy()), one(options(1, 2, &disk), second.pieces, second.copy());
  zero.save(manifest_of(7));
  one.save(manifest_of(7));
  EXPECT_EQ(error_of([&] { one.finish(); }), "");
  EXPECT_EQ(error_of([&] { zero.finish(); }), "");
  EXPECT_TRUE(one.wait_until_complete(60));
  expect_whole(latest_checkpoint(folder()));
}

// Rank 1 has failed before it came to its part.
TEST_F(Checkpoints, ARunThatFailsWaitsForNoRankThatWillNotWrite) {
  Rank first = state_of(0, 2, 7);
  CheckpointWriter zero(options(0, 2), first.pieces, first.copy());
  EXPECT_EQ(zero.last_begun(), -1);
  zero.save(manifest_of(7));
  EXPECT_EQ(zero.last_begun(), 7);
  EXPECT_FALSE(zero.wait_until_written(0.05));
  zero.abandon();
  EXPECT_TRUE(zero.wait_until_written(60)) << "the writer's own time-out is 600 s";
  EXPECT_EQ(zero.last_begun(), 7);
  EXPECT_NE(error_of([&] { zero.check(); }).find("rank 1 has not written its file"), std::string::npos);
}

TEST_F(Checkpoints, AFailureSaysWhichCheckpointThereIsBesideIt) {
  for (const bool is_first : {true, false}) {
    fs::remove_all(folder());
    if (!is_first) save(1);
    Rank rank = state_of(0, 1, 2);
    FailingDisk disk(3, FailingDisk::Fault::NoSpace, false);
    CheckpointWriter writer(options(0, 1, &disk), rank.pieces, rank.copy());
    writer.save(manifest_of(2));
    const std::string error = error_of([&] { writer.finish(); });
    EXPECT_NE(error.find(is_first ? "The run has no checkpoint before it" : "The checkpoint before it, step_00000001, is untouched"),
              std::string::npos)
        << error;
  }
}

// Ends the process before the n-th call, as a kill does.
class DyingDisk : public Disk {
 public:
  explicit DyingDisk(int at) : at_(at) {}
  int open(const std::string& path, int flags) override { return step(), Disk::open(path, flags); }
  ssize_t write(int file, const void* data, size_t size) override {
    step();
    // Half of it may have arrived.
    if (calls_ == at_) return Disk::write(file, data, size > 8192 ? 4096 : std::max<size_t>(1, size / 2));
    return Disk::write(file, data, size);
  }
  int truncate(int file, off_t size) override { return step(), Disk::truncate(file, size); }
  int sync(int file) override { return step(), Disk::sync(file); }
  int rename(const std::string& from, const std::string& to) override { return step(), Disk::rename(from, to); }
  int make_directory(const std::string& path) override { return step(), Disk::make_directory(path); }

 private:
  void step() {
    if (calls_++ == at_) ::_exit(9);
  }
  int calls_ = 0, at_;
};

class DyingCheckpoints : public Checkpoints {
 protected:
  // Saves step 3 in a process that dies at one of its calls to the disk; whether the call would have come after all of them.
  bool saves_before_call(int call) const {
    const pid_t child = ::fork();
    if (child == 0) {
      const Rank rank = state_of(0, 1, 3);
      DyingDisk disk(call);
      CheckpointWriter writer(options(0, 1, &disk), rank.pieces, rank.copy());
      writer.save(manifest_of(3));
      ::_exit(error_of([&] { writer.finish(); }).empty() ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) != 1) << "call " << call;
    return !WIFEXITED(status) || WEXITSTATUS(status) != 9;
  }
};

TEST_F(DyingCheckpoints, ADeathInTheFirstLeavesNoneOrAWholeOneToGoOnFrom) {
  int without = 0, with = 0;
  for (int at = 0;; ++at) {
    fs::remove_all(folder());
    const bool is_saved = saves_before_call(at);
    if (holds_checkpoints(folder())) {
      expect_whole(latest_checkpoint(folder()));
      EXPECT_EQ(CheckpointReader(latest_checkpoint(folder())).manifest().step, 3);
      EXPECT_EQ(checkpoint_named_by(folder() + "/latest"), latest_checkpoint(folder()));
      ++with;
    } else {
      EXPECT_NE(error_of([&] { latest_checkpoint(folder()); }).find("there is no latest checkpoint"), std::string::npos);
      ++without;
    }
    if (is_saved) break;
  }
  EXPECT_GT(without, 6);
  EXPECT_GT(with, 1) << "no death came between the checkpoint and what names it";
  // Which of several was the latest is not guessed.
  save(4);
  fs::remove(folder() + "/latest");
  EXPECT_NE(error_of([&] { latest_checkpoint(folder()); }).find("latest: is missing, and which of the checkpoints"), std::string::npos);
}

TEST_F(DyingCheckpoints, ADeathAtAnyCallLeavesAWholeCheckpoint) {
  int survived = 0;
  for (int at = 0;; ++at) {
    fs::remove_all(folder());
    save(1);
    save(2);
    const bool is_saved = saves_before_call(at);
    expect_whole(latest_checkpoint(folder()));
    const int64_t step = CheckpointReader(latest_checkpoint(folder())).manifest().step;
    EXPECT_TRUE(step == 2 || step == 3);
    // The run that comes after cleans up and goes on.
    Rank rank = state_of(0, 1, 4);
    CheckpointWriter writer(options(), rank.pieces, rank.copy());
    for (const auto& entry : fs::directory_iterator(folder()))
      EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry.path() << " after call " << at;
    writer.save(manifest_of(4));
    writer.finish();
    EXPECT_EQ(CheckpointReader(latest_checkpoint(folder())).manifest().step, 4);
    expect_whole(latest_checkpoint(folder()));
    if (is_saved) {
      EXPECT_EQ(step, 3);
      break;
    }
    ++survived;
  }
  EXPECT_GT(survived, 12);
}

}  // namespace
}  // namespace zerostep::testing
