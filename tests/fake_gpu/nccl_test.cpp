#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "fake_gpu/fake_gpu.h"
#include "tests/support/gate.h"

// What the fake's NCCL does, and what it refuses.
namespace fake_gpu {
namespace {

using zerostep::testing::Gate;

// Asks until the call before has ended.
ncclResult_t ended(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) {
    EXPECT_EQ(ncclCommGetAsyncError(comm, &state), ncclSuccess);
    std::this_thread::sleep_for(std::chrono::microseconds(10));
  }
  return state;
}

// Communicators of ranks that this thread plays one after the other, with a stream and pinned memory for 64 floats each.
class NcclRanks {
 public:
  // `hosts`: each one's NCCL_HOSTID, or none.
  explicit NcclRanks(std::vector<int> devices, std::vector<const char*> hosts = {}) : devices_(std::move(devices)) {
    ncclUniqueId id;
    EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    for (int rank = 0; rank < size(); ++rank) {
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      config.blocking = 0;
      void* memory = nullptr;
      cudaSetDevice(devices_[rank]);
      if (!hosts.empty()) setenv("NCCL_HOSTID", hosts[rank], 1);
      EXPECT_EQ(ncclCommInitRankConfig(&comms.emplace_back(), size(), id, rank, &config), ncclInProgress);
      cudaStreamCreateWithFlags(&streams.emplace_back(), cudaStreamNonBlocking);
      cudaHostAlloc(&memory, 64 * sizeof(float), cudaHostAllocDefault);
      values.push_back(static_cast<float*>(memory));
      std::iota(values.back(), values.back() + 64, 100.0f * static_cast<float>(rank));
    }
    unsetenv("NCCL_HOSTID");
  }
  ~NcclRanks() {
    for (ncclComm_t comm : comms) EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
    for (int rank = 0; rank < size(); ++rank) {
      EXPECT_EQ(cudaStreamSynchronize(streams[rank]), cudaSuccess);
      cudaStreamDestroy(streams[rank]);
      cudaFreeHost(values[rank]);
    }
    cudaSetDevice(0);
  }
  int size() const { return static_cast<int>(devices_.size()); }
  // call(rank) on every rank, and what then has ended.
  template <typename Call>
  void each(const Call& call) {
    for (int rank = 0; rank < size(); ++rank) EXPECT_EQ(call(rank), ncclInProgress) << rank;
    for (int rank = 0; rank < size(); ++rank) EXPECT_EQ(ended(comms[rank]), ncclSuccess) << rank;
  }
  bool is_idle_after(int rank, std::chrono::milliseconds time) {
    std::this_thread::sleep_for(time);
    return cudaStreamQuery(streams[rank]) == cudaSuccess;
  }

  std::vector<ncclComm_t> comms;
  std::vector<cudaStream_t> streams;
  std::vector<float*> values;

