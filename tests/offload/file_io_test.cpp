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
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/dtype.h"
#include "base/nth.h"
#include "offload/disk.h"
#include "tests/offload/support/denied_call.h"
#include "tests/offload/support/faulty_queue.h"
#include "tests/offload/support/file_queues.h"
#include "tests/offload/support/random_text.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

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

using testing::Faults;
using testing::FaultyQueue;
using testing::message_of;
using testing::QueueKind;
using testing::random_text;

constexpr int64_t kBlock = 8192;
constexpr int64_t kPage = kDirectAlignment;

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Page-aligned memory.
class Memory {
 public:
  explicit Memory(int64_t size, char value = '?')
      : data_(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, static_cast<size_t>(round_up(size, kPage) + kPage)))) {
    std::memset(data_, value, static_cast<size_t>(round_up(size, kPage) + kPage));
  }
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::byte* at(int64_t offset = 0) const { return data_ + offset; }
  std::string text(int64_t offset, int64_t size) const { return {reinterpret_cast<const char*>(at(offset)), static_cast<size_t>(size)}; }
  void put(int64_t offset, const std::string& text) { std::memcpy(at(offset), text.data(), text.size()); }

 private:
  std::byte* data_;
};

// A file in a folder that goes with it, open as FileIo wants it.
class OpenFile {
 public:
  explicit OpenFile(bool is_direct = true, const std::string& before = "") : file_{folder_.path("data"), -1, is_direct} {
    std::ofstream(file_.path, std::ios::binary) << before;
    file_.descriptor = ::open(file_.path.c_str(), O_RDWR | O_CLOEXEC | (is_direct ? O_DIRECT : 0));
    if (file_.descriptor < 0) throw std::runtime_error(file_.path + ": " + std::strerror(errno));
  }
  ~OpenFile() { ::close(file_.descriptor); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  const IoFile& file() const { return file_; }
  const IoFile* get() const { return &file_; }
  const std::string& path() const { return file_.path; }

 private:
  ScratchFolder folder_;
  IoFile file_;
};

class FileIoTest : public ::testing::TestWithParam<QueueKind> {
 protected:
  static AioOptions options(int depth = 4) { return {.block_size = kBlock, .queue_depth = depth, .stall_seconds = 30}; }
  FileIo make(AioOptions options = FileIoTest::options()) const {
    options.make_queue = [this](const AioOptions& o) { return std::make_unique<FaultyQueue>(faults_, testing::make(GetParam(), o)); };
    return FileIo(options);
  }
  // 37 blocks and a part, read back through faults.
  void expect_right_in_spite_of_faults() {
    for (const bool is_direct : {true, false}) {
      const std::string text = random_text(37 * kBlock + 1234, 5);
      OpenFile file(is_direct);
      Memory memory(std::ssize(text)), back(std::ssize(text));
      memory.put(0, text);
      FileIo io = make();
      io.write({{{file.get(), 0, memory.at(), std::ssize(text)}}});
      EXPECT_EQ(content(file.path()).substr(0, text.size()), text);
      io.read({{{file.get(), 0, back.at(), std::ssize(text)}}});
      EXPECT_EQ(back.text(0, std::ssize(text)), text);
      EXPECT_EQ(faults_->num_in_flight, 0);
      EXPECT_EQ(io.counts().bytes_read, std::ssize(text));
      EXPECT_EQ(io.counts().bytes_written, std::ssize(text));
      EXPECT_EQ(io.counts().requests, faults_->num_requests);
      for (const IoRequest& r : faults_->requests) {
        const bool is_aligned = r.offset % kPage == 0 && r.num_bytes % kPage == 0 && reinterpret_cast<uintptr_t>(r.memory) % kPage == 0;
        EXPECT_TRUE(is_aligned || !is_direct) << r.offset << " " << r.num_bytes << " " << r.memory;
      }
      counts_ = io.counts();
      *faults_ = Faults{faults_->answer, faults_->shorten, faults_->delay_milliseconds, faults_->is_reordered};
    }
  }
  std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();
  FileIoCounts counts_;
};

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
