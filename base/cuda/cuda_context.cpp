#include "base/cuda/cuda_context.h"

#include <system_error>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/keep_for_ever.h"

namespace zerostep {
namespace {

thread_local bool is_in_host_function = false;

struct HostTask {
  std::shared_ptr<CudaContext> context;
  uint64_t number;
  std::function<void()> task;

  static void CUDART_CB run(void* data) {
    const std::unique_ptr<HostTask> work(static_cast<HostTask*>(data));
    is_in_host_function = true;
    if (!work->context->failure_of(work->number)) {
      try {
        work->task();
      } catch (...) {
        work->context->fail(work->number, std::current_exception());
      }
    }
    work->task = nullptr;
    work->context = nullptr;
    is_in_host_function = false;
  }
};

}  // namespace

void end_outside_host_functions(std::function<void()> end) {
  if (!is_in_host_function) return end();
  const auto kept = std::make_shared<std::function<void()>>(std::move(end));
  try {
    std::thread([kept] { (*kept)(); }).detach();
  } catch (const std::system_error&) {
    keep_for_ever(kept);  // no thread is left
  }
}

void require_no_host_function() {
  if (is_in_host_function) fail_protocol("a host task of a CUDA stream asks or waits for CUDA, which it may not");
}

CudaContext::~CudaContext() {
  events_.insert(events_.end(), timed_events_.begin(), timed_events_.end());
  end_outside_host_functions([events = std::move(events_)] {
    for (const cudaEvent_t event : events) cudaEventDestroy(event);
  });
}

void CudaContext::check(cudaError_t error, const char* what) const {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // the next call does not tell it again
  fail_run("[{}] {}: {} ({})", name_, what, cudaGetErrorString(error), cudaGetErrorName(error));
}

void CudaContext::fail(uint64_t number, std::exception_ptr failure) {
  std::lock_guard lock(mutex_);
  if (number >= failed_number_) return;
  failure_ = std::move(failure);
  failed_number_ = number;
}

std::exception_ptr CudaContext::failure_of(uint64_t number) {
  if (number < failed_number_) return nullptr;
  std::lock_guard lock(mutex_);
  return failure_;
}

cudaEvent_t CudaContext::take_event(bool is_timed) {
  {
    std::lock_guard lock(mutex_);
    std::vector<cudaEvent_t>& events = is_timed ? timed_events_ : events_;
    if (!events.empty()) {
      const cudaEvent_t event = events.back();
      events.pop_back();
      return event;
    }
  }
  make_current();
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, is_timed ? cudaEventDefault : cudaEventDisableTiming), "an event cannot be made");
  return event;
}

void CudaContext::give_back(cudaEvent_t event, bool is_timed) {
  std::lock_guard lock(mutex_);
  (is_timed ? timed_events_ : events_).push_back(event);
}

void CudaContext::make_current() const {
  int device = -1;
  check(cudaGetDevice(&device), "the current device is not known");
  if (device != index_) check(cudaSetDevice(index_), "the device cannot be made the current one");
}

void CudaContext::queue_host_task(std::shared_ptr<CudaContext> context, cudaStream_t stream, uint64_t number, std::function<void()> task) {
  const CudaContext& queued_on = *context;
  auto work = std::make_unique<HostTask>(HostTask{std::move(context), number, std::move(task)});
  queued_on.check(cudaLaunchHostFunc(stream, &HostTask::run, work.get()), "a host task cannot be queued");
  work.release();
}

}  // namespace zerostep
