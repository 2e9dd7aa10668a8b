#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/cuda/cuda_library.h"
#include "fake_gpu/fake_gpu.h"
#include "fake_gpu/on_gpu.h"
#include "sharding/cuda/thread_transport.h"
#include "sharding/local_ranks.h"
#include "sharding/nccl_communicator.h"
#include "sharding/staged_communicator.h"
#include "sharding/thread_communicator.h"
#include "tests/sharding/support/communicator_cases.h"
#include "tests/support/expect_says.h"
#include "tests/support/gate.h"
#include "tests/support/message_of.h"

// Communicators of ranks that are threads and have a GPU of the fake each.
namespace zerostep::testing {
namespace {

using test::CommunicatorCase;

constexpr int kGpus = 4;  // LibTorch counts them once in a process

class GpuCommunicator : public ::testing::TestWithParam<std::tuple<CommunicatorCase, int, bool>> {
 protected:
  void SetUp() override { fake_gpu::configure({.num_devices = kGpus, .is_strict = true}); }
};

// What every backend must do: through NCCL, with so little memory for sums that they come in rounds, of one rank, and of threads that share
// a GPU.
TEST_P(GpuCommunicator, Does) {
  const auto& [test_case, size, share_gpu] = GetParam();
  const bool share = share_gpu;
  run_local_ranks(size, {.timeout_seconds = 30}, [&](Communicator world) {
    const int number = share ? 0 : world.rank();
    const Device gpu = Device::cuda(number);
    const Communicator group = world.size() == 1 ? make_staged_communicator(world, gpu)
                               : share           ? make_thread_communicator(world, gpu, 30)
                                                 : nccl_of(world, gpu);
    EXPECT_STREQ(group.backend(), world.size() == 1 ? "copies" : share ? "threads" : "nccl");
    test_case.body(on_gpu(group, number, 16 << 10));
  });
}

std::string name_of_case(const ::testing::TestParamInfo<std::tuple<CommunicatorCase, int, bool>>& info) {
  return fmt::format("{}{}", std::get<0>(info.param).name, std::get<1>(info.param));
}
INSTANTIATE_TEST_SUITE_P(Cases, GpuCommunicator,
                         ::testing::Combine(::testing::ValuesIn(test::communicator_cases()), ::testing::Values(1, 2, 4),
                                            ::testing::Values(false)),
                         name_of_case);
INSTANTIATE_TEST_SUITE_P(OnOneGpu, GpuCommunicator,
                         ::testing::Combine(::testing::ValuesIn(test::communicator_cases()), ::testing::Values(2, 4),
                                            ::testing::Values(true)),
                         name_of_case);

// A rank with one operand of `count` floats on its GPU, each of them `value`.
struct RankWithValues {
  RankWithValues(const Communicator& world, const NcclOptions& options, int64_t count, float value)
      : RankWithValues(
            Device::cuda(world.rank()), [&](const Device& own) { return nccl_of(world, own, options); }, count, value) {}
  RankWithValues(const Device& device, const std::function<Communicator(const Device&)>& make, int64_t count, float value)
      : gpu(device),
        group(make(gpu)),
        stream(gpu.stream("communication")),
        memory(gpu.memory("values", 2 << 20)),
        pinned(gpu.memory("pinned", 2 << 20, MemoryKind::PinnedHost)),
        values(static_cast<float*>(memory.allocate(num_bytes(count, DType::F32), "values"))),
        staging(static_cast<std::byte*>(memory.allocate(1 << 20, "staging"))),
        host(static_cast<float*>(pinned.allocate(num_bytes(count, DType::F32), "host"))),
        num(count) {
    group.lend_staging({staging, 1 << 20});
    std::fill_n(host, count, value);
    gpu.copy(stream, values, host, num_bytes(count, DType::F32));
  }
  Event all_reduce(const char* label) {
    const Segment segment{values, values, num};
    return group.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, stream, label);
  }
  // What the GPU has, when that is done.
  float first() {
    gpu.copy(stream, host, values, num_bytes(num, DType::F32)).wait();
    return host[0];
  }

