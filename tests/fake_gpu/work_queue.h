#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>

namespace fake_gpu {

// A point in a stream's work, and when it was reached.
class Mark {
 public:
  void set();
  bool is_set();
  void wait();
  // When it was set; waits for that.
  std::chrono::steady_clock::time_point time();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_set_ = false;
  std::chrono::steady_clock::time_point time_;
};

// A stream: a thread that runs items in order, each after a random delay of up to `jitter_microseconds`.
class WorkQueue {
 public:
  static std::shared_ptr<WorkQueue> start(int device, int jitter_microseconds, uint64_t seed);

  int device() const { return device_; }
  void push(std::function<void()> item);
  bool is_idle();
  // Waits for what is queued now.
  void synchronize();
  // The thread ends when it has run what is queued.
  void close();

 private:
  WorkQueue(int device, int jitter_microseconds, uint64_t seed);
  void run();

  const int device_, jitter_microseconds_;
  std::minstd_rand random_;
  std::mutex mutex_;
  std::condition_variable work_available_, work_done_;
  std::deque<std::function<void()>> items_;
  uint64_t num_pushed_ = 0, num_done_ = 0;
  bool is_closed_ = false;
};

}  // namespace fake_gpu
