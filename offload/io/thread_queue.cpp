#include <unistd.h>

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

// What the threads share with the queue. It outlives the queue where a thread does.
class Work {
 public:
  void push(std::span<const IoRequest> requests) {
    std::lock_guard lock(mutex_);
    requests_.insert(requests_.end(), requests.begin(), requests.end());
    num_in_flight_ += requests.size();
    changed_.notify_all();
  }

  std::vector<IoCompletion> wait(double seconds) {
    const auto limit =
        std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
    std::unique_lock lock(mutex_);
    completed_.wait_until(lock, limit, [&] { return !done_.empty(); });
    num_in_flight_ -= done_.size();
    return std::exchange(done_, {});
  }

  // True when no thread has anything left to do.
  bool stop() {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
    requests_.clear();
    changed_.notify_all();
    return num_in_flight_ == done_.size();
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return is_stopping_ || !requests_.empty(); });
      if (is_stopping_) return;
      const IoRequest request = requests_.front();
      requests_.pop_front();
      lock.unlock();
      const int64_t result = transfer(request);
      lock.lock();
      done_.push_back({request.slot, result});
      completed_.notify_one();
    }
  }

 private:
  static int64_t transfer(const IoRequest& request) {
    const auto size = static_cast<size_t>(request.num_bytes);
    const ssize_t result = request.is_write ? ::pwrite(request.file, request.memory, size, request.offset)
                                            : ::pread(request.file, request.memory, size, request.offset);
    return result < 0 ? -errno : result;
  }

  std::mutex mutex_;
  std::condition_variable changed_, completed_;
  std::deque<IoRequest> requests_;
  std::vector<IoCompletion> done_;
  size_t num_in_flight_ = 0;  // until the completion is taken
  bool is_stopping_ = false;
};

class ThreadQueue final : public IoQueue {
 public:
  ThreadQueue(const AioOptions& options, std::string reason)
      : reason_(std::move(reason)),
        work_(std::make_shared<Work>()),
        threads_(helper_threads(static_cast<size_t>(options.max_in_flight()), [work = work_](size_t) { work->run(); })) {
    if (threads_.empty()) fail_run("no thread could be started to read and write files: raise the limit of processes (ulimit -u)");
  }
  ~ThreadQueue() override {
    if (work_->stop()) return;
    for (std::jthread& thread : threads_) thread.detach();  // it may wait for its disk for ever
  }

  std::string name() const override { return fmt::format("{} threads{}{}", threads_.size(), reason_.empty() ? "" : ", as ", reason_); }
  void submit(std::span<const IoRequest> requests) override { work_->push(requests); }
  std::vector<IoCompletion> wait(double seconds) override { return work_->wait(seconds); }

 private:
  std::string reason_;
  std::shared_ptr<Work> work_;
  std::vector<std::jthread> threads_;
};

}  // namespace

std::unique_ptr<IoQueue> make_thread_queue(const AioOptions& options, std::string reason) {
  return std::make_unique<ThreadQueue>(options, std::move(reason));
}

}  // namespace zerostep
