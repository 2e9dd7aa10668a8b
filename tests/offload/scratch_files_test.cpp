#include "offload/scratch_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <barrier>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "base/arena.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/host_name.h"
#include "base/nth.h"
#include "offload/tier.h"
#include "tests/offload/support/denied_call.h"
#include "tests/offload/support/faulty_queue.h"
#include "tests/offload/support/random_text.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using testing::message_of;
using testing::random_text;

constexpr int64_t kPage = kFileAlignmentBytes;

// The nameless files below a folder that this process has open, as paths that open them again.
std::vector<std::string> open_files(const std::string& folder) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (target.starts_with(folder + "/") && target.ends_with(" (deleted)")) out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return std::pair(a.size(), a) < std::pair(b.size(), b); });
  return out;
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

int64_t file_size(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_size : -1;
}

std::vector<std::string> names(const std::string& folder) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) out.push_back(entry.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}

class ScratchFilesTest : public ::testing::Test {
 protected:
  ScratchOptions options(int folders = 1) {
    ScratchOptions options;
    for (int i = 0; i < folders; ++i) options.folders.push_back(folder(i));
    options.rank = 3;
    options.aio = {.block_size = 8192, .queue_depth = 4};
    options.warn = options.warn_of_own = [this](const std::string& text) { warnings_.push_back(text); };
    return options;
  }
  std::string folder(int i) const { return scratch_.path("disk" + std::to_string(i)); }
  std::byte* memory(int64_t num_bytes) { return static_cast<std::byte*>(arena_.allocate(round_up(num_bytes, kPage), "memory")); }
  std::byte* memory(const std::string& text) {
    std::byte* out = memory(std::ssize(text));
    std::memcpy(out, text.data(), text.size());
    return out;
  }
  static std::string text(const std::byte* memory, int64_t size) {
    return {reinterpret_cast<const char*>(memory), static_cast<size_t>(size)};
  }

  ScratchFolder scratch_;
  std::vector<std::string> warnings_;
  Arena arena_ = Arena::host_memory("test", int64_t{32} << 20);
  Stream reads_ = Stream::worker("file read"), writes_ = Stream::worker("file write");
};

TEST_F(ScratchFilesTest, ChunksAreZeroThenWhatWasWritten) {
  for (const int num_folders : {1, 2, 3}) {
    ScratchOptions o = options(num_folders);
    o.stripe_bytes = 12288;
    const std::vector<FileBuffer> buffers{{"first", 100000, 30000}, {"nothing", 0, 100}, {"second", 50, 4096}, {"third", 5 * 65536, 65536}};
    ScratchFiles files(o, buffers);
    EXPECT_EQ(buffers[0].num_chunks(), 4);
    EXPECT_EQ(buffers[0].bytes_of(3), 10000);
    std::vector<std::vector<std::string>> written(buffers.size());
    for (const bool is_write : {false, true, false})
      for (size_t b = 0; b < buffers.size(); ++b)
        for (int c = 0; c < buffers[b].num_chunks(); ++c) {
          const int64_t size = buffers[b].bytes_of(c);
          if (is_write) {
            written[b].push_back(random_text(size, static_cast<uint32_t>(10 * b) + static_cast<uint32_t>(c)));
            files.write(writes_, static_cast<int>(b), c, memory(written[b].back())).wait();
          } else {
            std::byte* back = memory(size);
            std::memset(back, '?', static_cast<size_t>(size));
            files.read(reads_, static_cast<int>(b), c, back).wait();
            EXPECT_EQ(text(back, size), written[b].empty() ? std::string(static_cast<size_t>(size), '\0') : nth(written[b], c))
                << num_folders << " " << buffers[b].name << " " << c;
          }
        }
    // What lies where: chunks begin at pages, stripes go round.
    std::string expected;
    for (const auto& chunks : written)
      for (const std::string& chunk : chunks)
        expected += chunk + std::string(static_cast<size_t>(round_up(std::ssize(chunk), kPage)) - chunk.size(), '\0');
    std::vector<std::string> in_folder(static_cast<size_t>(num_folders));
    for (size_t begin = 0, n = 0; begin < expected.size(); begin += 12288, ++n)
      nth(in_folder, n % in_folder.size()) += expected.substr(begin, 12288);
    if (num_folders == 1) in_folder = {expected};
    int64_t sizes = 0;
    for (int i = 0; i < num_folders; ++i) {
      ASSERT_EQ(open_files(folder(i)).size(), 1u);
      const std::string path = open_files(folder(i)).front(), found = content(path);
      EXPECT_EQ(found.substr(0, nth(in_folder, i).size()), nth(in_folder, i));
      EXPECT_EQ(std::ssize(found), files.num_bytes() / num_folders);
      sizes += file_size(path);
    }
    EXPECT_EQ(sizes, files.num_bytes());
    int64_t demanded = 0;
    for (const ScratchDemand& demand : ScratchFiles::demands(buffers, o)) demanded += demand.num_bytes;
    EXPECT_EQ(sizes, demanded);
    EXPECT_EQ(files.write_counts().bytes_written, 100000 + 50 + 5 * 65536);
    EXPECT_EQ(files.read_counts().bytes_read, 2 * (100000 + 50 + 5 * 65536));
    EXPECT_EQ(files.read_counts().bytes_written, 0);
  }
  EXPECT_EQ(warnings_, std::vector<std::string>());
}