  Device gpu;
  Communicator group;
  Stream stream;
  Arena memory, pinned;
  float* values;
  std::byte* staging;
  float* host;
  int64_t num;
};

// Keeps a stream from going on until it is opened, or goes.
class GateOfStream {
 public:
  explicit GateOfStream(const Device& gpu) : host_(gpu.host_stream("gate")) {}
  ~GateOfStream() { open(); }
  void stop(Stream& stream) {
    stream.wait(host_.enqueue([this] { gate_.pass(); }));
  }
  void open() { gate_.open(); }

 private:
  Gate gate_;
  Stream host_;
};

// Of 1, 2^24 and -2^24, in the order of ranks, 0 is left; round NCCL's ring 1 is, where it begins behind rank 0.
TEST(NcclCommunicator, SumsInTheOrderOfRanksUnlessNcclMay) {
  for (const bool is_deterministic : {true, false}) {
    fake_gpu::configure({.num_devices = kGpus, .is_strict = true, .jitter_microseconds = 50});
    run_local_ranks(3, {.timeout_seconds = 30}, [&](Communicator world) {
      RankWithValues rank(world, {30, is_deterministic}, 3, world.rank() == 0 ? 1.0f : world.rank() == 1 ? 0x1p24f : -0x1p24f);
      rank.all_reduce("sum").wait();
      EXPECT_EQ(rank.first(), is_deterministic ? 0 : 1);
    });
    EXPECT_EQ(fake_gpu::num_calls("ncclAllReduce") > 0, !is_deterministic);
  }
}

// No rank's host waits for a GPU, but one that is asked to.
TEST(NcclCommunicator, QueuesWithoutWaiting) {
  fake_gpu::configure({.num_devices = kGpus, .is_strict = true});
  std::barrier<> both(2);
  run_local_ranks(2, {.timeout_seconds = 30}, [&](Communicator world) {
    RankWithValues rank(world, {30, true}, 1000, 1);
    rank.all_reduce("first").wait();
    both.arrive_and_wait();
    const int64_t waits = fake_gpu::num_host_waits(), functions = fake_gpu::num_calls("cudaLaunchHostFunc");
    GateOfStream gate(rank.gpu);
    if (world.rank() == 1) gate.stop(rank.stream);
    Event last;
    for (int i = 0; i < 3; ++i) last = rank.all_reduce("next");
    EXPECT_FALSE(last.ready());
    EXPECT_EQ(fake_gpu::num_host_waits(), waits);
    EXPECT_EQ(fake_gpu::num_calls("cudaLaunchHostFunc"), functions);
    both.arrive_and_wait();
    gate.open();
    last.wait();
    EXPECT_EQ(rank.first(), 16);
    EXPECT_EQ(rank.group.counters().all_reduce.calls, 4);
    EXPECT_GT(rank.group.counters().all_reduce.seconds, 0);
  });
}

struct Failed {
  std::string of_first, of_rank_0;
  double seconds = 0;
};

// What is said where rank 1 of three ranks breaks at an operation that all of them have come to, and within which time.
template <typename Break>
Failed break_rank_1(double timeout_seconds, const Break& breaks) {
  fake_gpu::configure({.num_devices = kGpus, .is_strict = true});
  Failed out;
  std::chrono::steady_clock::time_point broken;
  std::barrier<> all(3);
  out.of_first = message_of<RunError>([&] {
    run_local_ranks(3, {.timeout_seconds = 30}, [&](Communicator world) {
      RankWithValues rank(world, {timeout_seconds, true}, 1000, 1);
      rank.all_reduce("first").wait();
      GateOfStream gate(rank.gpu);
      all.arrive_and_wait();
      if (world.rank() == 1) {
        broken = std::chrono::steady_clock::now();
        gate.stop(rank.stream);
      }
      const Event event = rank.all_reduce("h.3");
      all.arrive_and_wait();
      if (world.rank() == 1) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        breaks(world);
        gate.open();
      }
      try {
        event.wait();
        ADD_FAILURE() << "rank " << world.rank() << " has a sum";
      } catch (const RunError& error) {
        if (world.rank() == 0) {
          out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - broken).count();
          out.of_rank_0 = error.what();
        }
        EXPECT_NE(message_of<RunError>([&] { rank.all_reduce("after").wait(); }), "nothing thrown");
        throw;
      }
    });
  });
  return out;
}

