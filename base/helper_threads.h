#pragma once
#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace zerostep {

// Threads that run work(1), work(2)... beside the caller's and are joined with the result. They share out one piece of work, so where the
// system gives no more of them, fewer do it.
template <typename Work>
std::vector<std::jthread> helper_threads(size_t count, const Work& work) {
  std::vector<std::jthread> threads;
  threads.reserve(count);
  try {
    for (size_t i = 1; i <= count; ++i) threads.emplace_back([work, i] { work(i); });
  } catch (const std::system_error&) {
    // The limit of processes or memory is reached: the caller and the threads that run do the work.
  }
  return threads;
}

}  // namespace zerostep
