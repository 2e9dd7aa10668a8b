#pragma once
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace zerostep {

// A point in a stream's work. A value handle; a default-constructed event is complete.
class Event {
 public:
  class Impl {
   public:
    virtual ~Impl() = default;
    virtual bool ready() const = 0;
    virtual void wait() const = 0;
    virtual std::exception_ptr known_failure() const { return nullptr; }
    virtual double seconds_since(const Impl& mark) const;
  };
  Event() = default;
  explicit Event(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  // True when all work before the event is done (or has failed).
  bool ready() const { return !impl_ || impl_->ready(); }
  // True when the work is known to have failed.
  bool failed() const;
  // Rethrows what a GPU's work is known to throw, before the GPU has come there.
  void rethrow_known() const {
    if (const std::exception_ptr failure = impl_ ? impl_->known_failure() : nullptr) std::rethrow_exception(failure);
  }
  // Blocks the calling thread until then. Rethrows what the work threw.
  void wait() const {
    if (impl_) impl_->wait();
  }
  // Of marks of a GPU's streams (Stream::mark) that are complete: the time from `mark` to this one on the device, to about a microsecond;
  // negative where `mark` came later. ProtocolError of other events.
  double seconds_since(const Event& mark) const;
  // For backends, which know their own events; nullptr where the event is complete from the start.
  const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<Impl> impl_;
};

// A complete event of work that is known to have failed; wait() rethrows.
Event failed_event(std::exception_ptr failure);

// An in-order queue of work: on the CPU a worker thread, or the caller itself (`inline_stream`); on CUDA a stream.
// A value handle: copies name the same queue, in which any thread may enqueue. Work that throws poisons the stream: what follows is
// skipped, and every later wait on it rethrows the first exception. On CUDA a failure holds for what any stream of the device queues later,
// and kernels that are queued before it is known still run.
class Stream {
 public:
  class Impl {
   public:
    virtual ~Impl() = default;
    virtual Event enqueue(std::function<void()> task) = 0;
    virtual Event launch(std::function<void()> launcher) { return enqueue(std::move(launcher)); }
    virtual Event record() {
      return enqueue([] {});
    }
    virtual Event mark() { return record(); }
    virtual void wait(const Event& event) = 0;
    virtual void synchronize() = 0;
    virtual void drain() noexcept = 0;
    virtual const std::string& name() const = 0;
    virtual void* native_handle() const { return nullptr; }
    virtual bool is_current() const { return false; }
  };
  // Runs work at once in the calling thread.
  static Stream inline_stream(std::string name = "inline");
  // Runs work in a thread of its own, which ends with the last handle (after finishing what is queued).
  static Stream worker(std::string name);

  explicit Stream(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  // A host task: runs at its place in the queue. The event completes after it. Never blocks on a worker stream.
  Event enqueue(std::function<void()> task) { return impl_->enqueue(std::move(task)); }
  // A launch: the queue gets what `launcher` computes. Where kernels are queued by themselves the caller runs it at once, with this stream
  // as the current one; on a processor it is the kernel, and runs at its place as a host task does.
  Event launch(std::function<void()> launcher) { return impl_->launch(std::move(launcher)); }
  // Work enqueued from now on starts only after the event. Does not block the caller of a worker stream.
  void wait(const Event& event) { impl_->wait(event); }
  // An event that completes after all work enqueued so far.
  Event record() { return impl_->record(); }
  // Of a GPU: as record(), an event that knows when it completed. What runs on a processor looks at the clock.
  Event mark() { return impl_->mark(); }
  // Blocks until the queue is empty; rethrows. Not from work of this stream, which would wait for itself.
  void synchronize() { impl_->synchronize(); }
  // Blocks until the queue is empty, whatever has failed. Not from work of this stream.
  void drain() noexcept { impl_->drain(); }
  const std::string& name() const { return impl_->name(); }
  // What the backend's library calls the stream; nullptr on a processor.
  void* native_handle() const { return impl_->native_handle(); }
  // Whether the calling thread is the one that runs the queue's work: what it does itself is then done in its place in the queue.
  bool is_current() const { return impl_->is_current(); }

 private:
  std::shared_ptr<Impl> impl_;
};

// Drains a stream where it goes out of scope: a member or variable declared after everything that the stream's work uses.
class StreamDrain {
 public:
  explicit StreamDrain(Stream stream) : stream_(std::move(stream)) {}
  ~StreamDrain() { stream_.drain(); }
  StreamDrain(const StreamDrain&) = delete;
  StreamDrain& operator=(const StreamDrain&) = delete;

 private:
  Stream stream_;
};

}  // namespace zerostep
