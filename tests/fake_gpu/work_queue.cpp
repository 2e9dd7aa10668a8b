#include "fake_gpu/work_queue.h"

#include <thread>
#include <utility>

namespace fake_gpu {

void Mark::set() {
  std::lock_guard lock(mutex_);
  time_ = std::chrono::steady_clock::now();
  is_set_ = true;
  changed_.notify_all();
}

bool Mark::is_set() {
  std::lock_guard lock(mutex_);
  return is_set_;
}

void Mark::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return is_set_; });
}

std::chrono::steady_clock::time_point Mark::time() {
  wait();
  return time_;
}

WorkQueue::WorkQueue(int device, int jitter_microseconds, uint64_t seed)
    : device_(device), jitter_microseconds_(jitter_microseconds), random_(static_cast<unsigned>(seed)) {}

std::shared_ptr<WorkQueue> WorkQueue::start(int device, int jitter_microseconds, uint64_t seed) {
  std::shared_ptr<WorkQueue> queue(new WorkQueue(device, jitter_microseconds, seed));
  std::thread([queue] { queue->run(); }).detach();
  return queue;
}

void WorkQueue::push(std::function<void()> item) {
  std::lock_guard lock(mutex_);
  items_.push_back(std::move(item));
  ++num_pushed_;
  work_available_.notify_one();
}

bool WorkQueue::is_idle() {
  std::lock_guard lock(mutex_);
  return num_done_ == num_pushed_;
}

void WorkQueue::synchronize() {
  std::unique_lock lock(mutex_);
  work_done_.wait(lock, [this, last = num_pushed_] { return num_done_ >= last; });
}

void WorkQueue::close() {
  std::lock_guard lock(mutex_);
  is_closed_ = true;
  work_available_.notify_one();
}

void WorkQueue::run() {
  for (;;) {
    std::function<void()> item;
    {
      std::unique_lock lock(mutex_);
      work_available_.wait(lock, [&] { return is_closed_ || !items_.empty(); });
      if (items_.empty()) return;
      item = std::move(items_.front());
      items_.pop_front();
    }
    if (jitter_microseconds_ > 0)
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % static_cast<unsigned>(jitter_microseconds_)));
    item();
    item = nullptr;
    std::lock_guard lock(mutex_);
    ++num_done_;
    work_done_.notify_all();
  }
}

}  // namespace fake_gpu