TEST_F(ScratchFilesTest, ReadsAndWritesOfDifferentChunksGoOnTogether) {
  ScratchOptions o = options(2);
  o.verify = true;
  constexpr int kChunks = 40;
  constexpr int64_t kSize = 50000;
  ScratchFiles files(o, {{"state", kChunks * kSize, kSize}});
  const StreamDrain no_reads_left(reads_), no_writes_left(writes_);
  std::vector<std::byte*> in(kChunks), out(kChunks);
  for (int c = 0; c < kChunks; ++c) nth(in, c) = memory(random_text(kSize, static_cast<uint32_t>(c))), nth(out, c) = memory(kSize);
  for (int c = 0; c < kChunks; ++c) {
    const Event there = files.write(writes_, 0, c, nth(in, c));
    reads_.wait(there);
    files.read(reads_, 0, c, nth(out, c));
  }
  reads_.synchronize();
  for (int c = 0; c < kChunks; ++c) EXPECT_EQ(text(nth(out, c), kSize), text(nth(in, c), kSize));
}

TEST_F(ScratchFilesTest, SpaceIsTakenAtOnceAndGivenBackAtTheEnd) {
  {
    ScratchFiles files(options(), {{"state", int64_t{24} << 20, 1 << 20}});
    struct stat status = {};
    ASSERT_EQ(::stat(open_files(folder(0)).at(0).c_str(), &status), 0);
    EXPECT_GE(status.st_blocks * 512, int64_t{24} << 20);
    EXPECT_EQ(names(folder(0)), std::vector<std::string>());  // it has no name
    EXPECT_SAYS(files.description(), "4 requests of 8.00 KiB in flight, ");
  }
  EXPECT_EQ(open_files(folder(0)).size(), 0u);
}

TEST_F(ScratchFilesTest, AKilledRunLeavesNothing) {
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ScratchFiles files(options(), {{"state", 1 << 20, 1 << 20}});
    Stream lane = Stream::inline_stream();
    files.write(lane, 0, 0, memory(random_text(1 << 20, 1))).wait();
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char x = 0;
  ASSERT_EQ(::read(ready[0], &x, 1), 1);
  ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(names(folder(0)), std::vector<std::string>());
  ::close(ready[0]), ::close(ready[1]);
}

