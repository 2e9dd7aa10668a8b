#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "fake_gpu/device_memory.h"
#include "fake_gpu/fake_gpu.h"
#include "fake_gpu/work_queue.h"

#define FAKE_GPU_API extern "C" __attribute__((visibility("default")))

namespace fake_gpu {

// What cudaEvent_t points to. A mark is one recording of it.
struct EventState {
  std::shared_ptr<Mark> last;
  int device = 0;
  bool has_timing = true;
};

// All that the functions of the runtime share. Never destroyed, for threads of streams outlive main(). Any thread.
class Machine {
 public:
  static Machine& instance();

  void configure(const Settings& settings);
  const Settings& settings() const { return settings_; }
  DeviceMemory& memory() { return memory_; }

  // nullptr: not a stream that lives. The default stream is one of the calling thread's device.
  std::shared_ptr<WorkQueue> queue(cudaStream_t stream);
  cudaStream_t add_queue(int device);
  // False when there is none. What is queued still runs.
  bool remove_queue(cudaStream_t stream);
  // Waits for all work of a device.
  void synchronize(int device);

  cudaEvent_t add_event(EventState state);
  // A copy; device -1: not an event that lives.
  EventState event(cudaEvent_t event);
  bool record(cudaEvent_t event, std::shared_ptr<Mark> mark);
  bool remove_event(cudaEvent_t event);

  void count(const std::string& call);
  int64_t num_counted(const std::string& call);

 private:
  Machine();
  std::shared_ptr<WorkQueue> default_queue(int device);  // mutex_ is held

  std::mutex mutex_;
  Settings settings_;
  DeviceMemory memory_;
  std::map<cudaStream_t, std::shared_ptr<WorkQueue>> queues_;
  std::map<int, std::shared_ptr<WorkQueue>> default_queues_;
  std::map<cudaEvent_t, EventState> events_;
  std::map<std::string, int64_t> counts_;
  uint64_t handles_ = 0, num_queues_ = 0;
};

// The calling thread's device.
int& current_device();
// Remembers an error for cudaGetLastError() of this thread, and returns it.
cudaError_t fail(cudaError_t error);
cudaError_t take_last_error();
cudaError_t last_error();
// Counts a call of the runtime. An error in a host function, from which nothing of CUDA may be called.
cudaError_t enter(const char* function);
// Forgets which devices NCCL has lost.
void find_nccl_devices();
// Runs a host function: one at a time, as CUDA may do it.
void run_host_function(cudaHostFn_t function, void* data);

}  // namespace fake_gpu