 private:
  std::vector<int> devices_;
};

TEST(FakeNccl, MovesValuesInTheOrderOfStreams) {
  configure({.num_devices = 3, .is_strict = true, .jitter_microseconds = 50});
  NcclRanks ranks({0, 1, 2});
  for (ncclComm_t comm : ranks.comms) ASSERT_EQ(ended(comm), ncclSuccess);
  Gate gate;
  cudaLaunchHostFunc(
      ranks.streams[0], [](void* at) { static_cast<Gate*>(at)->pass(); }, &gate);
  // Round the ring, of other counts, and from rank 0 to itself.
  ranks.each([&](int rank) {
    const int next = (rank + 1) % 3, previous = (rank + 2) % 3;
    float* at = ranks.values[rank];
    ncclGroupStart();
    ncclSend(at, 2 + rank, ncclFloat32, next, ranks.comms[rank], ranks.streams[rank]);
    ncclRecv(at + 10, 2 + previous, ncclFloat32, previous, ranks.comms[rank], ranks.streams[rank]);
    if (rank == 0) ncclSend(at + 5, 1, ncclFloat32, 0, ranks.comms[0], ranks.streams[0]);
    if (rank == 0) ncclRecv(at + 20, 1, ncclFloat32, 0, ranks.comms[0], ranks.streams[0]);
    return ncclGroupEnd();
  });
  EXPECT_FALSE(ranks.is_idle_after(1, std::chrono::milliseconds(20))) << "rank 0 has not given anything";
  gate.open();
  ranks.each([&](int rank) {
    return ncclAllGather(ranks.values[rank] + 10, ranks.values[rank] + 30, 2, ncclFloat32, ranks.comms[rank], ranks.streams[rank]);
  });
  ranks.each([&](int rank) {
    return ncclBroadcast(ranks.values[rank], ranks.values[rank] + 40, 3, ncclUint8, 2, ranks.comms[rank], ranks.streams[rank]);
  });
  for (const cudaStream_t stream : ranks.streams) cudaStreamSynchronize(stream);
  EXPECT_EQ(ranks.values[0][20], 5);
  for (int rank = 0; rank < 3; ++rank) {
    const auto previous = static_cast<float>((rank + 2) % 3);
    EXPECT_EQ(ranks.values[rank][10 + (rank + 2) % 3 + 1], 101 * previous + 1) << "the last element of " << previous;
    const std::vector<float> gathered(ranks.values[rank] + 30, ranks.values[rank] + 36);
    EXPECT_EQ(gathered, (std::vector<float>{200, 201, 0, 1, 100, 101}));
    float expected = 40 + 100.0f * static_cast<float>(rank);
    std::memcpy(&expected, &ranks.values[2][0], 3);
    EXPECT_EQ(ranks.values[rank][40], expected);
  }
}

TEST(FakeNccl, SumsGoRoundARing) {
  configure({.num_devices = 3});
  NcclRanks ranks({0, 1, 2});
  for (ncclComm_t comm : ranks.comms) ASSERT_EQ(ended(comm), ncclSuccess);
  // Of 1, 2^24 and -2^24 the sum is 1 or 0, as the order has it.
  for (int rank = 0; rank < 3; ++rank) std::fill_n(ranks.values[rank], 3, rank == 0 ? 1.0f : rank == 1 ? 0x1p24f : -0x1p24f);
  ranks.each([&](int rank) {
    return ncclReduceScatter(ranks.values[rank], ranks.values[rank] + 10, 1, ncclFloat32, ncclSum, ranks.comms[rank], ranks.streams[rank]);
  });
  ranks.each([&](int rank) {
    return ncclAllReduce(ranks.values[rank], ranks.values[rank], 3, ncclFloat32, ncclSum, ranks.comms[rank], ranks.streams[rank]);
  });
  for (const cudaStream_t stream : ranks.streams) cudaStreamSynchronize(stream);
  const std::vector<float> expected{1, 1, 0};
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(ranks.values[rank][10], expected[rank]);
    EXPECT_EQ(std::vector<float>(ranks.values[rank], ranks.values[rank] + 3), expected);
  }
}