TEST(NcclCommunicator, ARankThatFailsInAnOperationEndsItForTheOthers) {
  const Failed failed = break_rank_1(30, [](Communicator& world) {
    world.abort("the disk is full");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // before the gate opens
    throw RunError("the disk is full");
  });
  EXPECT_EQ(failed.of_first, "the disk is full");
  for (const char* part : {"rank 0 gives up all-reduce of 'h.3' (1,000 elements of fp32)", "rank 1 has failed", "the disk is full"})
    EXPECT_SAYS(failed.of_rank_0, part);
  EXPECT_LT(failed.seconds, 5);
}

TEST(NcclCommunicator, ALostGpuIsNamedWithTheOperation) {
  const Failed failed = break_rank_1(30, [](Communicator&) { fake_gpu::lose_nccl_device(1); });
  for (const char* part : {"rank ", ": all-reduce of 'h.3' (1,000 elements of fp32) has failed: NCCL says: remote process exited"})
    EXPECT_SAYS(failed.of_first, part);
  EXPECT_SAYS(failed.of_rank_0, "all-reduce of 'h.3'");
  EXPECT_LT(failed.seconds, 5);
}

TEST(NcclCommunicator, ASilentGpuEndsInATimeOut) {
  const Failed failed = break_rank_1(0.4, [](Communicator&) { fake_gpu::silence_nccl_device(1); });
  for (const char* part :
       {"every rank has queued all-reduce of 'h.3' (1,000 elements of fp32), which has begun here and not ended for 0.4 s",
        "run.collective_timeout_seconds"})
    EXPECT_SAYS(failed.of_first, part);
  EXPECT_LT(failed.seconds, 5);
}

TEST(NcclCommunicator, ARankThatDoesNotComeIsNamed) {
  fake_gpu::configure({.num_devices = kGpus});
  const std::string text = message_of<RunError>([&] {
    run_local_ranks(2, {.timeout_seconds = 0.3}, [&](Communicator world) {
      RankWithValues rank(world, {30, true}, 10, 1);
      if (world.rank() == 1) return std::this_thread::sleep_for(std::chrono::milliseconds(900));
      rank.all_reduce("h.3").wait();
    });
  });
  EXPECT_SAYS(text, "rank 1 has not arrived at all-reduce of 'h.3' (10 elements of fp32) for 0.3");
}

// NCCL connects two GPUs in a call, which then waits for both.
TEST(NcclCommunicator, ACallThatWaitsForAPeerEndsWithItOrAtTheTimeOut) {
  for (const bool fails : {true, false}) {
    fake_gpu::configure({.num_devices = kGpus, .nccl_waits_for_peers = true});
    std::barrier<> both(2);
    std::string of_rank_0;
    const std::string of_first = message_of<RunError>([&] {
      run_local_ranks(2, {.timeout_seconds = 30}, [&](Communicator world) {
        RankWithValues rank(world, {fails || world.rank() == 1 ? 30 : 1.5, true}, 1000, 1);
        rank.all_reduce("first").wait();
        both.arrive_and_wait();
        if (world.rank() == 1) {
          fake_gpu::silence_nccl_device(1);
          rank.all_reduce("h.3");
          if (!fails) return both.arrive_and_wait();
          world.abort("the disk is full");
          both.arrive_and_wait();
          throw RunError("the disk is full");
        }
        of_rank_0 = message_of<RunError>([&] { rank.all_reduce("h.3").wait(); });
        both.arrive_and_wait();
        EXPECT_NE(message_of<RunError>([&] { rank.all_reduce("after").wait(); }), "nothing thrown");
        throw RunError(of_rank_0);
      });
    });
    EXPECT_SAYS(of_rank_0, fails ? "the disk is full"
                                 : "rank 0: all-reduce of 'h.3' (1,000 elements of fp32): NCCL waits for other ranks (NCCL_DEBUG=INFO "
                                   "tells for what) for 1.5 s");
    EXPECT_SAYS(of_first, fails ? "the disk is full"
                                : "rank 0: all-reduce of 'h.3' (1,000 elements of fp32): NCCL waits for other ranks (NCCL_DEBUG=INFO tells "
                                  "for what) for 1.5 s");
  }
}

