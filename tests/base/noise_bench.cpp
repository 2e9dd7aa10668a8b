// Noise per second of one core, for every instruction set of this machine, taken in turns with the limits it is compared with: a memset of
// the same array (stores alone) and the standard library's normals. `torch.Tensor.normal_` is the peer to run beside it.
// usage: noise_bench [thousands of elements, default 8: in the first-level cache] [rounds, default 15]
#include <fmt/format.h>
#include <hwy/highway.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/noise.h"

namespace zerostep {
namespace {

// Processor time, so that neighbours on the same core do not count.
double thread_seconds() {
  timespec t = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Row {
  std::string name;
  int64_t target;  // 0: none
  int repeats;
  std::function<void(uint64_t)> work;
  double best = 1e9;
};

int run(int64_t n, int rounds) {
  std::vector<float> storage(static_cast<size_t>(n) + 16);
  const auto address = reinterpret_cast<uintptr_t>(storage.data());
  float* out = storage.data() + (64 - address % 64) % 64 / sizeof(float);
  std::vector<uint32_t> words(static_cast<size_t>(n));
  std::mt19937_64 generator(1);
  std::normal_distribution<float> normal;
  const int repeats = static_cast<int>(std::max<int64_t>(1, (4 << 20) / n));
  std::vector<Row> rows;
  rows.push_back({"memset (stores alone)", 0, repeats, [&](uint64_t i) {
                    std::memset(out, static_cast<int>(i), static_cast<size_t>(n) * sizeof(float));
                    asm volatile("" : : "r"(out) : "memory");
                  }});
  rows.push_back({"std::normal_distribution", 0, std::max(1, repeats / 16), [&](uint64_t) {
                    for (int64_t i = 0; i < n; ++i) out[i] = normal(generator);
                  }});
  const int64_t supported = hwy::SupportedTargets();
  for (int bit = 0; bit < 63; ++bit) {
    const int64_t target = int64_t{1} << bit;
    const bool wanted = target == HWY_STATIC_TARGET || (supported & target & (HWY_AVX3 | HWY_AVX2 | HWY_NEON)) != 0;
    if (!wanted) continue;
    const int some = target == HWY_STATIC_TARGET ? std::max(1, repeats / 16) : repeats;
    const std::string name = hwy::TargetName(target);
    rows.push_back({"normals " + name, target, some, [&](uint64_t i) { fill_normal({.seed = 1, .step = i}, 0, n, out); }});
    rows.push_back({"signs " + name, target, some, [&](uint64_t i) { fill_rademacher({.seed = 1, .step = i}, 0, n, out); }});
    rows.push_back({"bits " + name, target, some, [&](uint64_t i) { fill_bits({.seed = 1, .step = i}, 0, n, words.data()); }});
  }
  for (int round = -1; round < rounds; ++round) {
    for (auto& row : rows) {
      hwy::SetSupportedTargetsForTest(row.target);
      const double start = thread_seconds();
      for (int i = 0; i < row.repeats; ++i) row.work(static_cast<uint64_t>(i));
      const double seconds = (thread_seconds() - start) / row.repeats;
      if (round >= 0) row.best = std::min(row.best, seconds);
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  const auto count = static_cast<double>(n);
  fmt::print("one core, {} elements a call, best of {} rounds\n\n{:<26} {:>10} {:>10} {:>16}\n", n, rounds, "", "M / s", "of stores",
             "of std's normals");
  for (const auto& row : rows) {
    fmt::print("{:<26} {:>10.0f} {:>10.3f} {:>16.2f}\n", row.name, count / row.best / 1e6, rows[0].best / row.best,
               rows[1].best / row.best);
  }
  return 0;
}

}  // namespace
}  // namespace zerostep

int main(int argc, char** argv) {
  const int64_t thousands = argc > 1 ? std::atoll(argv[1]) : 8;
  return zerostep::run(std::max<int64_t>(1, thousands) << 10, argc > 2 ? std::max(1, std::atoi(argv[2])) : 15);
}
