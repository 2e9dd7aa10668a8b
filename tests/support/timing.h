#pragma once
#include <time.h>

#include <algorithm>
#include <vector>

// What benchmarks measure with.
namespace zerostep::testing {

// How far a clock moves while work() runs: CLOCK_MONOTONIC for time, CLOCK_PROCESS_CPUTIME_ID or CLOCK_THREAD_CPUTIME_ID for processor
// time.
template <class Work>
double seconds_of(const Work& work, clockid_t clock = CLOCK_MONOTONIC) {
  const auto now = [clock] {
    timespec t = {};
    clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double start = now();
  work();
  return now() - start;
}

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<long>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Of values taken in turns: the median of each round's a over its b.
inline double median_ratio(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> ratios;
  for (size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  return median(ratios);
}

}  // namespace zerostep::testing
