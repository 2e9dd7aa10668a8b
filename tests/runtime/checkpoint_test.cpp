#include <ATen/Parallel.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/checkpoint_writer.h"
#include "tests/support/scratch_folder.h"

// Checkpoints as files: what is written, what is refused, and what is left when a write fails or the process dies at any point of it.
namespace zerostep::testing {
namespace {

namespace fs = std::filesystem;

class Checkpoints : public ::testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    matrix_.name = "matrix";
    matrix_.shape = {30, 40};
    vector_.name = "a.vector";
    vector_.shape = {7};
  }

  std::string folder() const { return (root_ / "checkpoints").string(); }
  // Element i of the state at a step.
  static float value(int64_t step, int array, int64_t i) { return static_cast<float>(step * 10000 + (array + 1) * 2000 + i); }

  // The memory of one of `ranks`: every rank has its part of each array.
  struct Rank {
    std::vector<std::vector<float>> arrays;
    std::vector<StatePiece> pieces;
    CopyState copy() const {
      return [this](std::span<std::byte* const> targets) {
        for (size_t i = 0; i < arrays.size(); ++i) std::memcpy(targets[i], arrays[i].data(), arrays[i].size() * sizeof(float));
      };
    }
  };
  Rank state_of(int rank, int ranks, int64_t step) const {
    Rank out;
    for (const ParameterInfo* p : {&matrix_, &vector_})
      for (int array = -1; array < 2; ++array) {
        const int64_t n = p->num_elements(), begin = n * rank / ranks, end = n * (rank + 1) / ranks;
        std::vector<float>& values = out.arrays.emplace_back();
        for (int64_t i = begin; i < end; ++i) values.push_back(value(step, array, i));
        out.pieces.push_back({p, array, begin, end - begin, DType::F32});
      }
    return out;
  }
  static void set_step(Rank& rank, int64_t step) {
    for (size_t a = 0; a < rank.arrays.size(); ++a)
      for (size_t i = 0; i < rank.arrays[a].size(); ++i)
        rank.arrays[a][i] = value(step, rank.pieces[a].array, rank.pieces[a].begin + static_cast<int64_t>(i));
  }
  static Manifest manifest_of(int64_t step) {
    Manifest m;
    m.program = "test";
    m.step = step;
    m.engine = {{"scale", 0.1}};
    m.configuration = {{"seed", 3}};
    m.model = {{"n_layer", 2}};
    m.identity = {{"seed", 3}};
    return m;
  }
  CheckpointWriter::Options options(int rank = 0, int ranks = 1, Disk* disk = &Disk::real()) const {
    return {folder(), rank, ranks, 2, 10, disk};
  }
  void save(int64_t step, int ranks = 1) const {
    std::vector<Rank> states;
    std::vector<std::unique_ptr<CheckpointWriter>> writers;
    for (int r = 0; r < ranks; ++r) states.push_back(state_of(r, ranks, step));
    for (int r = 0; r < ranks; ++r)
      writers.push_back(std::make_unique<CheckpointWriter>(options(r, ranks), states[static_cast<size_t>(r)].pieces,
                                                           states[static_cast<size_t>(r)].copy()));
    for (auto& w : writers) w->save(manifest_of(step));
    for (auto& w : writers) w->finish();
  }
  // The checkpoint is whole and holds the values of its step.
  void expect_whole(const std::string& directory) const {
    CheckpointReader reader(directory);
    for (size_t f = 0; f < reader.manifest().files.size(); ++f) reader.verify(f);
    reader.open();
    for (const ParameterInfo* p : {&matrix_, &vector_})
      for (int array = -1; array < 2; ++array) {
        std::vector<float> found(static_cast<size_t>(p->num_elements()));
        reader.read(p->name, array, 0, p->num_elements(), found.data());
        for (size_t i = 0; i < found.size(); ++i)
          ASSERT_EQ(found[i], value(reader.manifest().step, array, static_cast<int64_t>(i))) << p->name << " " << array;
      }
  }
  static std::string error_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  }

  ScratchFolder scratch_;
  const fs::path& root_ = scratch_.folder();
  ParameterInfo matrix_, vector_;
};

