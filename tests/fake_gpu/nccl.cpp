#include <nccl.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <set>
#include <utility>

#include "fake_gpu/machine.h"

// NCCL among the ranks of this process. Every operation is messages between two ranks, and, of sums, what is then made of them.

using fake_gpu::enter;
using fake_gpu::Machine;

namespace {

struct Message {
  const std::byte* data;
  size_t num_bytes;
  bool is_taken = false;
};

// What the ranks of a communicator share.
struct Group {
  explicit Group(int size) : devices(static_cast<size_t>(size), -1), calls(static_cast<size_t>(size)) {}
  int size() const { return static_cast<int>(devices.size()); }
  bool is_complete() const { return std::count(devices.begin(), devices.end(), -1) == 0; }

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<int> devices;    // of each rank; -1: it has not come yet
  std::vector<int64_t> calls;  // of each rank that takes part
  std::map<std::pair<int, int>, std::deque<Message*>> on_the_way;
  ncclResult_t error = ncclSuccess;  // of all ranks
};

// What a rank does at once: it gives what others take, takes what they give, and then finishes.
struct Work {
  struct Part {
    int peer;
    std::byte* data;
    size_t num_bytes;
  };
  std::vector<Part> sent, received;
  std::vector<std::function<void()>> finish;
};

struct Rank {
  std::shared_ptr<Group> group;
  int number, device;
  // Under the group's mutex.
  bool is_aborted = false;
  int polls_until_ready = 0;
  std::function<void()> push = {};  // puts what was called last on its stream
};

std::mutex& groups_mutex() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}
std::map<std::string, std::weak_ptr<Group>>& groups() {
  static auto* const all = new std::map<std::string, std::weak_ptr<Group>>;
  return *all;
}
struct Broken {
  std::mutex mutex;
  std::set<int> lost, silent;
};
Broken& broken() {
  static auto* const devices = new Broken;
  return *devices;
}
bool is_lost(int device) {
  std::lock_guard lock(broken().mutex);
  return broken().lost.contains(device);
}
bool takes_part(int device) {
  std::lock_guard lock(broken().mutex);
  return !broken().lost.contains(device) && !broken().silent.contains(device);
}

