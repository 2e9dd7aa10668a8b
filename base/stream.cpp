#include "base/stream.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "base/error.h"

namespace zerostep {
namespace {

class FailedEvent final : public Event::Impl {
 public:
  explicit FailedEvent(std::exception_ptr failure) : failure_(std::move(failure)) {}
  bool ready() const override { return true; }
  void wait() const override { std::rethrow_exception(failure_); }

 private:
  std::exception_ptr failure_;
};

class InlineStream final : public Stream::Impl {
 public:
  explicit InlineStream(std::string name) : name_(std::move(name)) {}

  Event enqueue(std::function<void()> work) override {
    if (std::exception_ptr failure = this->failure()) return failed_event(failure);
    try {
      work();
    } catch (...) {
      return failed_event(poison(std::current_exception()));
    }
    return {};
  }

  void wait(const Event& event) override {
    try {
      event.wait();
    } catch (...) {
      poison(std::current_exception());
    }
  }

  void synchronize() override {
    if (std::exception_ptr failure = this->failure()) std::rethrow_exception(failure);
  }

  void drain() noexcept override {}
  const std::string& name() const override { return name_; }
  bool is_current() const override { return true; }

 private:
  std::exception_ptr failure() {
    std::lock_guard lock(mutex_);
    return failure_;
  }
  // The first failure stays.
  std::exception_ptr poison(std::exception_ptr failure) {
    std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(failure);
    return failure_;
  }

  std::string name_;
  std::mutex mutex_;
  std::exception_ptr failure_;
};

// The queue that a worker thread and its handles share. Tasks are numbered from 1; task n is done when completed >= n.
class WorkQueue {
 public:
  uint64_t push(std::function<void()> work) {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(work));
    if (idle_) work_available_.notify_one();
    return ++enqueued_;
  }

  void stop() {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    work_available_.notify_one();
  }

  void run() {
    for (;;) {
      std::function<void()> work;
      {
        std::unique_lock lock(mutex_);
        idle_ = true;
        work_available_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
        idle_ = false;
        if (tasks_.empty()) return;
        work = std::move(tasks_.front());
        tasks_.pop_front();
      }
      std::exception_ptr failure;
      if (!failed()) {
        try {
          work();
        } catch (...) {
          failure = std::current_exception();
        }
      }
      work = nullptr;  // what the work owns is released before its event completes
      complete(std::move(failure));
    }
  }

  bool done(uint64_t task) const { return completed_.load(std::memory_order_acquire) >= task; }

  void wait_until_done(uint64_t task) {
    if (done(task)) return;
    std::unique_lock lock(mutex_);
    ++waiters_;
    task_done_.wait(lock, [&] { return done(task); });
    --waiters_;
  }

  void wait_for(uint64_t task) {
    wait_until_done(task);
    if (first_failed_.load(std::memory_order_acquire) <= task) std::rethrow_exception(failure_);
  }

  uint64_t last_enqueued() {
    std::lock_guard lock(mutex_);
    return enqueued_;
  }

  void synchronize() {
    wait_for(last_enqueued());
    if (failed()) std::rethrow_exception(failure_);
  }

 private:
  bool failed() const { return first_failed_.load(std::memory_order_acquire) != kNone; }

  void complete(std::exception_ptr failure) {
    std::lock_guard lock(mutex_);
    const uint64_t task = completed_.load(std::memory_order_relaxed) + 1;
    if (failure) {
      failure_ = std::move(failure);
      first_failed_.store(task, std::memory_order_release);
    }
    completed_.store(task, std::memory_order_release);
    if (waiters_ > 0) task_done_.notify_all();
  }

  static constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();
  std::mutex mutex_;
  std::condition_variable work_available_, task_done_;
  std::deque<std::function<void()>> tasks_;
  uint64_t enqueued_ = 0;
  int waiters_ = 0;
  bool idle_ = false, stopping_ = false;
  std::atomic<uint64_t> completed_ = 0;
  std::atomic<uint64_t> first_failed_ = kNone;
  std::exception_ptr failure_;  // written once, before first_failed_
};

class TaskEvent final : public Event::Impl {
 public:
  TaskEvent(std::shared_ptr<WorkQueue> queue, uint64_t task) : queue_(std::move(queue)), task_(task) {}
  bool ready() const override { return queue_->done(task_); }
  void wait() const override { queue_->wait_for(task_); }

 private:
  std::shared_ptr<WorkQueue> queue_;
  uint64_t task_;
};

class WorkerStream final : public Stream::Impl {
 public:
  explicit WorkerStream(std::string name) : name_(std::move(name)), queue_(std::make_shared<WorkQueue>()) {
    try {
      thread_ = std::thread([queue = queue_] { queue->run(); });
    } catch (const std::system_error& error) {
      fail_run(
          "the thread of stream '{}' could not be started: {}. Lower the number of threads or raise the limit of processes (ulimit -u).",
          name_, error.what());
    }
    pthread_setname_np(thread_.native_handle(), name_.substr(0, 15).c_str());  // Linux takes 15 characters
  }

  ~WorkerStream() override {
    queue_->stop();
    // The last handle may have lived in a task; the thread then ends by itself.
    if (is_current())
      thread_.detach();
    else
      thread_.join();
  }

  Event enqueue(std::function<void()> work) override { return Event(std::make_shared<TaskEvent>(queue_, queue_->push(std::move(work)))); }
  void wait(const Event& event) override {
    queue_->push([event] { event.wait(); });
  }
  void synchronize() override { queue_->synchronize(); }
  void drain() noexcept override { queue_->wait_until_done(queue_->last_enqueued()); }
  const std::string& name() const override { return name_; }
  bool is_current() const override { return thread_.get_id() == std::this_thread::get_id(); }

 private:
  std::string name_;
  std::shared_ptr<WorkQueue> queue_;
  std::thread thread_;
};

}  // namespace

double Event::Impl::seconds_since(const Impl&) const { fail_protocol("[event] a time is asked of an event that is no mark of a GPU"); }

double Event::seconds_since(const Event& mark) const {
  if (!impl_ || !mark.impl_) fail_protocol("[event] a time is asked of an event that is no mark of a GPU");
  return impl_->seconds_since(*mark.impl_);
}

bool Event::failed() const {
  if (impl_ && impl_->known_failure()) return true;
  if (!ready()) return false;
  try {
    wait();
  } catch (...) {
    return true;
  }
  return false;
}

Event failed_event(std::exception_ptr failure) { return Event(std::make_shared<FailedEvent>(std::move(failure))); }

Stream Stream::inline_stream(std::string name) { return Stream(std::make_shared<InlineStream>(std::move(name))); }
Stream Stream::worker(std::string name) { return Stream(std::make_shared<WorkerStream>(std::move(name))); }

}  // namespace zerostep