TEST_F(Checkpoints, AnyRunOfElementsIsPutTogetherFromTheFilesOfAllRanks) {
  for (const int ranks : {1, 2, 3, 5}) {
    save(ranks, ranks);
    CheckpointReader reader(latest_checkpoint(folder()));
    EXPECT_EQ(reader.manifest().step, ranks);
    EXPECT_EQ(reader.manifest().files.size(), static_cast<size_t>(ranks));
    reader.open();
    EXPECT_TRUE(reader.contains("matrix", -1, 1200));
    EXPECT_TRUE(reader.contains("matrix", 1, 1200));
    EXPECT_FALSE(reader.contains("matrix", 2, 1200));
    EXPECT_FALSE(reader.contains("matrix", 0, 1201));
    EXPECT_FALSE(reader.contains("other", -1, 1));
    EXPECT_EQ(reader.arrays_of("a.vector"), 2);
    for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 1200}, {399, 2}, {599, 402}, {1199, 1}, {5, 0}}) {
      std::vector<float> found(static_cast<size_t>(count) + 1, -1.0f);
      reader.read("matrix", 0, begin, count, found.data());
      for (int64_t i = 0; i < count; ++i) ASSERT_EQ(found[static_cast<size_t>(i)], value(ranks, 0, begin + i)) << ranks << " ranks";
      EXPECT_EQ(found.back(), -1.0f);
    }
    float nothing[8];
    EXPECT_NE(error_of([&] { reader.read("a.vector", -1, 3, 5, nothing); }).find("element 7 of a.vector"), std::string::npos);
  }
}

TEST_F(Checkpoints, SixteenBitValuesKeepTheirBits) {
  std::vector<uint16_t> bits(1200);
  std::iota(bits.begin(), bits.end(), uint16_t{0x3F00});
  CheckpointWriter writer(options(), {{&matrix_, StatePiece::kValues, 0, 1200, DType::BF16}},
                          [&](std::span<std::byte* const> targets) { std::memcpy(targets[0], bits.data(), 2400); });
  writer.save(manifest_of(1));
  writer.finish();
  CheckpointReader reader(latest_checkpoint(folder()));
  reader.open();
  std::vector<float> found(1200);
  reader.read("matrix", StatePiece::kValues, 0, 1200, found.data());
  for (size_t i = 0; i < 1200; ++i) {
    uint32_t word = 0;
    std::memcpy(&word, &found[i], 4);
    ASSERT_EQ(word, uint32_t{bits[i]} << 16);
  }
}

TEST_F(Checkpoints, TheStateMayChangeAsSoonAsSaveReturns) {
  Rank rank = state_of(0, 1, 1);
  CheckpointWriter writer(options(), rank.pieces, rank.copy());
  for (int64_t step = 1; step <= 5; ++step) {
    set_step(rank, step);
    writer.save(manifest_of(step));
    set_step(rank, 77);
  }
  writer.finish();
  expect_whole(latest_checkpoint(folder()));
  EXPECT_EQ(writer.times().count, 5);
}

TEST_F(Checkpoints, TheNewestStayAndLaterOnesOfAnotherBranchToo) {
  Rank rank = state_of(0, 1, 1);
  const auto names = [&] {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder())) out.push_back(entry.path().filename().string());
    std::sort(out.begin(), out.end());
    return out;
  };
  {
    CheckpointWriter writer(options(), rank.pieces, rank.copy());
    for (const int64_t step : {10, 20, 30, 40}) {
      set_step(rank, step);
      writer.save(manifest_of(step));
    }
    writer.finish();
  }
  EXPECT_EQ(names(), (std::vector<std::string>{"latest", "step_00000030", "step_00000040"}));
  // From step 30 on again: 40 is not older.
  CheckpointWriter writer(options(), rank.pieces, rank.copy());
  for (const int64_t step : {32, 34}) {
    set_step(rank, step);
    writer.save(manifest_of(step));
  }
  writer.finish();
  EXPECT_EQ(names(), (std::vector<std::string>{"latest", "step_00000032", "step_00000034", "step_00000040"}));
  EXPECT_EQ(fs::path(latest_checkpoint(folder())).filename(), "step_00000034");
  // And over 40, which the new one replaces.
  set_step(rank, 40);
  writer.save(manifest_of(40));
  writer.finish();
  expect_whole(latest_checkpoint(folder()));
}

