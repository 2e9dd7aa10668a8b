#include <nccl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "fake_gpu/machine.h"
#include "fake_gpu/nccl_group.h"

// NCCL among the ranks of this machine. Every operation is messages between two ranks, and, of sums, what is then made of them.

using fake_gpu::enter;
using fake_gpu::Machine;
using fake_gpu::NcclGroup;
using Work = fake_gpu::NcclWork;

namespace {

struct Rank {
  std::string group_name;
  std::shared_ptr<NcclGroup> group;
  int number, device;  // number: of the rank
  std::atomic<bool> is_aborted = false;
  std::mutex mutex = {};  // of what follows
  int polls_until_ready = 0;
  std::function<void()> push = {};  // puts what was called last on its stream
};

// A name that a device has in every process, from 1.
int device_number(int device) {
  const std::vector<int>& numbers = Machine::instance().settings().numbers;
  return 1 + (numbers.empty() ? device : numbers[static_cast<size_t>(device)]);
}

// By their numbers.
struct Broken {
  std::mutex mutex;
  std::set<int> lost, silent;
};
Broken& broken() {
  static auto* const devices = new Broken;
  return *devices;
}
bool is_lost(int device_number) {
  std::lock_guard lock(broken().mutex);
  return broken().lost.contains(device_number);
}
bool takes_part(int device) {
  std::lock_guard lock(broken().mutex);
  return !broken().lost.contains(device_number(device)) && !broken().silent.contains(device_number(device));
}

// On the thread of a stream.
void run(const Rank& rank, const Work& work) {
  while (!takes_part(rank.device) && !rank.is_aborted) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (!rank.is_aborted) work.run(*rank.group, rank.number, rank.is_aborted);
}

size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclFloat32:
      return 4;
    case ncclFloat64:
      return 8;
    default:
      return 0;
  }
}

}  // namespace

struct ncclComm {
  std::shared_ptr<Rank> rank;
};

namespace {

// What a thread has called since ncclGroupStart(), of one communicator and stream.
struct Calls {
  int depth = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  Work work;
  ncclResult_t error = ncclSuccess;
};
thread_local Calls calls;

ncclResult_t state_of(const Rank& rank) {
  const NcclGroup& group = *rank.group;
  if (!group.is_complete()) return ncclInProgress;
  NcclGroup::forget(rank.group_name);
  for (int i = 0; i < group.size; ++i)
    for (int j = 0; j < i; ++j)
      if (group.numbers[i] == group.numbers[j] && group.hosts[i] == group.hosts[j]) return ncclInvalidUsage;
  if (group.counts_differ) return ncclInternalError;
  for (int i = 0; i < group.size; ++i)
    if (i != rank.number && is_lost(group.numbers[i])) return ncclRemoteError;
  return rank.polls_until_ready > 0 ? ncclInProgress : ncclSuccess;
}

bool waits_for_peers(const Rank& rank) {
  const NcclGroup& group = *rank.group;
  const auto is_behind = [&](int64_t of_peer) { return of_peer < group.calls[rank.number]; };
  return Machine::instance().settings().nccl_waits_for_peers &&
         std::any_of(group.calls.begin(), group.calls.begin() + group.size, is_behind);
}

ncclResult_t end_calls() {
  Calls ended = std::exchange(calls, {});
  if (ended.error != ncclSuccess || ended.comm == nullptr) return ended.error;
  const std::shared_ptr<Rank> rank = ended.comm->rank;
  const auto queue = Machine::instance().queue(ended.stream);
  if (!queue || queue->device() != rank->device) return ncclInvalidArgument;
  std::lock_guard lock(rank->mutex);
  rank->polls_until_ready = 2;
  if (takes_part(rank->device)) ++rank->group->calls[rank->number];
  rank->push = [=, work = std::make_shared<Work>(std::move(ended.work))] { queue->push([=] { run(*rank, *work); }); };
  return ncclInProgress;
}

// Adds a call to the group, or makes a group of it. add(place, work): what it is; place() gives where device work reaches an operand.
template <typename Add>
ncclResult_t call(const char* name, ncclComm_t comm, cudaStream_t stream, const Add& add) {
  if (enter(name) != cudaSuccess) return ncclUnhandledCudaError;
  ++calls.depth;
  const auto refuse = [](ncclResult_t error) {
    if (calls.error == ncclSuccess) calls.error = error;
  };
  {
    std::lock_guard lock(comm->rank->mutex);
    const ncclResult_t state = state_of(*comm->rank);
    if (state != ncclSuccess) refuse(state == ncclInProgress ? ncclInvalidUsage : state);
  }
  if (calls.comm != nullptr && (calls.comm != comm || calls.stream != stream)) refuse(ncclInvalidUsage);
  calls.comm = comm;
  calls.stream = stream;
  const auto place = [&](const void* data, size_t num_bytes) {
    const auto operand = Machine::instance().memory().operand(data, num_bytes);
    if (operand.bytes == nullptr || operand.type == cudaMemoryTypeUnregistered) refuse(ncclInvalidArgument);
    return operand.bytes;
  };
  add(place, calls.work);
  const ncclResult_t error = calls.error;
  if (--calls.depth > 0) return error;
  return end_calls();
}

// The sum of every rank's `count` floats in `values`, begun behind the rank whose chunk it is, as round a ring.
float ring_sum(const std::vector<float>& values, size_t count, size_t index, int first, int size) {
  float sum = 0;
  for (int step = 0; step < size; ++step) {
    const float value = values[static_cast<size_t>((first + step) % size) * count + index];
    sum = step == 0 ? value : sum + value;
  }
  return sum;
}

}  // namespace