// Pageable memory of one rank sends every rank's operand there through the host; pinned on both, NCCL reaches it.
TEST(NcclCommunicator, RanksAgreeOnMemoryOfTheHost) {
  for (const bool all_pinned : {true, false}) {
    fake_gpu::configure({.num_devices = kGpus, .is_strict = true});
    run_local_ranks(2, {.timeout_seconds = 30}, [&](Communicator world) {
      RankWithValues rank(world, {30, true}, 1000, 1);
      const bool is_pinned = all_pinned || world.rank() == 0;
      std::vector<float> pageable(1000, 1);
      float* const operand = is_pinned ? rank.host : pageable.data();
      rank.group.agree_on_host_memory(is_pinned);
      const Segment segment{operand, operand, rank.num};
      rank.group.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, rank.stream, "sum").wait();
      EXPECT_EQ(operand[0], 2);
      EXPECT_EQ(operand[999], 2);
    });
    EXPECT_EQ(fake_gpu::num_calls("ncclSend") > 0, all_pinned);
  }
}

// A rank that neither gives nor takes knows nothing of the others' memory.
TEST(NcclCommunicator, AnExchangeOfSomeRanksGoesTheWayOfAllOfThem) {
  fake_gpu::configure({.num_devices = kGpus, .is_strict = true});
  run_local_ranks(3, {.timeout_seconds = 30}, [&](Communicator world) {
    RankWithValues rank(world, {30, true}, 1000, static_cast<float>(world.rank() + 1));
    rank.group.agree_on_host_memory(world.rank() != 1);
    std::vector<float> pageable(1000, 7);
    const Transfer transfer{1, 2, pageable.data(), rank.values, 1000};
    rank.group.exchange({&transfer, 1}, DType::F32, rank.stream, "pieces").wait();
    EXPECT_EQ(rank.first(), world.rank() == 2 ? 7 : world.rank() + 1);
  });
  EXPECT_EQ(fake_gpu::num_calls("ncclSend"), 0);
}

// Transports of two threads on one GPU, without a communicator, whose meetings would find most of it before.
struct ThreadTransports {
  ThreadTransports(
      double timeout_seconds, const std::function<void()>& check_of_rank_0, const std::function<void()>& check_of_rank_1 = [] {}) {
    fake_gpu::configure({.is_strict = true});
    gpu.emplace(Device::cuda(0));
    static int groups = 0;
    const std::string name = fmt::format("test {}", ++groups);
    for (int rank = 0; rank < 2; ++rank)
      reinterpret_cast<StartTransport*>(function_of_cuda_library(kStartThreads))(
          *gpu->impl(),
          {rank, 2, name, timeout_seconds, rank == 0 ? check_of_rank_0 : check_of_rank_1,
           [] { return std::string("all-gather of 'h.3'"); }},
          transports[rank]);
    memory.emplace(gpu->memory("values", 1 << 20));
    for (std::byte*& place : places) place = static_cast<std::byte*>(memory->allocate(4096, "values"));
    for (int rank = 0; rank < 2; ++rank) streams.push_back(gpu->stream("communication"));
  }
  // "": it was done.
  std::string takes(int rank, int64_t bytes) {
    const DeviceTransport::Message message{1 - rank, places[rank], bytes, true};
    transports[rank]->exchange({&message, 1}, streams[static_cast<size_t>(rank)]);
    const std::string text = message_of<std::exception>([&] { streams[static_cast<size_t>(rank)].synchronize(); });
    return text == "nothing thrown" ? "" : text;
  }
  void gives(int rank, int64_t bytes) {
    const DeviceTransport::Message message{1 - rank, places[rank], bytes, false};
    transports[rank]->exchange({&message, 1}, streams[static_cast<size_t>(rank)]);
  }

  std::optional<Device> gpu;
  std::optional<Arena> memory;
  std::byte* places[2];
  std::vector<Stream> streams;
  std::unique_ptr<DeviceTransport> transports[2];
};

TEST(ThreadTransport, NamesWhatDoesNotCome) {
  {
    ThreadTransports silent(0.2, [] {});
    EXPECT_EQ(silent.takes(0, 64), "rank 0: all-gather of 'h.3': rank 1 has not come for 0.2 s");
  }
  ThreadTransports failed(30, [] { throw PeerError("the disk is full"); });
  EXPECT_EQ(failed.takes(0, 64), "the disk is full");
}