TEST_F(ScratchFilesTest, NamesThatAreLeftAreRemovedAndNothingElse) {
  std::filesystem::create_directories(folder(0));
  constexpr int kNobody = 999999999;  // no process has this number
  const std::string left = fmt::format("zerostep_scratch_{}_{}_0_abcdef", host_name(), kNobody);
  // Of a process that lives and has not come to take the name away.
  const std::string about_to_go = fmt::format("zerostep_scratch_{}_{}_0_abcdef", host_name(), ::getppid());
  // Names that only begin as ours do: a person's, and those of a host whose name goes on.
  const std::string notes = fmt::format("zerostep_scratch_{}_notes.txt", host_name());
  const std::string of_other = fmt::format("zerostep_scratch_{}_b_{}_0_abcdef", host_name(), kNobody);
  std::vector<std::string> expected{"data.bin", "zerostep_scratch_another-host_0_abcdef", about_to_go, notes, of_other};
  for (const std::string& name : expected) std::ofstream(folder(0) + "/" + name) << "x";
  std::ofstream(folder(0) + "/" + left) << "x";
  // Nor is what has such a name and is no file.
  expected.push_back(fmt::format("zerostep_scratch_{}_{}_2_mnopqr", host_name(), kNobody));
  std::filesystem::create_symlink("data.bin", folder(0) + "/" + expected.back());
  // A run that lives and has a name: this one is removed, its contents are not.
  const std::string with_a_name = fmt::format("zerostep_scratch_{}_{}_1_ghijkl", host_name(), kNobody);
  const int living = ::open((folder(0) + "/" + with_a_name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(::pwrite(living, "alive", 5, 0), 5);
  ScratchFiles files(options(), {{"state", 8192, 8192}});
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(names(folder(0)), expected);
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_EQ(warnings_[0], "2 scratch files of runs that were killed were removed from " + folder(0));
  char found[6] = {};
  EXPECT_EQ(::pread(living, found, 5, 0), 5);
  EXPECT_STREQ(found, "alive");
  ::close(living);
}

// Ranks come at one time: one of them, whichever, removes all of it and tells how much it was.
TEST_F(ScratchFilesTest, WhatIsLeftIsRemovedAndToldByOneRank) {
  constexpr int kNobody = 999999999, kLeft = 400, kRanks = 4;
  for (int round = 0; round < 5; ++round) {
    std::filesystem::create_directories(folder(0));
    for (int i = 0; i < kLeft; ++i)
      std::ofstream(fmt::format("{}/zerostep_scratch_{}_{}_{}_abcdef", folder(0), host_name(), kNobody, i)) << "x";
    std::array<std::vector<std::string>, kRanks> told;
    std::barrier begin(kRanks);
    std::vector<std::thread> ranks;
    for (int rank = 0; rank < kRanks; ++rank)
      ranks.emplace_back([&, rank] {
        ScratchOptions of_rank = options();
        of_rank.rank = rank;
        of_rank.warn = [](const std::string&) {};
        of_rank.warn_of_own = [&, rank](const std::string& text) { told.at(rank).push_back(text); };
        begin.arrive_and_wait();
        ScratchFiles files(of_rank, {{"state", 8192, 8192}});
      });
    for (std::thread& rank : ranks) rank.join();
    std::vector<std::string> all;
    for (const auto& of_rank : told) all.insert(all.end(), of_rank.begin(), of_rank.end());
    EXPECT_EQ(all,
              std::vector<std::string>{fmt::format("{} scratch files of runs that were killed were removed from {}", kLeft, folder(0))});
    EXPECT_EQ(names(folder(0)), std::vector<std::string>());
  }
}

TEST_F(ScratchFilesTest, TheNextRunInAFolderLeavesALivingOneAlone) {
  ScratchFiles first(options(), {{"state", 8192, 8192}});
  first.write(writes_, 0, 0, memory(std::string(8192, 'a'))).wait();
  {
    ScratchFiles second(options(), {{"state", 8192, 8192}});
    second.write(writes_, 0, 0, memory(std::string(8192, 'b'))).wait();
  }
  std::byte* back = memory(8192);
  first.read(reads_, 0, 0, back).wait();
  EXPECT_EQ(text(back, 8192), std::string(8192, 'a'));
  EXPECT_EQ(warnings_, std::vector<std::string>());
}

TEST_F(ScratchFilesTest, ANameThatCannotBeRemovedGoesAtTheEnd) {
  // As where the file system keeps the names of open files.
  std::string during;
  testing::run_without(SYS_unlink, EBUSY, [&] {
    ScratchFiles files(options(), {{"state", 8192, 8192}});
    EXPECT_EQ(names(folder(0)).size(), 1u);
    during = names(folder(0)).at(0);
  });
  EXPECT_TRUE(during.starts_with(fmt::format("zerostep_scratch_{}_{}_3_", host_name(), ::getpid()))) << during;
  EXPECT_EQ(names(folder(0)).size(), 1u);  // that thread could not remove it at the end either
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(gone, nullptr, 0), gone);
  std::filesystem::rename(folder(0) + "/" + during, fmt::format("{}/zerostep_scratch_{}_{}_3_abcdef", folder(0), host_name(), gone));
  ScratchFiles next(options(), {{"state", 8192, 8192}});
  EXPECT_EQ(names(folder(0)).size(), 0u);
}

TEST_F(ScratchFilesTest, AFullDiskIsAnErrorBeforeAnythingIsTaken) {
  std::filesystem::create_directories(folder(0));
  struct statvfs disk = {};
  ASSERT_EQ(::statvfs(folder(0).c_str(), &disk), 0);
  const int64_t much = static_cast<int64_t>(disk.f_blocks) * static_cast<int64_t>(disk.f_frsize) / kPage * kPage + (int64_t{1} << 30);
  // The disk is not even asked.
  std::string said;
  testing::run_without(SYS_fallocate, EIO, [&] { said = message_of([&] { ScratchFiles(options(), {{"state", much, 1 << 20}}); }); });
  EXPECT_SAYS(said, fmt::format("no space in {}: rank 3 needs", folder(0)));
  EXPECT_SAYS(said, fmt::format("({} bytes)", much));
  EXPECT_SAYS(said, "are free (No space left on device)");
  EXPECT_EQ(names(folder(0)).size(), 0u);
  EXPECT_EQ(open_files(folder(0)).size(), 0u);
  // What it refuses when it is: in a child, as the limit is the process's.
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 20, 1 << 20};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(2);
    const std::string refused = message_of([&] { ScratchFiles(options(), {{"state", 2 << 20, 1 << 20}}); });
    const bool is_right = refused.find(folder(0)) != std::string::npos && refused.find("2097152 bytes") != std::string::npos &&
                          refused.find("files of at most 1048576 bytes: raise that (`ulimit -f`)") != std::string::npos &&
                          names(folder(0)).empty() && open_files(folder(0)).empty();
    if (!is_right) fmt::print(stderr, "{}\n", refused);
    ::_exit(is_right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

// Two folders on one disk need its room together, and so do the ranks of the host; what is not there yet lies where its parent does.
TEST_F(ScratchFilesTest, RoomIsThatOfADiskForAllRanks) {
  struct statvfs disk = {};
  ASSERT_EQ(::statvfs(scratch_.path(".").c_str(), &disk), 0);
  const int64_t free = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize),
                most = free / 4 * 3;  // others may fill and empty it
  const std::vector<std::string> folders{folder(0) + "/deeper", folder(1)};
  EXPECT_NEAR(static_cast<double>(free_room(folders)), static_cast<double>(free), 0.3 * static_cast<double>(free));
  EXPECT_EQ(free_room({}), 0);
  // A file system that does not count its bytes says nothing of room.
  const std::vector<std::string> uncounted{"/proc"};
  EXPECT_EQ(free_room(uncounted), INT64_MAX);
  EXPECT_EQ(lack_of_room({{{"key", "/proc", most}}}, 1), "");
  EXPECT_EQ(lack_of_room({{{"key", folder(0), most / 2}}}, 2), "");
  const std::string together = lack_of_room({{{"first", folder(0) + "/deeper", most}, {"second", folder(1), most}}}, 1);
  EXPECT_SAYS(together, fmt::format("first: no space in {}/deeper: 1 rank of this host needs ", folder(0)));
  EXPECT_SAYS(together, fmt::format("({} bytes) on that disk, ", 2 * most));
  EXPECT_TRUE(
      std::regex_search(together, std::regex(" are free: [0-9.]+ .?i?B are missing\\. Make space, or name a folder on another disk")))
      << together;
  EXPECT_EQ(together.find("second"), std::string::npos);
  EXPECT_SAYS(lack_of_room({{{"key", folder(0), most}}}, 2), "2 ranks of this host need ");
  EXPECT_FALSE(std::filesystem::exists(folder(0)));
  // Before a run the folders are made and tried.
  const NewFolders made = require_scratch_folders({{{"key", folder(0), 8192}}}, 2);
  EXPECT_EQ(made.made(), std::vector<std::string>{folder(0)});
  EXPECT_EQ(names(folder(0)), std::vector<std::string>());
  EXPECT_SAYS(message_of([&] { require_scratch_folders({{{"key", folder(0), most}}}, 2); }), "key: no space in ");
  testing::run_without(SYS_openat, EMFILE, [&] {
    EXPECT_SAYS(message_of([&] {
                  require_scratch_folders({{{"key", folder(0), 8192}}}, 1);
                }),
                "key: no file can be made in " + folder(0) + ": Too many open files (raise `ulimit -n`)");
  });
}

TEST_F(ScratchFilesTest, FoldersThatCannotBeMadeAreNamed) {
  ScratchOptions o = options();
  o.folders = {scratch_.path("file") + "/below"};
  std::ofstream(scratch_.path("file")) << "x";
  EXPECT_THROW(ScratchFiles(o, {{"state", 8192, 8192}}), InputError);
  EXPECT_SAYS(message_of([&] { ScratchFiles(o, {{"state", 8192, 8192}}); }), o.folders[0]);
  o.folders = {};
  EXPECT_SAYS(message_of([&] { ScratchFiles(o, {}); }), "nvme_path");
}

TEST_F(ScratchFilesTest, BufferedWhereDirectAccessIsRefused) {
  testing::run_without(
      SYS_fcntl, EINVAL,
      [&] {
        ScratchFiles files(options(), {{"state", 20000, 8000}});
        const std::string expected = random_text(8000, 1);
        files.write(writes_, 0, 1, memory(expected)).wait();
        std::byte* back = memory(8000);
        files.read(reads_, 0, 1, back).wait();
        EXPECT_EQ(text(back, 8000), expected);
        EXPECT_TRUE(files.description().ends_with(", through the page cache")) << files.description();
        EXPECT_EQ(files.write_counts().copied, 0);
      },
      F_SETFL);
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_SAYS(warnings_[0], folder(0));
  EXPECT_SAYS(warnings_[0], "no direct access (O_DIRECT)");
  // Refused when it is tried.
  warnings_.clear();
  testing::run_without(SYS_pwrite64, EINVAL, [&] {
    EXPECT_TRUE(ScratchFiles(options(), {{"state", 20000, 8000}}).description().ends_with(", through the page cache"));
  });
  EXPECT_EQ(warnings_.size(), 1u);
  testing::run_without(SYS_pwrite64, EIO, [&] {
    EXPECT_SAYS(message_of([&] { ScratchFiles(options(), {{"state", 20000, 8000}}); }), "Input/output error");
  });
  EXPECT_EQ(warnings_.size(), 1u);
}

TEST_F(ScratchFilesTest, ADamagedChunkIsFoundWhereVerifyIsOn) {
  for (const bool verify : {true, false}) {
    ScratchOptions o = options();
    o.verify = verify;
    ScratchFiles files(o, {{"masters of block 2", 40000, 10000}});
    for (int c = 0; c < 4; ++c) files.write(writes_, 0, c, memory(random_text(10000, static_cast<uint32_t>(c)))).wait();
    const std::string path = open_files(folder(0)).at(0);
    const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    char byte = 0;
    ASSERT_EQ(::pread(file, &byte, 1, 2 * 12288 + 9999), 1);
    byte = static_cast<char>(byte ^ 1);
    ASSERT_EQ(::pwrite(file, &byte, 1, 2 * 12288 + 9999), 1);
    ::fsync(file), ::close(file);
    for (const int c : {0, 1, 3}) EXPECT_EQ(message_of([&] { files.read(reads_, 0, c, memory(10000)).wait(); }), "nothing thrown");
    Stream lane = Stream::inline_stream();
    const std::string said = message_of([&] { files.read(lane, 0, 2, memory(10000)).wait(); });
    if (!verify) {
      EXPECT_EQ(said, "nothing thrown");
      continue;
    }
    EXPECT_SAYS(said, "rank 3: chunk 2 of masters of block 2: the 10000 bytes at offset 24576 of " + folder(0));
    EXPECT_SAYS(said, "checksum ");
    // Written anew it is right again.
    files.write(writes_, 0, 2, memory(random_text(10000, 9))).wait();
    EXPECT_EQ(message_of([&] { files.read(reads_, 0, 2, memory(10000)).wait(); }), "nothing thrown");
  }
}

TEST_F(ScratchFilesTest, AFailedTransferNamesItsChunkAndEndsItsLane) {
  const auto faults = std::make_shared<testing::Faults>();
  ScratchOptions o = options();
  o.aio.make_queue = [&](const AioOptions& aio) { return std::make_unique<testing::FaultyQueue>(faults, io_queues()(aio)); };
  ScratchFiles files(o, {{"moments", 40000, 10000}});
  faults->answer = [](int n, const IoRequest&) { return n == 3 ? std::optional<int64_t>(-ENOSPC) : std::nullopt; };
  std::byte* data = memory(10000);
  const Event good = files.write(writes_, 0, 0, data), bad = files.write(writes_, 0, 1, data), after = files.write(writes_, 0, 2, data);
  EXPECT_EQ(message_of([&] { good.wait(); }), "nothing thrown");
  const std::string said = message_of([&] { bad.wait(); });
  EXPECT_SAYS(said, "[file tier] rank 3: chunk 1 of moments: cannot write 1808 bytes at offset 20480 of " + folder(0));
  EXPECT_SAYS(said, "no space for it (No space left on device)");
  EXPECT_EQ(message_of([&] { after.wait(); }), said);
  EXPECT_EQ(files.write_counts().bytes_written, 10000 + 8192);
  EXPECT_SAYS(message_of([&] { files.read(reads_, 0, 4, data).wait(); }), "chunk 4 of buffer 0 does not exist");
}

}  // namespace
}  // namespace zerostep
