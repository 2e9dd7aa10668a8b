#include "runtime/timing/call_meter.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "base/nth.h"

namespace zerostep {
namespace {

// Shorter repetitions would measure the clock; those of a stream that is idle, how long the first of its work takes to arrive.
constexpr double kShortestByClock = 50e-6, kShortestByMarks = 1e-3;
constexpr int kLeastRepetitions = 3, kMostRepetitions = 300;

}  // namespace

CallTimer host_timer() {
  return {[](int64_t count, const std::function<void()>& call) {
            const auto start = std::chrono::steady_clock::now();
            for (int64_t i = 0; i < count; ++i) call();
            return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
          },
          kShortestByClock};
}

CallTimer stream_timer(Stream stream) {
  if (stream.native_handle() == nullptr) return host_timer();
  return {[stream](int64_t count, const std::function<void()>& call) mutable {
            const Event begin = stream.mark();
            stream.launch([&] {
              for (int64_t i = 0; i < count; ++i) call();
            });
            const Event end = stream.mark();
            end.wait();
            return end.seconds_since(begin);
          },
          kShortestByMarks};
}

double CallMeter::most_of(double value) {
  ranks_.all_reduce_scalars({&value, 1}, ReduceOp::Max, "measurement");
  return value;
}

double CallMeter::seconds_of(const std::string& figure, double budget, const std::function<void()>& call, const CallTimer& timer) {
  // Where other programs hold this one up, or a call takes long, fewer repetitions do.
  const auto start = std::chrono::steady_clock::now();
  const auto is_late = [&] { return any(std::chrono::steady_clock::now() - start > std::chrono::duration<double>(2 * budget)); };
  timer.seconds_of(1, call);
  // The slowest rank's: all repeat as often, and begin together.
  const auto once_more = [&] { return most_of(std::max(1e-9, timer.seconds_of(1, call))); };
  double once = once_more();
  if (once < budget / 10) {
    timer.seconds_of(1, call);
    once = std::min(once, once_more());
  }
  const auto calls = static_cast<int64_t>(std::ceil(timer.shortest_seconds / once));
  const int repetitions =
      std::clamp(static_cast<int>(std::min(budget / (once * static_cast<double>(calls)), 1e6)), kLeastRepetitions, kMostRepetitions);
  std::vector<double> seconds;
  if (is_late()) {
    seconds.push_back(once);
  } else {
    do {
      for (int i = 0; i < (repetitions + 3) / 4; ++i) seconds.push_back(timer.seconds_of(calls, call) / static_cast<double>(calls));
    } while (std::ssize(seconds) < repetitions && !is_late());
  }
  std::sort(seconds.begin(), seconds.end());
  const auto count = std::ssize(seconds);
  const double median = nth(seconds, count / 2);
  const double apart = count < kLeastRepetitions ? std::numeric_limits<double>::infinity()
                                                 : (nth(seconds, count * 3 / 4) - nth(seconds, count / 4)) / median;
  std::array<double, 2> values{median, apart};
  ranks_.all_reduce_scalars(values, ReduceOp::Sum, "measurement");
  double& spread = spreads_[figure];
  spread = std::max(spread, values[1] / ranks_.size());
  return values[0] / ranks_.size();
}

}  // namespace zerostep
