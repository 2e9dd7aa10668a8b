#pragma once
#include <deque>
#include <mutex>
#include <utility>

namespace zerostep {

// Keeps a thing until the process ends: memory and files that the system may still use for a request that nobody can wait for. Any thread.
template <typename T>
void keep_for_ever(T thing) {
  static auto* const kept = new std::pair<std::mutex, std::deque<T>>;
  std::lock_guard lock(kept->first);
  kept->second.push_back(std::move(thing));
}

}  // namespace zerostep
