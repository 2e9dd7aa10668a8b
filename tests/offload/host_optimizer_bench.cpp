// Bandwidth of the fused AdamW step on one and two threads beside a plain memcpy of the same arrays, taken in turns in one run: absolute
// figures depend on the machine and its neighbours, the ratios do not. Bytes moved by a step: 28 an element (reads p, g, m, v; writes p,
// m, v), 30 with a 16-bit copy; by a copy: 8 an element. Needs 1.9 GB; takes about 20 seconds.
// usage: host_optimizer_bench [millions of elements, default 64] [rounds, default 9]
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "offload/host_optimizer.h"
#include "tests/support/timing.h"

namespace zerostep {
namespace {

using testing::median;

// Memory in huge pages where the system grants them, as the runtime's arenas are.
class Array {
 public:
  explicit Array(int64_t num_elements) : num_bytes_(static_cast<size_t>(round_up(num_elements * 4, kHugePage))) {
    void* p = nullptr;
    if (posix_memalign(&p, kHugePage, num_bytes_) != 0) fail_run("benchmark: no memory for {} bytes", num_bytes_);
    madvise(p, num_bytes_, MADV_HUGEPAGE);
    data_ = static_cast<float*>(p);
    std::memset(data_, 0, num_bytes_);
  }
  ~Array() { std::free(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  float* data() const { return data_; }

 private:
  static constexpr int64_t kHugePage = int64_t{2} << 20;
  size_t num_bytes_;
  float* data_;
};

// Seconds that `threads` threads need together, each for its own contiguous piece [begin, end) of n elements.
double seconds_of(int threads, int64_t n, const std::function<void(int64_t, int64_t)>& work) {
  std::barrier barrier(threads + 1);
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      const int64_t begin = round_up(n * t / threads, 16), end = t + 1 == threads ? n : round_up(n * (t + 1) / threads, 16);
      barrier.arrive_and_wait();
      work(begin, end);
      barrier.arrive_and_wait();
    });
  }
  barrier.arrive_and_wait();
  const auto start = std::chrono::steady_clock::now();
  barrier.arrive_and_wait();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (auto& thread : pool) thread.join();
  return seconds;
}

struct Row {
  std::string name;
  double bytes_per_element;
  std::function<void(int64_t, int64_t)> work;
  std::vector<double> seconds = {};
};

int run(int64_t n, int rounds) {
  const Array p(n), g(n), m(n), v(n), copy(n), half(n / 2 + 1);
  for (int64_t i = 0; i < n; ++i) g.data()[i] = 1e-3f * static_cast<float>(i % 1009 - 504);
  volatile double sink = 0;
  const auto piece = [&](int64_t begin, int64_t end) {
    return OptimizerPiece{
        .master = p.data() + begin, .gradient = g.data() + begin, .count = end - begin, .lr = 1e-4f, .weight_decay = 0.01f};
  };
  const AdamParameters adam = {
      .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step_size = 1e-3, .inv_sqrt_bias_correction2 = 31.6, .decoupled = true};
  std::vector<Row> rows;
  rows.push_back({"memcpy", 8, [&](int64_t a, int64_t b) { std::memcpy(copy.data() + a, g.data() + a, static_cast<size_t>(b - a) * 4); }});
  rows.push_back({"AdamW", 28, [&](int64_t a, int64_t b) { adam_step(piece(a, b), m.data() + a, v.data() + a, adam); }});
  rows.push_back({"AdamW + bf16 copy", 30, [&](int64_t a, int64_t b) {
                    OptimizerPiece s = piece(a, b);
                    s.compute = reinterpret_cast<uint16_t*>(half.data()) + a;
                    s.compute_type = DType::BF16;
                    adam_step(s, m.data() + a, v.data() + a, adam);
                  }});
  rows.push_back({"Lion", 20, [&](int64_t a, int64_t b) { lion_step(piece(a, b), m.data() + a, {.beta1 = 0.9, .beta2 = 0.99}); }});
  rows.push_back({"SGD, momentum", 20, [&](int64_t a, int64_t b) {
                    sgd_step(piece(a, b), m.data() + a, {.momentum = 0.9, .dampening = 0, .nesterov = false, .first_step = false});
                  }});
  // Both arrays are equal by now, so that the comparison reads all of them.
  rows.push_back({"memcmp (reads)", 8,
                  [&](int64_t a, int64_t b) { sink = std::memcmp(copy.data() + a, g.data() + a, static_cast<size_t>(b - a) * 4); }});
  rows.push_back({"sum of squares", 4, [&](int64_t a, int64_t b) { sink = sum_of_squares(g.data() + a, b - a); }});
  rows.push_back({"fp32 to bf16", 6, [&](int64_t a, int64_t b) {
                    cast_from_fp32(g.data() + a, reinterpret_cast<uint16_t*>(half.data()) + a, DType::BF16, b - a);
                  }});
  rows.push_back({"bf16 to fp32", 6, [&](int64_t a, int64_t b) {
                    cast_to_fp32(reinterpret_cast<uint16_t*>(half.data()) + a, DType::BF16, copy.data() + a, b - a);
                  }});
  fmt::print("{} M elements, dispatch target {}, {} rounds; GB/s are medians, ratios are medians of each round's\n\n", n >> 20,
             host_optimizer_target(), rounds);
  for (const int threads : {1, 2}) {
    for (auto& row : rows) row.seconds.clear();
    for (int round = -1; round < rounds; ++round) {
      for (auto& row : rows) {
        const double seconds = seconds_of(threads, n, row.work);
        if (round >= 0) row.seconds.push_back(seconds);
      }
    }
    fmt::print("{:<20} {:>7} {:>10} {:>16}\n", threads == 1 ? "one thread" : "two threads", "GB/s", "M elem/s", "bytes / memcpy's");
    for (const auto& row : rows) {
      std::vector<double> ratio;
      for (size_t i = 0; i < row.seconds.size(); ++i) ratio.push_back(row.bytes_per_element / 8 * rows[0].seconds[i] / row.seconds[i]);
      const double elements = static_cast<double>(n) / median(row.seconds);
      fmt::print("{:<20} {:>7.1f} {:>10.0f} {:>16.2f}\n", row.name, elements * row.bytes_per_element / 1e9, elements / 1e6, median(ratio));
    }
    fmt::print("\n");
  }
  return 0;
}

}  // namespace
}  // namespace zerostep

int main(int argc, char** argv) {
  const int64_t millions = argc > 1 ? std::atoll(argv[1]) : 64;
  return zerostep::run(std::max<int64_t>(1, millions) << 20, argc > 2 ? std::max(1, std::atoi(argv[2])) : 9);
}