TEST(ThreadTransport, RefusesOtherSizes) {
  ThreadTransports two(30, [] {});
  std::thread giver([&] { two.gives(1, 32); });
  EXPECT_SAYS(two.takes(0, 64), "rank 0: rank 1 gives 32 B, where 64 B are taken");
  two.transports[1]->abort(std::make_exception_ptr(RunError("rank 0 has failed")));
  giver.join();
}

// What a peer gave before it failed is taken.
TEST(ThreadTransport, TakesWhatAFailedPeerHasGiven) {
  std::thread giver;
  std::atomic<bool> has_given = false;  // a rank looks at its peers when it has given and waits for them to take it
  std::unique_ptr<ThreadTransports> two;
  const auto fails_when_given = [&] {
    if (giver.joinable()) return;
    giver = std::thread([&] { two->gives(1, 64); });
    has_given.wait(false);
    throw PeerError("the disk is full");
  };
  two = std::make_unique<ThreadTransports>(30, fails_when_given, [&] {
    has_given = true;
    has_given.notify_all();
  });
  EXPECT_EQ(two->takes(0, 64), "");
  giver.join();
}

// Threads on one GPU: one of them fails, or puts nothing.
TEST(ThreadCommunicator, ARankThatFailsOrDoesNotComeEndsTheOthers) {
  for (const bool fails : {true, false}) {
    fake_gpu::configure({.is_strict = true});
    std::barrier<> all(3);
    std::string of_rank_0;
    const std::string of_first = message_of<RunError>([&] {
      run_local_ranks(3, {.timeout_seconds = fails ? 30 : 1.5}, [&](Communicator world) {
        RankWithValues rank(
            Device::cuda(0), [&](const Device& gpu) { return make_thread_communicator(world, gpu, 30); }, 1000, 1);
        rank.all_reduce("first").wait();
        EXPECT_EQ(rank.first(), 3);
        all.arrive_and_wait();
        if (world.rank() == 1) {
          // Before its memory goes, for which the GPU waits for the others' work.
          if (fails) world.abort("the disk is full");
          if (fails) throw RunError("the disk is full");
          return std::this_thread::sleep_for(std::chrono::milliseconds(3500));
        }
        const std::string said = message_of<RunError>([&] { rank.all_reduce("h.3").wait(); });
        if (world.rank() == 0) of_rank_0 = said;
        EXPECT_NE(message_of<RunError>([&] { rank.all_reduce("after").wait(); }), "nothing thrown");
        throw PeerError(said);
      });
    });
    if (fails) {
      EXPECT_EQ(of_first, "the disk is full");
    }
    EXPECT_SAYS(of_rank_0, fails ? "the disk is full" : "rank 1 has not arrived at all-reduce of 'h.3' (1,000 elements of fp32)");
  }
}

TEST(NcclCommunicator, SaysWhatKeepsItFromStarting) {
  const auto refused = [](int num_devices, const NcclOptions& options) {
    return message_of<RunError>([&] {
      run_local_ranks(2, {.timeout_seconds = 30},
                      [&](Communicator world) { nccl_of(world, Device::cuda(world.rank() % num_devices), options); });
    });
  };
  fake_gpu::configure({.num_devices = kGpus});
  EXPECT_EQ(refused(1, {30, true}), "ranks 0 and 1 share a GPU");
  const NcclOptions demanded{30, true, "", "the test demands it"};
  EXPECT_EQ(
      refused(1, demanded),
      "[cuda:0] NCCL refuses a start among 2 ranks: invalid usage; ranks 0 and 1 share a GPU, and the test demands it: NCCL takes ranks "
      "that share one only where their NCCL_HOSTID differs");
  fake_gpu::silence_nccl_device(1);
  EXPECT_SAYS(refused(2, {0.3, true}), "barrier 'start of NCCL': NCCL waits for other ranks (NCCL_DEBUG=INFO tells for what) for 0.3 s");
  fake_gpu::configure({.num_devices = kGpus, .has_nccl = false});
  EXPECT_EQ(refused(2, {30, true}), "NCCL does not start: unhandled system error");
  EXPECT_EQ(refused(2, demanded), "the test demands it, and NCCL cannot be had: NCCL does not start: unhandled system error");
}

}  // namespace
}  // namespace zerostep::testing
