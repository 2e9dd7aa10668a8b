#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/helper_threads.h"
#include "offload/io/io_queue.h"

namespace zerostep {
namespace {

// What is done of one queue's requests.
struct Completions {
  std::condition_variable arrived;
  std::vector<IoCompletion> done;
};

// What the threads share with the queues. It outlives them where a thread does.
class Work {
 public:
  void push(std::span<const IoRequest> requests, const std::shared_ptr<Completions>& completions) {
    std::lock_guard lock(mutex_);
    for (const IoRequest& request : requests) tasks_.push_back({request, completions});
    changed_.notify_all();
  }

  std::vector<IoCompletion> wait(Completions& completions, double seconds) {
    std::unique_lock lock(mutex_);
    completions.arrived.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return !completions.done.empty(); });
    return std::exchange(completions.done, {});
  }

  // What no thread has begun of a queue that goes.
  void forget(const std::shared_ptr<Completions>& completions) {
    std::lock_guard lock(mutex_);
    std::erase_if(tasks_, [&](const Task& task) { return task.completions == completions; });
  }

  // True when no thread has anything left to do.
  bool stop() {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
    changed_.notify_all();
    return num_busy_ == 0;
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return is_stopping_ || !tasks_.empty(); });
      if (is_stopping_) return;
      const Task task = std::move(tasks_.front());
      tasks_.pop_front();
      ++num_busy_;
      lock.unlock();
      const int64_t result = transfer(task.request);
      lock.lock();
      --num_busy_;
      task.completions->done.push_back({task.request.slot, result});
      task.completions->arrived.notify_one();
    }
  }

 private:
  struct Task {
    IoRequest request;
    std::shared_ptr<Completions> completions;
  };

  static int64_t transfer(const IoRequest& request) {
    const auto size = static_cast<size_t>(request.num_bytes);
    const ssize_t result = request.is_write ? ::pwrite(request.file, request.memory, size, request.offset)
                                            : ::pread(request.file, request.memory, size, request.offset);
    return result < 0 ? -errno : result;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  int num_busy_ = 0;
  bool is_stopping_ = false;
};

// The threads of queues that come from one maker; any thread.
class IoThreads {
 public:
  IoThreads() = default;
  ~IoThreads() {
    if (work_->stop()) return;
    for (std::jthread& thread : threads_) thread.detach();  // one waits for its disk, perhaps for ever
  }
  IoThreads(const IoThreads&) = delete;
  IoThreads& operator=(const IoThreads&) = delete;

  Work& work() { return *work_; }
  // At least `count` of them, kMostIoThreads at most, or as many as the system gives; the number.
  int start(int count) {
    std::lock_guard lock(mutex_);
    const auto wanted = static_cast<size_t>(std::min(count, kMostIoThreads));
    if (threads_.size() < wanted)
      for (std::jthread& thread : helper_threads(wanted - threads_.size(), [work = work_](size_t) { work->run(); }))
        threads_.push_back(std::move(thread));
    if (threads_.empty()) fail_run("no thread could be started to read and write files: raise the limit of processes (ulimit -u)");
    return static_cast<int>(std::min(wanted, threads_.size()));
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<Work> work_ = std::make_shared<Work>();
  std::vector<std::jthread> threads_;
};

class ThreadQueue final : public IoQueue {
 public:
  ThreadQueue(const AioOptions& options, std::string reason, std::shared_ptr<IoThreads> threads)
      : reason_(std::move(reason)), threads_(std::move(threads)), num_threads_(threads_->start(options.max_in_flight())) {}
  ~ThreadQueue() override { threads_->work().forget(completions_); }

  std::string name() const override { return fmt::format("{} threads{}{}", num_threads_, reason_.empty() ? "" : ", as ", reason_); }
  void submit(std::span<const IoRequest> requests) override { threads_->work().push(requests, completions_); }
  std::vector<IoCompletion> wait(double seconds) override { return threads_->work().wait(*completions_, seconds); }

 private:
  std::string reason_;
  std::shared_ptr<IoThreads> threads_;
  int num_threads_;
  std::shared_ptr<Completions> completions_ = std::make_shared<Completions>();
};

}  // namespace

IoQueueMaker thread_queues(std::string reason) {
  return [reason = std::move(reason), threads = std::make_shared<IoThreads>()](const AioOptions& options) {
    return std::make_unique<ThreadQueue>(options, reason, threads);
  };
}

}  // namespace zerostep