namespace fake_gpu {

void lose_nccl_device(int device) {
  std::lock_guard lock(broken().mutex);
  broken().lost.insert(device_number(device));
}
void silence_nccl_device(int device) {
  std::lock_guard lock(broken().mutex);
  broken().silent.insert(device_number(device));
}
void find_nccl_devices() {
  std::lock_guard lock(broken().mutex);
  broken().lost.clear();
  broken().silent.clear();
}

}  // namespace fake_gpu

FAKE_GPU_API ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

FAKE_GPU_API const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "internal error";
  }
}

FAKE_GPU_API ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (!Machine::instance().settings().has_nccl) return ncclSystemError;
  *id = {};
  const std::string name = NcclGroup::make();
  std::snprintf(id->internal, sizeof id->internal, "%s", name.c_str());
  return name.empty() ? ncclSystemError : ncclSuccess;
}

FAKE_GPU_API ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (enter(__func__) != cudaSuccess) return ncclUnhandledCudaError;
  *comm = nullptr;
  if (config == nullptr || config->magic != 0xcafebeef || config->blocking != 0 || rank < 0 || rank >= size) return ncclInvalidArgument;
  if (size > fake_gpu::kMostNcclRanks) return ncclInvalidArgument;
  const std::shared_ptr<NcclGroup> group = NcclGroup::open(id.internal);
  if (!group) return ncclSystemError;
  int others_size = 0, not_come = 0;
  if (!group->size.compare_exchange_strong(others_size, size) && others_size != size) return ncclInvalidArgument;
  const int device = fake_gpu::current_device();
  const char* const host = std::getenv("NCCL_HOSTID");
  group->hosts[rank] = std::hash<std::string>()(host == nullptr ? "" : host);
  if (takes_part(device) && !group->numbers[rank].compare_exchange_strong(not_come, device_number(device))) return ncclInvalidArgument;
  *comm = new ncclComm{std::make_shared<Rank>(id.internal, group, rank, device)};
  return ncclInProgress;
}

FAKE_GPU_API ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  if (enter(__func__) != cudaSuccess) return ncclUnhandledCudaError;
  std::lock_guard lock(comm->rank->mutex);
  if (!waits_for_peers(*comm->rank) && comm->rank->polls_until_ready > 0 && --comm->rank->polls_until_ready == 0)
    if (const auto push = std::exchange(comm->rank->push, nullptr)) push();
  *error = state_of(*comm->rank);
  return ncclSuccess;
}

FAKE_GPU_API ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (enter(__func__) != cudaSuccess) return ncclUnhandledCudaError;
  std::lock_guard lock(comm->rank->mutex);
  comm->rank->polls_until_ready = 2;
  return ncclInProgress;
}

FAKE_GPU_API ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->rank->is_aborted = true;
  delete comm;
  return ncclSuccess;
}