// On the thread of a stream.
void run(const std::shared_ptr<Rank>& rank, const Work& work) {
  Group& group = *rank->group;
  std::unique_lock lock(group.mutex);
  const auto is_aborted = [&] { return rank->is_aborted; };
  if (!takes_part(rank->device)) return group.changed.wait(lock, is_aborted);
  std::vector<Message> given;
  given.reserve(work.sent.size());
  for (const Work::Part& part : work.sent) {
    given.push_back({part.data, part.num_bytes});
    group.on_the_way[{rank->number, part.peer}].push_back(&given.back());
  }
  group.changed.notify_all();
  for (const Work::Part& part : work.received) {
    std::deque<Message*>& from = group.on_the_way[{part.peer, rank->number}];
    group.changed.wait(lock, [&] { return is_aborted() || !from.empty(); });
    if (is_aborted()) break;
    if (from.front()->num_bytes != part.num_bytes) {
      group.error = ncclInternalError;
      group.changed.wait(lock, is_aborted);
      break;
    }
    std::memmove(part.data, from.front()->data, part.num_bytes);
    from.front()->is_taken = true;
    from.pop_front();
    group.changed.notify_all();
  }
  const auto all_taken = [&] { return std::all_of(given.begin(), given.end(), [](const Message& m) { return m.is_taken; }); };
  group.changed.wait(lock, [&] { return is_aborted() || all_taken(); });
  for (Message& message : given)
    if (!message.is_taken)
      for (auto& [ranks, messages] : group.on_the_way) std::erase(messages, &message);
  if (is_aborted()) return;
  lock.unlock();
  for (const auto& finish : work.finish) finish();
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

ncclResult_t state_of(Rank& rank) {
  if (!rank.group->is_complete()) return ncclInProgress;
  for (size_t i = 0; i < rank.group->devices.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (rank.group->devices[i] == rank.group->devices[j]) return ncclInvalidUsage;
  if (rank.group->error != ncclSuccess) return rank.group->error;
  for (const int device : rank.group->devices)
    if (device != rank.device && is_lost(device)) return ncclRemoteError;
  return rank.polls_until_ready > 0 ? ncclInProgress : ncclSuccess;
}

bool waits_for_peers(const Rank& rank) {
  const std::vector<int64_t>& calls = rank.group->calls;
  const auto is_behind = [&](int64_t of_peer) { return of_peer < calls[static_cast<size_t>(rank.number)]; };
  return Machine::instance().settings().nccl_waits_for_peers && std::any_of(calls.begin(), calls.end(), is_behind);
}

ncclResult_t end_calls() {
  Calls ended = std::exchange(calls, {});
  if (ended.error != ncclSuccess || ended.comm == nullptr) return ended.error;
  const std::shared_ptr<Rank> rank = ended.comm->rank;
  const auto queue = Machine::instance().queue(ended.stream);
  if (!queue || queue->device() != rank->device) return ncclInvalidArgument;
  std::lock_guard lock(rank->group->mutex);
  rank->polls_until_ready = 2;
  if (takes_part(rank->device)) ++rank->group->calls[static_cast<size_t>(rank->number)];
  rank->push = [=, work = std::make_shared<Work>(std::move(ended.work))] { queue->push([=] { run(rank, *work); }); };
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
    std::lock_guard lock(comm->rank->group->mutex);
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
  broken().lost.insert(device);
}
void silence_nccl_device(int device) {
  std::lock_guard lock(broken().mutex);
  broken().silent.insert(device);
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
  static int last = 0;
  std::lock_guard lock(groups_mutex());
  *id = {};
  std::snprintf(id->internal, sizeof id->internal, "fake %d", ++last);
  return ncclSuccess;
}

FAKE_GPU_API ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (enter(__func__) != cudaSuccess) return ncclUnhandledCudaError;
  *comm = nullptr;
  if (config == nullptr || config->magic != 0xcafebeef || config->blocking != 0 || rank < 0 || rank >= size) return ncclInvalidArgument;
  std::shared_ptr<Group> group;
  {
    std::lock_guard lock(groups_mutex());
    std::weak_ptr<Group>& known = groups()[id.internal];
    group = known.lock();
    if (!group) known = group = std::make_shared<Group>(size);
  }
  std::lock_guard lock(group->mutex);
  if (group->size() != size || group->devices[static_cast<size_t>(rank)] != -1) return ncclInvalidArgument;
  if (takes_part(fake_gpu::current_device())) group->devices[static_cast<size_t>(rank)] = fake_gpu::current_device();
  *comm = new ncclComm{std::make_shared<Rank>(Rank{group, rank, fake_gpu::current_device()})};
  return ncclInProgress;
}

FAKE_GPU_API ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  if (enter(__func__) != cudaSuccess) return ncclUnhandledCudaError;
  std::lock_guard lock(comm->rank->group->mutex);
  if (!waits_for_peers(*comm->rank) && comm->rank->polls_until_ready > 0 && --comm->rank->polls_until_ready == 0)
    if (const auto push = std::exchange(comm->rank->push, nullptr)) push();
  *error = state_of(*comm->rank);
  return ncclSuccess;
}

FAKE_GPU_API ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (enter(__func__) != cudaSuccess) return ncclUnhandledCudaError;
  std::lock_guard lock(comm->rank->group->mutex);
  comm->rank->polls_until_ready = 2;
  return ncclInProgress;
}

FAKE_GPU_API ncclResult_t ncclCommAbort(ncclComm_t comm) {
  {
    std::lock_guard lock(comm->rank->group->mutex);
    comm->rank->is_aborted = true;
    comm->rank->group->changed.notify_all();
  }
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
    const auto size = static_cast<size_t>(comm->rank->group->size());
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
      for (int peer = 0; peer < comm->rank->group->size(); ++peer) work.sent.push_back({peer, place(source, bytes), bytes});
    work.received.push_back({root, place(target, bytes), bytes});
  });
}

FAKE_GPU_API ncclResult_t ncclReduceScatter(const void* source, void* target, size_t count, ncclDataType_t type, ncclRedOp_t op,
                                            ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat32 || op != ncclSum) return ncclInvalidArgument;
  return call(__func__, comm, stream, [&](const auto& place, Work& work) {
    const size_t bytes = count * sizeof(float);
    const int me = comm->rank->number, size = comm->rank->group->size();
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
    const int size = comm->rank->group->size();
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