TEST_F(Checkpoints, EveryDamageNamesTheFile) {
  save(3, 2);
  const fs::path good = latest_checkpoint(folder());
  const auto open_all = [](const fs::path& directory) {
    CheckpointReader reader(directory.string());
    for (size_t f = 0; f < reader.manifest().files.size(); ++f) reader.verify(f);
    reader.open();
  };
  open_all(good);
  int tried = 0;
  for (const char* name : {"manifest.json", "rank_00000.safetensors", "rank_00001.safetensors"}) {
    std::ifstream in(good / name, std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(in), {}};
    const auto refused = [&](const std::optional<std::string>& damaged) {
      const fs::path copy = root_ / "copy";
      fs::remove_all(copy);
      fs::copy(good, copy);
      if (damaged)
        std::ofstream(copy / name, std::ios::binary) << *damaged;
      else
        fs::remove(copy / name);
      const std::string error = error_of([&] { open_all(copy); });
      EXPECT_NE(error.find(name), std::string::npos) << name << ": " << error;
      ++tried;
    };
    refused(std::nullopt);
    refused("");
    refused(content + " ");
    for (const size_t cut : {content.size() - 1, content.size() / 2, size_t{1}}) refused(content.substr(0, cut));
    for (size_t at = 0; at < content.size(); at += content.size() / 41 + 1)
      for (const int bit : {0, 4, 7}) {
        std::string flipped = content;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
        refused(flipped);
      }
  }
  EXPECT_GT(tried, 300);
}

TEST_F(Checkpoints, APointerThatNamesNothingIsRefused) {
  EXPECT_NE(error_of([&] { latest_checkpoint(folder()); }).find("latest"), std::string::npos);
  save(1);
  for (const char* text : {"", "\n", "../checkpoints/step_00000001\n", "step_00000002\n", "..\n", "\x01\x02\n"}) {
    std::ofstream(fs::path(folder()) / "latest") << text;
    EXPECT_NE(error_of([&] { latest_checkpoint(folder()); }).find("latest"), std::string::npos) << text;
    EXPECT_NE(error_of([&] { checkpoint_named_by(folder() + "/latest"); }).find("latest"), std::string::npos) << text;
  }
  std::ofstream(fs::path(folder()) / "latest") << "step_00000001\nstep_00000001\n";
  EXPECT_NE(error_of([&] { latest_checkpoint(folder()); }).find("latest: is damaged: it has several lines"), std::string::npos);
}

TEST_F(Checkpoints, LatestAndBestStandForTheCheckpointsThatTheyName) {
  save(1);
  const std::string checkpoint = folder() + "/step_00000001";
  std::ofstream(folder() + "/best") << "step_00000001\n";
  for (const char* name : {"/latest", "/best", "/step_00000001"}) EXPECT_EQ(checkpoint_named_by(folder() + name), checkpoint) << name;
  // A model's directory may have any name.
  std::filesystem::create_directories(folder() + "/models/latest");
  EXPECT_EQ(checkpoint_named_by(folder() + "/models/latest"), folder() + "/models/latest");
  EXPECT_EQ(checkpoint_named_by(""), "");
  // What is no file names nothing.
  std::filesystem::remove(folder() + "/latest");
  std::filesystem::create_symlink("latest", folder() + "/latest");
  const auto message = [&] {
    try {
      latest_checkpoint(folder());
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  EXPECT_EQ(message().find(folder() + "/latest: is no file"), 0u) << message();
  std::filesystem::remove(folder() + "/latest");
  std::filesystem::create_directory(folder() + "/latest");
  EXPECT_EQ(message().find(folder() + "/latest: is no file"), 0u) << message();
}

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
