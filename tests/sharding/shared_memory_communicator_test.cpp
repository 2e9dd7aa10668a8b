#include <dirent.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "sharding/comm/shared_memory.h"
#include "tests/sharding/support/communicator_cases.h"
#include "tests/sharding/support/forked_ranks.h"
#include "tests/support/message_of.h"

namespace zerostep {
namespace {

using test::run_processes;
using testing::message_of;

void run_all_good(int size, const SegmentPlaces& places, const test::RankBody& body) {
  EXPECT_EQ(run_processes(size, {.timeout_seconds = 30}, places, body), std::vector<int>(static_cast<size_t>(size)));
}

// A directory of its own on the tmpfs.
class Directory {
 public:
  Directory() { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
  ~Directory() { rmdir(path_.c_str()); }
  const std::string& path() const { return path_; }
  int files() const {
    int count = 0;
    DIR* entries = opendir(path_.c_str());
    while (const dirent* entry = readdir(entries)) count += entry->d_name[0] != '.';
    closedir(entries);
    return count;
  }

 private:
  std::string path_ = "/dev/shm/zerostep-test-XXXXXX";
};

class SharedMemoryCommunicator : public ::testing::TestWithParam<std::tuple<test::CommunicatorCase, int>> {};

TEST_P(SharedMemoryCommunicator, Does) {
  const auto& [test_case, size] = GetParam();
  run_all_good(size, {}, [body = test_case.body](Communicator world) {
    EXPECT_STREQ(world.backend(), "mpi (shared memory)");
    body(world);
  });
}

INSTANTIATE_TEST_SUITE_P(Cases, SharedMemoryCommunicator,
                         ::testing::Combine(::testing::ValuesIn(test::communicator_cases()), ::testing::Values(1, 3)),
                         [](const auto& info) { return fmt::format("{}{}", std::get<0>(info.param).name, std::get<1>(info.param)); });

void sum_in_shared_memory(Communicator world) {
  auto buffer = world.allocate(1 << 20, "gradients");
  float* data = static_cast<float*>(buffer->data());
  const int64_t count = (1 << 20) / 4;
  std::fill(data, data + count, static_cast<float>(1 + world.rank()));
  const Segment segment{data, data, count};
  Stream stream = Stream::inline_stream();
  world.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, stream, "sum").wait();
  EXPECT_EQ(std::count(data, data + count, static_cast<float>(world.size() * (world.size() + 1) / 2)), count);
}

TEST(SharedMemory, FilesInADirectoryServeAsWellAndAreGoneAtOnce) {
  Directory directory;
  run_all_good(2, {.places = {directory.path()}}, [&](Communicator world) {
    Stream stream = Stream::inline_stream();
    auto buffer = world.allocate(1 << 20, "weights");
    world.barrier(stream, "allocated").wait();
    EXPECT_EQ(directory.files(), 0);
    world.barrier(stream, "looked").wait();
    sum_in_shared_memory(world);
  });
  EXPECT_EQ(directory.files(), 0);
}

TEST(SharedMemory, TheNextPlaceServesWhereOneIsMissing) {
  run_all_good(2, {.places = {"/no/such/directory", "/dev/shm"}}, sum_in_shared_memory);
}

TEST(SharedMemory, APlaceTooSmallForABufferIsFoundBeforeItIsTouched) {
  // Room for the control blocks and the margin, not for the buffer: operands are staged, sums stay right.
  run_all_good(2, {.places = {"/dev/shm"}, .max_free_bytes = 6 << 20}, [](Communicator world) {
    auto small = world.allocate(4096, "fits");
    auto large = world.allocate(8 << 20, "does not fit");
    float* data = static_cast<float*>(large->data());
    std::fill(data, data + (2 << 20), static_cast<float>(world.rank()));
    const Segment segment{data, data, 2 << 20};
    Stream stream = Stream::inline_stream();
    world.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, stream, "staged").wait();
    EXPECT_EQ(std::count(data, data + (2 << 20), 1.0f), 2 << 20);
  });
}

TEST(SharedMemory, NoPlaceAtAllIsTheSameErrorOnEveryRank) {
  const auto meeting = test::Meeting::create();
  std::string errors[2];
  std::thread other([&] {
    errors[1] = message_of<RunError>([&] {
      make_shared_memory_communicator(meeting->bootstrap(1, 2), {}, {{"/dev/shm"}, 1 << 20}, nullptr);
    });
  });
  errors[0] = message_of<RunError>([&] {
    make_shared_memory_communicator(meeting->bootstrap(0, 2), {}, {{"/dev/shm"}, 1 << 20}, nullptr);
  });
  other.join();
  EXPECT_EQ(errors[0], errors[1]);
  for (const char* part : {"/dev/shm", "1048576 are free", "ZEROSTEP_SHM_DIR"})
    EXPECT_NE(errors[0].find(part), std::string::npos) << errors[0];
}

TEST(SharedMemory, ARankThatIsKilledIsNoticedWithinASecond) {
  Directory directory;
  const std::vector<int> statuses = run_processes(3, {.timeout_seconds = 30}, {.places = {directory.path()}}, [](Communicator world) {
    auto buffer = world.allocate(1 << 20, "weights");
    float* data = static_cast<float*>(buffer->data());
    Stream stream = Stream::inline_stream();
    world.barrier(stream, "start").wait();
    if (world.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      raise(SIGKILL);
    }
    const auto start = std::chrono::steady_clock::now();
    const Segment large{data, data + 100000, 12345};
    const std::string error = message_of<RunError>([&] {
      world.reduce_scatter({&large, 1}, DType::F32, DType::F32, false, stream, "h.7").wait();
    });
    for (const char* part : {"rank 1 has died", "reduce-scatter of 'h.7' (12,345 elements of fp32)"})
      EXPECT_NE(error.find(part), std::string::npos) << error;
    EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 1.2);
  });
  EXPECT_EQ(statuses[0], 0);
  EXPECT_TRUE(WIFSIGNALED(statuses[1]));
  EXPECT_EQ(statuses[2], 0);
  EXPECT_EQ(directory.files(), 0);
}