FAKE_GPU_API ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}

FAKE_GPU_API ncclResult_t ncclGroupStart() {
  ++calls.depth;
  return ncclSuccess;
}

FAKE_GPU_API ncclResult_t ncclGroupEnd() {
  if (calls.depth == 0) return ncclInvalidUsage;
  return --calls.depth > 0 ? ncclSuccess : end_calls();
}

FAKE_GPU_API ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return call(__func__, comm, stream, [&](const auto& place, Work& work) {
    work.sent.push_back({peer, place(data, count * size_of(type)), count * size_of(type)});
  });
}

FAKE_GPU_API ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return call(__func__, comm, stream, [&](const auto& place, Work& work) {
    work.received.push_back({peer, place(data, count * size_of(type)), count * size_of(type)});
  });
}

FAKE_GPU_API ncclResult_t ncclAllGather(const void* source, void* target, size_t count, ncclDataType_t type, ncclComm_t comm,
                                        cudaStream_t stream) {
  return call(__func__, comm, stream, [&](const auto& place, Work& work) {
    const size_t bytes = count * size_of(type);
    const auto size = static_cast<size_t>(comm->rank->group->size.load());
    std::byte *from = place(source, bytes), *to = place(target, bytes * size);
    for (size_t peer = 0; peer < size; ++peer) {
      work.sent.push_back({static_cast<int>(peer), from, bytes});
      work.received.push_back({static_cast<int>(peer), to + peer * bytes, bytes});
    }
  });
}

FAKE_GPU_API ncclResult_t ncclBroadcast(const void* source, void* target, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                                        cudaStream_t stream) {
  return call(__func__, comm, stream, [&](const auto& place, Work& work) {
    const size_t bytes = count * size_of(type);
    if (comm->rank->number == root)
      for (int peer = 0; peer < comm->rank->group->size.load(); ++peer) work.sent.push_back({peer, place(source, bytes), bytes});
    work.received.push_back({root, place(target, bytes), bytes});
  });
}

FAKE_GPU_API ncclResult_t ncclReduceScatter(const void* source, void* target, size_t count, ncclDataType_t type, ncclRedOp_t op,
                                            ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat32 || op != ncclSum) return ncclInvalidArgument;
  return call(__func__, comm, stream, [&](const auto& place, Work& work) {
    const size_t bytes = count * sizeof(float);
    const int me = comm->rank->number, size = comm->rank->group->size.load();
    const auto values = std::make_shared<std::vector<float>>(count * static_cast<size_t>(size));
    std::byte *from = place(source, bytes * static_cast<size_t>(size)), *to = place(target, bytes);
    for (int peer = 0; peer < size; ++peer) {
      work.sent.push_back({peer, from + static_cast<size_t>(peer) * bytes, bytes});
      work.received.push_back({peer, reinterpret_cast<std::byte*>(values->data() + static_cast<size_t>(peer) * count), bytes});
    }
    work.finish.push_back([=] {
      for (size_t i = 0; i < count; ++i) reinterpret_cast<float*>(to)[i] = ring_sum(*values, count, i, me + 1, size);
    });
  });
}

FAKE_GPU_API ncclResult_t ncclAllReduce(const void* source, void* target, size_t count, ncclDataType_t type, ncclRedOp_t op,
                                        ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat32 || op != ncclSum) return ncclInvalidArgument;
  return call(__func__, comm, stream, [&](const auto& place, Work& work) {
    const size_t bytes = count * sizeof(float);
    const int size = comm->rank->group->size.load();
    const auto values = std::make_shared<std::vector<float>>(count * static_cast<size_t>(size));
    std::byte *from = place(source, bytes), *to = place(target, bytes);
    for (int peer = 0; peer < size; ++peer) {
      work.sent.push_back({peer, from, bytes});
      work.received.push_back({peer, reinterpret_cast<std::byte*>(values->data() + static_cast<size_t>(peer) * count), bytes});
    }
    work.finish.push_back([=] {
      const size_t each = (count + static_cast<size_t>(size) - 1) / static_cast<size_t>(size);
      for (size_t i = 0; i < count; ++i)
        reinterpret_cast<float*>(to)[i] = ring_sum(*values, count, i, static_cast<int>(i / each) + 1, size);
    });
  });
}
