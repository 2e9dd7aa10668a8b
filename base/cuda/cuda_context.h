#pragma once
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace zerostep {

// Runs `end`, which destroys something of CUDA's: at once, or, called from a host function, in a thread of its own.
void end_outside_host_functions(std::function<void()> end);
// ProtocolError in a host function, which would wait for itself.
void require_no_host_function();

// What the streams, events and memory of one Device share. Thread-safe.
//
// Work of all streams of the device is numbered: that of one stream in the order in which it is queued, and what waits for an event with a
// higher number than the event. A failure has the number of the work that failed and holds for all work with that number or a higher one:
// CUDA's own errors end a device as a whole, and so failures travel along events without a host function at each wait.
class CudaContext {
 public:
  explicit CudaContext(int index) : index_(index), name_("cuda:" + std::to_string(index)) {}
  ~CudaContext();
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  int index() const { return index_; }
  const std::string& name() const { return name_; }

  // RunError, naming the device and what cannot be done, unless it is a success.
  void check(cudaError_t error, const char* what) const;

  uint64_t next_number() { return ++last_number_; }
  // The failure of the lowest number stays.
  void fail(uint64_t number, std::exception_ptr failure);
  // nullptr: work with this number has not failed.
  std::exception_ptr failure_of(uint64_t number);

  // Events, with times or without, made once and used again: a wait for one holds for the recording that it found.
  cudaEvent_t take_event(bool is_timed);
  void give_back(cudaEvent_t event, bool is_timed);

  // Makes the device the calling thread's. It stays so: to go back to another one would make that one's context, which takes memory there.
  void make_current() const;

  // Queues a host function that runs `task` unless work of its number has failed; what the task throws is the failure of that number.
  // Nothing of the task is left when it is done. RunError when it cannot be queued.
  static void queue_host_task(std::shared_ptr<CudaContext> context, cudaStream_t stream, uint64_t number, std::function<void()> task);

 private:
  const int index_;
  const std::string name_;
  std::atomic<uint64_t> last_number_ = 0;
  std::atomic<uint64_t> failed_number_ = std::numeric_limits<uint64_t>::max();
  std::mutex mutex_;
  std::exception_ptr failure_;
  std::vector<cudaEvent_t> events_, timed_events_;
};

}  // namespace zerostep
