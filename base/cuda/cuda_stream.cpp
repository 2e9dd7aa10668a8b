#include "base/cuda/cuda_stream.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>

#include "base/error.h"

namespace zerostep {
namespace {

class CudaEvent final : public Event::Impl {
 public:
  CudaEvent(std::shared_ptr<CudaContext> context, bool is_timed, uint64_t number)
      : context_(std::move(context)), is_timed_(is_timed), handle_(context_->take_event(is_timed)), number_(number) {}
  ~CudaEvent() override { context_->give_back(handle_, is_timed_); }

  bool ready() const override {
    require_no_host_function();
    if (cudaEventQuery(handle_) != cudaErrorNotReady) return true;
    cudaGetLastError();  // the next call does not tell it again
    return false;
  }
  void wait() const override {
    require_no_host_function();
    cudaError_t state = cudaEventQuery(handle_);
    if (state == cudaErrorNotReady) {
      cudaGetLastError();  // the next call does not tell it again
      state = cudaEventSynchronize(handle_);
    }
    context_->check(state, "the work before an event has failed");
    rethrow_failure();
  }
  std::exception_ptr known_failure() const override { return context_->failure_of(number_); }
  double seconds_since(const Impl& mark) const override {
    const auto* earlier = dynamic_cast<const CudaEvent*>(&mark);
    if (earlier == nullptr || !earlier->is_timed_ || !is_timed_) return Impl::seconds_since(mark);
    float milliseconds = 0;
    context_->check(cudaEventElapsedTime(&milliseconds, earlier->handle_, handle_), "the time between two events is not known");
    return 1e-3 * static_cast<double>(milliseconds);
  }
  // Of work that is done.
  void rethrow_failure() const {
    if (const std::exception_ptr failure = known_failure()) std::rethrow_exception(failure);
  }
  cudaEvent_t handle() const { return handle_; }
  const CudaContext* context() const { return context_.get(); }
  void fail(std::exception_ptr failure) const { context_->fail(number_, std::move(failure)); }

 private:
  std::shared_ptr<CudaContext> context_;
  const bool is_timed_;
  cudaEvent_t handle_;
  uint64_t number_;
};

// Makes a stream LibTorch's current one, until it goes. (LibTorch's own guard asks libtorch_cuda.so, which need not be loaded.)
class CurrentStream {
 public:
  CurrentStream(c10::DeviceIndex device, cudaStream_t stream) : before_(c10::cuda::getCurrentCUDAStream(device)) {
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromExternal(stream, device));
  }
  ~CurrentStream() { c10::cuda::setCurrentCUDAStream(before_); }
  CurrentStream(const CurrentStream&) = delete;
  CurrentStream& operator=(const CurrentStream&) = delete;

 private:
  c10::cuda::CUDAStream before_;
};

// A word of pinned memory that a thread of its own counts up, in the order of the events for which it waits.
class HostWaits {
 public:
  HostWaits(std::shared_ptr<CudaContext> context, const std::string& stream_name)
      : context_(std::move(context)), waiter_(Stream::worker(stream_name + " waits")) {
    void *word = nullptr, *function = nullptr;
    context_->check(cudaHostAlloc(&word, sizeof(uint32_t), cudaHostAllocPortable), "no word of pinned memory is left");
    word_.reset(static_cast<uint32_t*>(word));
    *word_ = 0;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    context_->check(cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &function, 12000, cudaEnableDefault, &found),
                    "the driver does not answer");
    if (found != cudaDriverEntryPointSuccess)
      fail_run("[{}] the driver has no cuStreamWaitValue32, so its streams cannot wait for the host: a driver for CUDA 13 has it",
               context_->name());
    wait_for_value_ = reinterpret_cast<decltype(&cuStreamWaitValue32)>(function);
  }

  void wait(cudaStream_t stream, const Event& event, uint64_t number) {
    const uint32_t value = ++last_value_;
    waiter_.enqueue([this, event, number, value] {
      try {
        event.wait();
      } catch (...) {
        context_->fail(number, std::current_exception());
      }
      std::atomic_ref<uint32_t>(*word_).store(value);
    });
    const CUresult result = wait_for_value_(stream, reinterpret_cast<CUdeviceptr>(word_.get()), value, CU_STREAM_WAIT_VALUE_GEQ);
    if (result != CUDA_SUCCESS)
      fail_run("[{}] a wait for the host cannot be queued: error {} of the driver", context_->name(), static_cast<int>(result));
  }

 private:
  struct FreePinned {
    void operator()(void* data) const { cudaFreeHost(data); }
  };

