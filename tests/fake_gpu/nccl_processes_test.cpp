#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "fake_gpu/fake_gpu.h"
#include "fake_gpu/on_gpu.h"
#include "tests/sharding/support/communicator_cases.h"
#include "tests/sharding/support/forked_ranks.h"
#include "tests/support/expect_says.h"
#include "tests/support/gate.h"
#include "tests/support/message_of.h"

// Ranks that are processes with a GPU of the fake each, through its NCCL. They are forked, so nothing of this program may have threads.
namespace zerostep::testing {
namespace {

constexpr double kSeconds = 30;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class NcclProcesses : public ::testing::TestWithParam<std::tuple<test::CommunicatorCase, int>> {};

TEST_P(NcclProcesses, Do) {
  const auto& [test_case, size] = GetParam();
  const auto body = test_case.body;
  const std::vector<int> statuses = test::run_processes(size, {.timeout_seconds = kSeconds}, {}, [body](const Communicator& world) {
    const Communicator group = nccl_of(world, Device::cuda(world.rank()));
    EXPECT_STREQ(group.backend(), "nccl");
    body(on_gpu(group, world.rank(), 16 << 10));
  });
  EXPECT_EQ(statuses, std::vector<int>(static_cast<size_t>(size)));
}
INSTANTIATE_TEST_SUITE_P(Cases, NcclProcesses, ::testing::Combine(::testing::ValuesIn(test::communicator_cases()), ::testing::Values(3)),
                         [](const auto& info) { return fmt::format("{}{}", std::get<0>(info.param).name, std::get<1>(info.param)); });

// A rank with 1,000 floats on its GPU.
struct Rank {
  Rank(const Communicator& world, double timeout_seconds)
      : gpu(Device::cuda(world.rank())),
        group(nccl_of(world, gpu, {timeout_seconds, true})),
        stream(gpu.stream("communication")),
        memory(gpu.memory("values", 2 << 20)) {
    group.lend_staging({static_cast<std::byte*>(memory.allocate(1 << 20, "staging")), 1 << 20});
    values = static_cast<float*>(memory.allocate(4000, "values"));
    all_reduce("first").wait();
  }
  Event all_reduce(const char* label) {
    const Segment segment{values, values, 1000};
    return group.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, stream, label);
  }

  Device gpu;
  Communicator group;
  Stream stream;
  Arena memory;
  float* values;
};

// Ends a process of the test, stopped or not, when it goes.
struct KilledAtEnd {
  pid_t process;
  ~KilledAtEnd() { ::kill(process, SIGKILL); }
};

// Rank 0 of two is told `parts` of an operation that both have queued where a signal ends or stops rank 1, whose GPU has not begun it.
void expect_broken(double timeout_seconds, int signal, const std::vector<std::string>& parts) {
  const std::vector<int> statuses = test::run_processes(2, {.timeout_seconds = kSeconds}, {}, [&](Communicator world) {
    Rank rank(world, timeout_seconds);
    const std::vector<std::string> pids = world.all_gather_text(std::to_string(::getpid()), "processes");
    Gate gate;
    Stream host = rank.gpu.host_stream("gate");
    if (world.rank() == 1) rank.stream.wait(host.enqueue([&gate] { gate.pass(); }));
    const Event event = rank.all_reduce("h.3");
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // long enough for the ranks to meet
    if (world.rank() == 1) {
      ::raise(signal);
      gate.open();
      return;
    }
    const KilledAtEnd other{std::stoi(pids[1])};
    const auto start = std::chrono::steady_clock::now();
    const std::string error = message_of<RunError>([&] { event.wait(); });
    EXPECT_LT(seconds_since(start), 5);
    for (const std::string& part : parts) EXPECT_SAYS(error, part);
    EXPECT_NE(message_of<RunError>([&] { rank.all_reduce("after").wait(); }), "nothing thrown");
  });
  EXPECT_EQ(statuses[0], 0);
  EXPECT_TRUE(WIFSIGNALED(statuses[1]));
}

TEST(NcclProcess, ThatIsKilledEndsAnOperationThatIsUnderWay) {
  expect_broken(kSeconds, SIGKILL, {"rank 1 has died", "all-reduce of 'h.3' (1,000 elements of fp32)"});
}

TEST(NcclProcess, ThatIsStoppedEndsItAtTheTimeOut) {
  expect_broken(0.4, SIGSTOP,
                {"every rank has queued all-reduce of 'h.3' (1,000 elements of fp32), which has begun here and not ended for 0.4 s",
                 "run.collective_timeout_seconds"});
}

TEST(NcclProcess, ThatIsKilledBeforeAnOperationIsNamedWithIt) {
  const std::vector<int> statuses = test::run_processes(3, {.timeout_seconds = kSeconds}, {}, [](const Communicator& world) {
    Rank rank(world, kSeconds);
    if (world.rank() == 1) ::raise(SIGKILL);
    const auto start = std::chrono::steady_clock::now();
    const std::string error = message_of<RunError>([&] { rank.all_reduce("h.3").wait(); });
    EXPECT_LT(seconds_since(start), 5);
    for (const char* part : {"rank 1 has died", "all-reduce of 'h.3' (1,000 elements of fp32)"}) EXPECT_SAYS(error, part);
  });
  EXPECT_EQ(statuses[0], 0);
  EXPECT_EQ(statuses[2], 0);
}

TEST(NcclProcess, ThatIsKilledWhileNcclStartsEndsTheStart) {
  const std::vector<int> statuses = test::run_processes(2, {.timeout_seconds = kSeconds}, {}, [](const Communicator& world) {
    const Device gpu = Device::cuda(world.rank());
    std::thread killer;
    if (world.rank() == 1) {
      fake_gpu::silence_nccl_device(1);
      killer = std::thread([] {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        ::raise(SIGKILL);
      });
    }
    const auto start = std::chrono::steady_clock::now();
    const std::string error = message_of<RunError>([&] { nccl_of(world, gpu); });
    EXPECT_LT(seconds_since(start), 5);
    for (const char* part : {"rank 1 has died", "start of NCCL"}) EXPECT_SAYS(error, part);
  });
  EXPECT_EQ(statuses[0], 0);
  EXPECT_TRUE(WIFSIGNALED(statuses[1]));
}

}  // namespace
}  // namespace zerostep::testing
