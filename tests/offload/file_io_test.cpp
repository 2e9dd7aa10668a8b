#include "offload/file_io.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <iostream>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/dtype.h"
#include "base/nth.h"
#include "offload/disk.h"
#include "tests/offload/support/denied_call.h"
#include "tests/offload/support/file_io_case.h"
#include "tests/offload/support/random_text.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

namespace {
std::atomic<int> num_submits = 0;
}  // namespace
// The library's own, counted.
extern "C" int io_uring_submit(io_uring* ring) {
  static const auto real = reinterpret_cast<int (*)(io_uring*)>(::dlsym(RTLD_NEXT, "io_uring_submit"));
  ++num_submits;
  return real(ring);
}

namespace zerostep {
namespace {

using testing::content;
using testing::Faults;
using testing::FaultyQueue;
using testing::FileIoTest;
using testing::kBlock;
using testing::kPage;
using testing::Memory;
using testing::message_of;
using testing::OpenFile;
using testing::QueueKind;
using testing::random_text;

// Which of the two this machine permits is printed, and the choice is held against the kernel's own answer.
TEST(FileIoChoice, IsIoUringWhereTheKernelPermitsIt) {
  const int error = testing::io_uring_error();
  std::cout << "io_uring on this machine: " << (error == 0 ? "permitted; both kinds of queues are tested" : std::strerror(error)) << "\n";
  const std::string name = io_queues()({})->name();
  if (error == 0) {
    EXPECT_EQ(name, "io_uring");
    EXPECT_EQ(FileIo({}).description(), "io_uring, 8 requests of 1.00 MiB in flight");
  } else {
    EXPECT_SAYS(name, std::string("8 threads, as io_uring is not to be had: ") + std::strerror(error));
  }
}

TEST(FileIoChoice, IsThreadsWhereAContainerForbidsIoUring) {
  for (const auto& [call, error, reason] :
       std::vector<std::tuple<long, int, std::string>>{{SYS_io_uring_setup, EPERM, "Operation not permitted"},
                                                       {SYS_io_uring_setup, ENOSYS, "Function not implemented"},
                                                       {SYS_io_uring_enter, EPERM, "io_uring"}}) {
    testing::run_without(call, error, [&, reason = reason] {
      FileIo io({.block_size = kBlock, .queue_depth = 3, .intra_op_parallelism = 2});
      EXPECT_SAYS(io.description(), "6 threads, as io_uring");
      EXPECT_SAYS(io.description(), reason);
      const std::string text = random_text(3 * kBlock, 1);
      OpenFile file(true, text);
      Memory memory(3 * kBlock);
      io.read({{{file.get(), 0, memory.at(), 3 * kBlock}}});
      EXPECT_EQ(memory.text(0, 3 * kBlock), text);
    });
  }
}

TEST(FileIoOptions, OutOfRangeAreNamed) {
  EXPECT_THROW(FileIo({.block_size = 0}), InputError);
  EXPECT_THROW(FileIo({.block_size = int64_t{2} << 30}), InputError);
  EXPECT_THROW(FileIo({.queue_depth = 0}), InputError);
  EXPECT_THROW(FileIo({.intra_op_parallelism = 0}), InputError);
}

TEST_P(FileIoTest, ContentsAreThoseThatAnotherReaderSees) {
  for (const bool is_direct : {true, false})
    for (const int64_t size : {int64_t{1}, kPage - 1, kPage, kPage + 1, kBlock - 1, kBlock, kBlock + 1, 3 * kBlock + 777, 40 * kBlock})
      for (const int64_t shift : {0, 64}) {  // in memory
        const std::string before = random_text(50 * kBlock, 1), text = random_text(size, 2);
        OpenFile file(is_direct, before);
        Memory memory(size + shift);
        FileIo io = make();
        io.read({{{file.get(), 3 * kPage, memory.at(shift), size}}});
        EXPECT_EQ(memory.text(shift, size), before.substr(3 * kPage, static_cast<size_t>(size)));
        EXPECT_EQ(memory.text(shift + size, 16), std::string(16, '?'));  // nothing beyond
        memory.put(shift, text);
        io.write({{{file.get(), 3 * kPage, memory.at(shift), size}}});
        const std::string after = content(file.path());
        const auto end = static_cast<size_t>(3 * kPage + (is_direct ? round_up(size, kPage) : size));
        EXPECT_EQ(after.substr(0, 3 * kPage), before.substr(0, 3 * kPage));
        EXPECT_EQ(after.substr(3 * kPage, static_cast<size_t>(size)), text);
        EXPECT_EQ(after.substr(static_cast<size_t>(3 * kPage + size), end - static_cast<size_t>(3 * kPage + size)),
                  std::string(end - static_cast<size_t>(3 * kPage + size), '\0'));
        EXPECT_EQ(after.substr(end), before.substr(end));
        EXPECT_EQ(io.counts().copied > 0, is_direct && (shift != 0 || size % kPage != 0)) << size << " " << shift;
      }
}

TEST_P(FileIoTest, ReadsUpToTheEndOfAFileOfAnySize) {
  const std::string text = random_text(kBlock + 100, 3);
  OpenFile file(true, text);
  Memory memory(kBlock + 100);
  FileIo io = make();
  io.read({{{file.get(), 0, memory.at(), kBlock + 100}}});
  EXPECT_EQ(memory.text(0, kBlock + 100), text);
  const std::string said = message_of<RunError>([&] { io.read({{{file.get(), 0, memory.at(), 4 * kBlock}}}); });
  EXPECT_SAYS(said, "cannot read 8192 bytes at offset");
  EXPECT_SAYS(said, file.path());
  EXPECT_SAYS(said, "the file ends");
}

TEST_P(FileIoTest, ManyTransfersOfAllSizesGoThroughFewSlots) {
  OpenFile file;
  std::mt19937 bits(7);
  std::vector<std::string> texts;
  std::vector<int64_t> offsets;
  int64_t end = 0;
  for (int i = 0; i < 200; ++i) {
    texts.push_back(random_text(static_cast<int64_t>(bits() % (3 * kBlock)), 100 + static_cast<uint32_t>(i)));  // of 0 bytes too
    offsets.push_back(end);
    end += round_up(std::ssize(texts.back()), kPage);
  }
  Memory memory(end), back(end);
  std::vector<FileTransfer> writes, reads;
  for (size_t i = 0; i < texts.size(); ++i) {
    memory.put(offsets[i], texts[i]);
    writes.push_back({file.get(), offsets[i], memory.at(offsets[i]), std::ssize(texts[i])});
    reads.push_back({file.get(), offsets[i], back.at(offsets[i]), std::ssize(texts[i])});
  }
  FileIo io = make(options(5));
  io.write(writes);
  EXPECT_EQ(faults_->max_in_flight, 5);
  io.read(reads);
  const std::string whole = content(file.path());
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(back.text(offsets[i], std::ssize(texts[i])), texts[i]);
    EXPECT_EQ(whole.substr(static_cast<size_t>(offsets[i]), texts[i].size()), texts[i]);
  }
  EXPECT_EQ(faults_->max_in_flight, 5);
}

TEST_P(FileIoTest, RequestsAreBlocksAndTheOptionsSayHowManyAreInFlightWhen) {
  OpenFile file(true, random_text(12 * kBlock, 1));
  Memory memory(12 * kBlock);
  const auto read = [&](const AioOptions& options) {
    *faults_ = {};
    make(options).read({{{file.get(), 0, memory.at(), 12 * kBlock}}});
    for (const IoRequest& request : faults_->requests) EXPECT_EQ(request.num_bytes, round_up(options.block_size, kPage));
    EXPECT_EQ(faults_->max_in_flight, options.max_in_flight());
  };
  read({.block_size = kBlock, .queue_depth = 4, .overlap_events = false});
  EXPECT_EQ(faults_->submitted, std::vector<int>(3, 4));
  EXPECT_EQ(faults_->in_flight_before, std::vector<int>(3, 0));
  read({.block_size = kBlock, .queue_depth = 2, .intra_op_parallelism = 3, .overlap_events = false});
  EXPECT_EQ(faults_->submitted, std::vector<int>(2, 6));
  read({.block_size = kBlock - 1, .queue_depth = 1});
  EXPECT_EQ(faults_->submitted, std::vector<int>(12, 1));
  // With overlap what is completed is replaced at once. Here completions come one by one.
  *faults_ = {};
  class OneByOne final : public IoQueue {
   public:
    explicit OneByOne(std::unique_ptr<IoQueue> queue) : queue_(std::move(queue)) {}
    std::string name() const override { return queue_->name(); }
    void submit(std::span<const IoRequest> requests) override { queue_->submit(requests); }
    std::vector<IoCompletion> wait(double seconds) override {
      if (ready_.empty()) ready_ = queue_->wait(seconds);
      const IoCompletion first = ready_.back();
      ready_.pop_back();
      return {first};
    }

   private:
    std::unique_ptr<IoQueue> queue_;
    std::vector<IoCompletion> ready_;
  };
  AioOptions one_by_one = options(4);
  one_by_one.make_queue = [&](const AioOptions& o) {
    return std::make_unique<FaultyQueue>(faults_, std::make_unique<OneByOne>(testing::make(GetParam(), o)));
  };
  FileIo io(one_by_one);
  io.read({{{file.get(), 0, memory.at(), 12 * kBlock}}});
  EXPECT_EQ(faults_->submitted, (std::vector<int>{4, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(faults_->in_flight_before, (std::vector<int>{0, 3, 3, 3, 3, 3, 3, 3, 3}));
}

TEST_P(FileIoTest, SingleSubmitMakesACallForEachRequest) {
  if (GetParam() == QueueKind::Threads) {
    EXPECT_EQ(make(options(3)).description(), "3 threads, 3 requests of 8.00 KiB in flight");
    return;
  }
  OpenFile file(true, random_text(12 * kBlock, 1));
  Memory memory(12 * kBlock);
  for (const bool is_single : {false, true}) {
    AioOptions options{.block_size = kBlock, .queue_depth = 4, .single_submit = is_single, .overlap_events = false};
    FileIo io = make(options);
    const int before = num_submits;
    io.read({{{file.get(), 0, memory.at(), 12 * kBlock}}});
    EXPECT_EQ(num_submits - before, is_single ? 12 : 3);
  }
}

TEST_P(FileIoTest, TransfersOfSeveralThreadsFollowEachOther) {
  OpenFile file(true, std::string(8 * 4 * kBlock, 'x'));
  FileIo io = make();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      Memory memory(4 * kBlock, static_cast<char>('a' + t)), back(4 * kBlock);
      for (int i = 0; i < 5; ++i) {
        io.write({{{file.get(), t * 4 * kBlock, memory.at(), 4 * kBlock}}});
        io.read({{{file.get(), t * 4 * kBlock, back.at(), 4 * kBlock}}});
        EXPECT_EQ(back.text(0, 4 * kBlock), std::string(4 * kBlock, static_cast<char>('a' + t)));
      }
    });
  for (auto& thread : threads) thread.join();
}

// Readers and writers of one maker have threads together.
TEST(FileIoThreads, AreThoseOfAllQueuesAndNotMoreThanTheMost) {
  const auto threads = [] {
    std::set<std::string> out;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) out.insert(task.path().filename().string());
    return out;
  };
  const std::set<std::string> before = threads();
  const auto num_new = [&] {
    const std::set<std::string> now = threads();
    return std::count_if(now.begin(), now.end(), [&](const std::string& id) { return !before.contains(id); });
  };
  {
    const IoQueueMaker maker = thread_queues(), copy = maker;
    const auto first = maker({.queue_depth = 3}), second = copy({.queue_depth = 3});
    EXPECT_EQ(num_new(), 3);
    EXPECT_EQ(second->name(), "3 threads");
    // Each has its own completions.
    OpenFile file(false, std::string(kBlock, 'x'));
    Memory memory(2 * kBlock);
    for (int slot = 0; slot < 2; ++slot)
      (slot == 0 ? first : second)->submit({{{file.get()->descriptor, false, 0, memory.at(slot * kBlock), kBlock, slot}}});
    for (int slot = 0; slot < 2; ++slot) {
      const auto done = (slot == 0 ? first : second)->wait(30);
      ASSERT_EQ(done.size(), 1u);
      EXPECT_EQ(done[0].slot, slot);
      EXPECT_EQ(done[0].result, kBlock);
    }
    const auto third = maker({.queue_depth = 100, .intra_op_parallelism = 2});
    EXPECT_EQ(third->name(), fmt::format("{} threads", kMostIoThreads));
    EXPECT_EQ(num_new(), kMostIoThreads);
  }
  // The system may list a thread for a moment after it was joined.
  for (int i = 0; i < 1000 && num_new() > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(num_new(), 0);
}

INSTANTIATE_TEST_SUITE_P(Queues, FileIoTest, ::testing::ValuesIn(testing::queue_kinds()),
                         [](const auto& info) { return info.param == QueueKind::IoUring ? "IoUring" : "Threads"; });

}  // namespace
}  // namespace zerostep