// The others are between two windows of an exchange of private memory, or about to begin it.
TEST(SharedMemory, ARankThatIsKilledDuringAnExchangeIsNoticed) {
  const std::vector<int> statuses = run_processes(2, {.timeout_seconds = 30}, {}, [](Communicator world) {
    Stream stream = Stream::worker("communication");
    std::vector<float> source(1 << 20), target(1 << 20);
    const Transfer transfer{0, 1, source.data(), target.data(), 1 << 20};
    std::thread killer;
    if (world.rank() == 1)
      killer = std::thread([] {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        raise(SIGKILL);
      });
    const std::string error = message_of<RunError>([&] {
      for (;;) world.exchange({&transfer, 1}, DType::F32, stream, "h.7").wait();
    });
    EXPECT_NE(error.find("rank 1 has died"), std::string::npos) << error;
    EXPECT_NE(error.find("exchange of 'h.7' (1,048,576 elements of fp32)"), std::string::npos) << error;
  });
  EXPECT_EQ(statuses[0], 0);
  EXPECT_TRUE(WIFSIGNALED(statuses[1]));
}

TEST(SharedMemory, ASilentRankIsNamedAfterTheTimeOut) {
  const std::vector<int> statuses = run_processes(2, {.timeout_seconds = 0.3}, {}, [](Communicator world) {
    if (world.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(800));
      return;
    }
    Stream stream = Stream::inline_stream();
    const std::string error = message_of<RunError>([&] { world.barrier(stream, "epoch").wait(); });
    EXPECT_NE(error.find("rank 1 has not arrived at barrier 'epoch' for 0.3"), std::string::npos) << error;
  });
  EXPECT_EQ(statuses, std::vector<int>(2));
}

TEST(SharedMemory, ABufferFreedTooEarlyIsNamed) {
  run_all_good(2, {}, [](Communicator world) {
    auto kept = world.allocate(1 << 20, "kept");
    auto freed = world.allocate(1 << 20, "freed by rank 1");
    if (world.rank() == 1) freed.reset();
    float* data = static_cast<float*>(world.rank() == 1 ? kept->data() : freed->data());
    const Segment segment{data, data, 200000};
    Stream stream = Stream::inline_stream();
    std::string error;
    try {
      world.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, stream, "x").wait();
    } catch (const std::exception& failure) {
      error = failure.what();
    }
    EXPECT_NE(error.find("that rank 1 has freed"), std::string::npos) << error;
  });
}

}  // namespace
}  // namespace zerostep
