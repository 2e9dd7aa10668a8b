#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "tests/offload/support/file_io_case.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

// What FileIo makes of transfers that come short, late or not at all, and of queues that fail.
namespace zerostep::testing {
namespace {

TEST_P(FileIoTest, ShortTransfersAreContinued) {
  // A byte at least: none would be the end of the file, to which a request that is halved again and again comes under load.
  faults_->shorten = [](int n, const IoRequest& r) { return n % 3 == 0 ? std::max<int64_t>(1, r.num_bytes / 2) : r.num_bytes; };
  expect_right_in_spite_of_faults();
  EXPECT_GT(counts_.continued, 20);
}

TEST_P(FileIoTest, AnyNumberOfShortTransfersIsContinued) {
  const std::string text = random_text(1500 * kPage, 1);
  OpenFile file(true, text);
  Memory memory(1500 * kPage);
  AioOptions one_block = options(1);
  one_block.block_size = 1500 * kPage;
  faults_->shorten = [](int, const IoRequest&) { return kPage; };
  FileIo io = make(one_block);
  io.read({{{file.get(), 0, memory.at(), 1500 * kPage}}});
  EXPECT_EQ(memory.text(0, 1500 * kPage), text);
  EXPECT_EQ(io.counts().continued, 1499);
}

TEST_P(FileIoTest, ShortTransfersAreContinuedAtASector) {
  // The system transfers a part that is no multiple of a sector: what goes beyond one is done again.
  faults_->answer = [](int n, const IoRequest& r) -> std::optional<int64_t> {
    if (n % 4 != 1) return std::nullopt;
    const int64_t part = std::min<int64_t>(r.num_bytes, n % 8 == 1 ? kPage + 700 : 100);
    const auto size = static_cast<size_t>(r.num_bytes);
    std::unique_ptr<void, decltype(&std::free)> whole(std::aligned_alloc(kDirectAlignment, kBlock), &std::free);
    if (r.is_write) {  // a whole request of these bytes and what the file had behind them
      if (::pread(r.file, whole.get(), size, r.offset) < 0) return -EIO;
      std::memcpy(whole.get(), r.memory, static_cast<size_t>(part));
      return ::pwrite(r.file, whole.get(), size, r.offset) < 0 ? -EIO : part;
    }
    const int64_t got = ::pread(r.file, whole.get(), size, r.offset);
    std::memcpy(r.memory, whole.get(), static_cast<size_t>(part));
    return std::min(got, part);
  };
  expect_right_in_spite_of_faults();
  EXPECT_GT(counts_.continued, 10);
}

TEST_P(FileIoTest, InterruptedRequestsAreMadeAgain) {
  faults_->answer = [](int n, const IoRequest&) {
    return n % 2 == 0 ? std::optional<int64_t>(n % 4 == 0 ? -EINTR : -EAGAIN) : std::nullopt;
  };
  expect_right_in_spite_of_faults();
  EXPECT_GT(counts_.repeated, 30);
}

TEST_P(FileIoTest, CompletionsMayComeLateAndInAnyOrder) {
  faults_->is_reordered = true;
  faults_->delay_milliseconds = 3;
  expect_right_in_spite_of_faults();
}

TEST_P(FileIoTest, AnErrorNamesFileOffsetSizeAndReasonWhenNothingIsInFlight) {
  const std::string text = random_text(20 * kBlock, 1);
  OpenFile file(true, text);
  Memory memory(20 * kBlock);
  FileIo io = make();
  for (const bool is_write : {false, true}) {
    *faults_ = {};
    faults_->answer = [](int n, const IoRequest&) { return n == 6 ? std::optional<int64_t>(-EIO) : std::nullopt; };
    const std::vector<FileTransfer> transfer{{file.get(), 0, memory.at(), 20 * kBlock}};
    const std::string said = message_of<RunError>([&] { is_write ? io.write(transfer) : io.read(transfer); });
    EXPECT_SAYS(said, fmt::format("cannot {} 8192 bytes at offset {} of {}: Input/output error", is_write ? "write" : "read", 6 * kBlock,
                                  file.path()));
    EXPECT_EQ(faults_->num_in_flight, 0);
    EXPECT_LT(faults_->num_requests, 20);  // no more are begun
  }
  faults_->answer = nullptr;
  io.read({{{file.get(), 0, memory.at(), 20 * kBlock}}});  // the next transfer is none the worse
  EXPECT_EQ(memory.text(0, 20 * kBlock), content(file.path()));
}

TEST_P(FileIoTest, AFullDiskIsNamed) {
  IoFile full{"/dev/full", ::open("/dev/full", O_RDWR | O_CLOEXEC), false};
  ASSERT_GE(full.descriptor, 0);
  Memory memory(3 * kBlock);
  FileIo io = make();
  const std::string said = message_of<RunError>([&] { io.write({{{&full, 0, memory.at(), 3 * kBlock}}}); });
  EXPECT_SAYS(said, "cannot write 8192 bytes at offset");
  EXPECT_SAYS(said, "/dev/full: no space for it (No space left on device)");
  ::close(full.descriptor);
}

TEST_P(FileIoTest, AnErrorOfTheCallItselfIsNamed) {
  IoFile closed{"/nowhere", -1, false};
  Memory memory(kBlock);
  FileIo io = make();
  EXPECT_SAYS(message_of<RunError>([&] { io.read({{{&closed, 0, memory.at(), kBlock}}}); }), "/nowhere: Bad file descriptor");
  OpenFile file;
  EXPECT_THROW(io.read({{{file.get(), 100, memory.at(), kBlock}}}), ProtocolError);
}

TEST_P(FileIoTest, EndlessInterruptionIsAnError) {
  OpenFile file;
  Memory memory(kBlock);
  for (const int64_t result : {int64_t{-EAGAIN}, int64_t{0}}) {
    faults_->answer = [=](int, const IoRequest&) { return std::optional<int64_t>(result); };
    EXPECT_SAYS(message_of<RunError>([&] { make().write({{{file.get(), 0, memory.at(), kBlock}}}); }), "1000 attempts without progress");
  }
}

TEST_P(FileIoTest, ADiskThatDoesNotAnswerIsAnErrorNow) {
  OpenFile file(true, std::string(8 * kBlock, 'x'));
  Memory memory(8 * kBlock);
  // Nothing is asked of the real disk: what it were late with would come into memory that is gone.
  faults_->answer = [](int, const IoRequest& r) { return std::optional<int64_t>(r.num_bytes); };
  faults_->num_lost_after = 2;
  AioOptions quick = options(2);
  quick.stall_seconds = 0.2;
  FileIo io = make(quick);
  const auto start = std::chrono::steady_clock::now();
  const std::string said = message_of<RunError>([&] { io.read({{{file.get(), 0, memory.at(), 8 * kBlock}}}); });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_SAYS(said, "no answer of the disk within 0.2 seconds");
  EXPECT_SAYS(said, "cannot read 8192 bytes at offset");
  EXPECT_SAYS(said, file.path());
  const int before = faults_->num_requests;
  EXPECT_EQ(message_of<RunError>([&] { io.read({{{file.get(), 0, memory.at(), kBlock}}}); }), said);
  EXPECT_EQ(faults_->num_requests, before);
  EXPECT_TRUE(io.has_abandoned());
}

TEST_P(FileIoTest, ARequestThatIsNeverDoneDoesNotKeepTheQueue) {
  // A pipe that nobody writes to: io_uring waits for it, pread refuses pipes.
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  AioOptions quick = options(1);
  if (GetParam() == QueueKind::IoUring) quick.stall_seconds = 0.2;
  quick.make_queue = [](const AioOptions& o) { return testing::make(GetParam(), o); };
  {
    Memory memory(kBlock);
    FileIo io(quick);
    IoFile pipe{"a pipe", ends[0], false};
    EXPECT_SAYS(message_of<RunError>([&] {
                  io.read({{{&pipe, 0, memory.at(), kBlock}}});
                }),
                GetParam() == QueueKind::IoUring ? "a pipe: no answer of the disk" : "a pipe: Illegal seek");
  }
  ::close(ends[0]), ::close(ends[1]);
}

TEST_P(FileIoTest, AQueueThatFailsIsAnErrorNowAndLater) {
  OpenFile file(true, std::string(8 * kBlock, 'x'));
  Memory memory(8 * kBlock);
  // Nothing is asked of the real disk here either.
  faults_->answer = [](int, const IoRequest& r) { return std::optional<int64_t>(r.num_bytes); };
  faults_->num_refused_after = 5;
  FileIo io = make();
  for (int i = 0; i < 2; ++i)
    EXPECT_SAYS(message_of<RunError>([&] {
                  io.read({{{file.get(), 0, memory.at(), 8 * kBlock}}});
                }),
                file.path() + ": this queue takes no more");
}

}  // namespace
}  // namespace zerostep::testing