  std::shared_ptr<CudaContext> context_;
  std::unique_ptr<uint32_t, FreePinned> word_;
  Stream waiter_;  // ends before the word into which it writes
  uint32_t last_value_ = 0;
  decltype(&cuStreamWaitValue32) wait_for_value_ = nullptr;
};

class CudaStream final : public Stream::Impl {
 public:
  CudaStream(std::shared_ptr<CudaContext> context, std::string name) : context_(std::move(context)), name_(std::move(name)) {
    context_->make_current();
    context_->check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream cannot be made");
  }

  ~CudaStream() override {
    end_outside_host_functions([context = std::move(context_), stream = stream_, host_waits = std::move(host_waits_)]() mutable {
      cudaStreamSynchronize(stream);
      host_waits = nullptr;
      cudaStreamDestroy(stream);
    });
  }

  Event enqueue(std::function<void()> task) override {
    std::lock_guard lock(mutex_);
    const uint64_t number = next_number();
    attempt(number, [&] { CudaContext::queue_host_task(context_, stream_, number, std::move(task)); });
    return record_behind_all();
  }

  // The launcher may itself use streams, this one too, and so runs without the lock.
  Event launch(std::function<void()> launcher) override {
    std::unique_lock lock(mutex_);
    const uint64_t number = next_number();
    lock.unlock();
    attempt(number, [&] {
      if (context_->failure_of(number)) return;
      context_->make_current();
      const CurrentStream current(static_cast<c10::DeviceIndex>(context_->index()), stream_);
      launcher();
    });
    return record();
  }

  Event record() override {
    std::lock_guard lock(mutex_);
    return record_behind_all();
  }

  Event mark() override {
    std::lock_guard lock(mutex_);
    return record_behind_all(true);
  }

  void wait(const Event& event) override {
    std::lock_guard lock(mutex_);
    const uint64_t number = next_number();
    attempt(number, [&] {
      const auto* of_cuda = dynamic_cast<const CudaEvent*>(event.impl().get());
      if (of_cuda == nullptr) return wait_for_host(event, number);
      context_->check(cudaStreamWaitEvent(stream_, of_cuda->handle(), 0), "a wait for an event cannot be queued");
      // Failures of this device are known by their numbers; those of another one are looked at when its work is done.
      if (of_cuda->context() != context_.get())
        CudaContext::queue_host_task(context_, stream_, number, [impl = event.impl()] { rethrow_failure_of(*impl); });
    });
  }

  void synchronize() override {
    require_no_host_function();
    context_->check(cudaStreamSynchronize(stream_), "the work of a stream has failed");
    std::lock_guard lock(mutex_);
    if (const std::exception_ptr failure = context_->failure_of(last_number_)) std::rethrow_exception(failure);
  }

  void drain() noexcept override { cudaStreamSynchronize(stream_); }
  const std::string& name() const override { return name_; }
  void* native_handle() const override { return stream_; }

 private:
  // Under the lock, as is what is then queued with the number.
  uint64_t next_number() { return last_number_ = context_->next_number(); }

  // Queues work; what that throws is the failure of its number.
  template <typename Work>
  void attempt(uint64_t number, const Work& work) {
    try {
      work();
    } catch (...) {
      context_->fail(number, std::current_exception());
    }
  }

  // Under the lock: no number of what is queued before the event is higher than the event's.
  Event record_behind_all(bool is_timed = false) {
    try {
      auto event = std::make_shared<CudaEvent>(context_, is_timed, last_number_);
      context_->check(cudaEventRecord(event->handle(), stream_), "an event cannot be recorded");
      return Event(std::move(event));
    } catch (...) {
      context_->fail(last_number_, std::current_exception());
      return failed_event(std::current_exception());
    }
  }

  void wait_for_host(const Event& event, uint64_t number) {
    if (event.ready()) return event.wait();
    if (!host_waits_) host_waits_ = std::make_shared<HostWaits>(context_, name_);
    host_waits_->wait(stream_, event, number);
  }

  static void rethrow_failure_of(const Event::Impl& event) { static_cast<const CudaEvent&>(event).rethrow_failure(); }

  std::shared_ptr<CudaContext> context_;
  const std::string name_;
  cudaStream_t stream_ = nullptr;
  std::mutex mutex_;
  uint64_t last_number_ = 0;
  std::shared_ptr<HostWaits> host_waits_;
};

}  // namespace

Stream make_cuda_stream(std::shared_ptr<CudaContext> context, std::string name) {
  return Stream(std::make_shared<CudaStream>(std::move(context), std::move(name)));
}

void fail_work_before(const Event& event, std::exception_ptr failure) {
  if (const auto* of_cuda = dynamic_cast<const CudaEvent*>(event.impl().get())) of_cuda->fail(std::move(failure));
}

}  // namespace zerostep
