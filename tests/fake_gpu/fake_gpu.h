#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

// A CUDA runtime on the processor: libfake_gpu.so defines the runtime's functions, and comes before libcudart.so where a program is linked
// to it or started with LD_PRELOAD. Streams are threads, so what is not ordered by streams, events and host waits runs in any order.
// Kernels run where launch.cuh launched them, with the body that is host code too.
//
// It is stricter than CUDA where CUDA leaves something open: host functions of all streams run one at a time and may call nothing of CUDA
// but cudaGetLastError() and cudaPeekAtLastError(), fresh memory is filled with 0xff, an operand that leaves its allocation is an error,
// and so is a stream of another device. It refuses what it does not model: blocking streams (those without cudaStreamNonBlocking) and the
// per-thread default stream. What it does not define at all is left to libcudart.so, which finds no driver where libcuda.so.1 is this
// folder's (driver_stub.cpp).
namespace fake_gpu {

struct Settings {
  int num_devices = 1;
  std::vector<int> numbers = {};            // of the devices, where CUDA_VISIBLE_DEVICES chooses among more; none: 0, 1, ...
  int64_t memory_bytes = int64_t{8} << 30;  // of each device
  // Device memory is unreadable for the host, whose access ends in SIGSEGV; while a kernel runs it is open to every thread.
  bool is_strict = false;
  bool has_nccl = true;               // whether NCCL starts
  bool nccl_waits_for_peers = false;  // a call of NCCL has not ended until every rank has called as often
  bool has_wait_for_value = true;     // whether the driver has cuStreamWaitValue32
  bool pinning_waits = false;         // whether to pin memory, or to end that, waits for the device, as drivers may
  int jitter_microseconds = 0;        // each item of a stream starts after a random delay of up to this
  uint64_t seed = 1;                  // of the delays
  // Of copies between the host and a device, at most; 0: as fast as the processor copies.
  int64_t to_device_bytes_per_second = 0, to_host_bytes_per_second = 0;
  int64_t product_workspace_bytes = 0;  // that a product takes of LibTorch's allocator while it runs
};

// What FAKE_GPU_DEVICES, FAKE_GPU_MEMORY, FAKE_GPU_NCCL, FAKE_GPU_STRICT, FAKE_GPU_JITTER, FAKE_GPU_PINNING_WAITS, FAKE_GPU_SEED,
// FAKE_GPU_TO_DEVICE, FAKE_GPU_TO_HOST and FAKE_GPU_WORKSPACE say, which hold until configure(). Of the devices CUDA_VISIBLE_DEVICES shows
// those whose numbers it lists, up to the first that is none.
Settings environment_settings();
Settings settings();  // that hold now
// Begins anew, with counters at 0. std::logic_error while device memory is allocated.
void configure(const Settings& settings);

// Calls of a function of the runtime since configure(), by its name; all of them where a kernel was launched, as "cudaLaunchKernel".
int64_t num_calls(const std::string& function);
// Calls that let the host wait for the device: synchronisations of streams, events and devices, copies and fills that are not asynchronous,
// cudaFree, and to pin memory where pinning waits.
int64_t num_host_waits();
// Of them those of the calling thread, since it began.
int64_t num_host_waits_of_this_thread();
// Asynchronous copies from or to memory of the host that is not pinned, which wait as well.
int64_t num_pageable_copies();
int64_t num_launches();

// NCCL is here too, for ranks that are threads or processes of this machine: the functions that are called, of communicators that do not
// block, without algorithms. What it does for one is queued on its stream only when ncclCommGetAsyncError() has told of it, as NCCL may do
// it; its own sums go round a ring; counts that differ are an error; operands that a GPU could not reach, two ranks of one GPU whose
// NCCL_HOSTID is the same, and calls before the one before has ended are refused. From now on ranks of this process on this device take
// part in nothing that they have not begun, until configure(): the device is lost, of which the ranks that are other threads are told
// (ncclRemoteError), or it falls silent, of which nobody is.
void lose_nccl_device(int device);
void silence_nccl_device(int device);

// Lets the caller stand in for a kernel of a stream: waits until what is queued there is done, which counts as no wait of the host, and
// opens device memory to the host's code until it goes.
class StandIn {
 public:
  explicit StandIn(cudaStream_t stream);
  ~StandIn();
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;
};

}  // namespace fake_gpu