TEST(FakeNccl, BeginsWhenItIsAskedAndRefusesWhatComesBefore) {
  configure({.num_devices = 2});
  NcclRanks ranks({0, 1});
  float* at = ranks.values[0];
  ncclResult_t state = ncclSuccess;
  ASSERT_EQ(ended(ranks.comms[0]), ncclSuccess);
  ASSERT_EQ(ended(ranks.comms[1]), ncclSuccess);
  const auto gather = [&](int rank) {
    return ncclAllGather(ranks.values[rank], ranks.values[rank] + 10, 1, ncclFloat32, ranks.comms[rank], ranks.streams[rank]);
  };
  EXPECT_EQ(gather(0), ncclInProgress);
  EXPECT_EQ(gather(1), ncclInProgress);
  EXPECT_EQ(gather(0), ncclInvalidUsage);
  EXPECT_EQ(ended(ranks.comms[1]), ncclSuccess);
  EXPECT_TRUE(ranks.is_idle_after(0, {})) << "nothing is queued before it was asked for";
  EXPECT_FALSE(ranks.is_idle_after(1, std::chrono::milliseconds(5)));
  EXPECT_EQ(ncclCommGetAsyncError(ranks.comms[0], &state), ncclSuccess);
  EXPECT_EQ(state, ncclInProgress);
  EXPECT_EQ(ended(ranks.comms[0]), ncclSuccess);
  cudaStreamSynchronize(ranks.streams[0]);
  EXPECT_EQ(at[11], 100);
  // Memory that no GPU reaches, a stream of another GPU.
  std::vector<float> pageable(2);
  EXPECT_EQ(ncclAllGather(at, pageable.data(), 1, ncclFloat32, ranks.comms[0], ranks.streams[0]), ncclInvalidArgument);
  EXPECT_EQ(ncclAllGather(at, at + 10, 1, ncclFloat32, ranks.comms[0], ranks.streams[1]), ncclInvalidArgument);
}

TEST(FakeNccl, TwoRanksOfOneGpuAndOtherCountsAreErrors) {
  configure({.num_devices = 2});
  NcclRanks twice({1, 1});
  for (ncclComm_t comm : twice.comms) EXPECT_EQ(ended(comm), ncclInvalidUsage);
  NcclRanks ranks({0, 1});
  for (ncclComm_t comm : ranks.comms) ASSERT_EQ(ended(comm), ncclSuccess);
  for (int rank = 0; rank < 2; ++rank) {
    ncclAllGather(ranks.values[rank], ranks.values[rank] + 10, 1 + rank, ncclFloat32, ranks.comms[rank], ranks.streams[rank]);
    ended(ranks.comms[rank]);  // the second one may learn of it at once
  }
  EXPECT_FALSE(ranks.is_idle_after(0, std::chrono::milliseconds(20)));
  EXPECT_EQ(ended(ranks.comms[0]), ncclInternalError);
}

TEST(FakeNccl, TakesRanksOfOneGpuWhereTheyCallTheirHostsApart) {
  configure({.num_devices = 1});
  NcclRanks same({0, 0, 0}, {"one", "two", "one"});
  for (ncclComm_t comm : same.comms) EXPECT_EQ(ended(comm), ncclInvalidUsage);
  NcclRanks ranks({0, 0}, {"one", "two"});
  for (ncclComm_t comm : ranks.comms) ASSERT_EQ(ended(comm), ncclSuccess);
  ranks.each([&](int rank) {
    return ncclAllGather(ranks.values[rank], ranks.values[rank] + 10, 1, ncclFloat32, ranks.comms[rank], ranks.streams[rank]);
  });
  for (const cudaStream_t stream : ranks.streams) cudaStreamSynchronize(stream);
  EXPECT_EQ(ranks.values[0][11], 100);
  EXPECT_EQ(ranks.values[1][10], 0);
}

TEST(FakeNccl, ALostDeviceIsToldOfASilentOneIsNotAndAbortEndsTheWait) {
  for (const bool is_lost : {false, true}) {
    configure({.num_devices = 2});
    NcclRanks ranks({0, 1});
    for (ncclComm_t comm : ranks.comms) ASSERT_EQ(ended(comm), ncclSuccess);
    is_lost ? lose_nccl_device(1) : silence_nccl_device(1);
    if (!is_lost)
      ranks.each([&](int rank) {
        return ncclAllGather(ranks.values[rank], ranks.values[rank] + 10, 1, ncclFloat32, ranks.comms[rank], ranks.streams[rank]);
      });
    EXPECT_EQ(ended(ranks.comms[0]), is_lost ? ncclRemoteError : ncclSuccess);
    EXPECT_EQ(ranks.is_idle_after(0, std::chrono::milliseconds(20)), is_lost);
  }  // the ranks abort, and their streams end
}

}  // namespace
}  // namespace fake_gpu
