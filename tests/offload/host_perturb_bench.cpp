// Perturbing and estimating on one core, for slices in the first-level cache (with every instruction set) and for slices in memory, taken
// in turns in one run with what they are compared with: the noise alone, written into the first-level cache, and a copy of as many bytes.
// Absolute figures depend on the machine and its neighbours, the ratios do not. Bytes of a pair: 12 an element in fp32, 8 from fp32 to bf16
// and as many to fp16. Needs 1 GB; takes about 20 seconds.
// usage: host_perturb_bench [millions of elements in memory, default 32] [rounds, default 9]
#include <fmt/format.h>
#include <hwy/highway.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "offload/host_optimizer.h"
#include "offload/host_perturb.h"
#include "tests/support/timing.h"

namespace zerostep {
namespace {

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

// Processor time, so that neighbours on the same core do not count.
double thread_seconds() {
  timespec t = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Row {
  std::string name;
  double bytes_per_element;  // 0: not compared with the copy
  std::function<void()> work;
  int passes = 1;  // over the elements
  std::vector<double> seconds = {};
};

double ratio(const Row& reference, const Row& row) { return testing::median_ratio(reference.seconds, row.seconds); }

void measure(std::vector<Row>& rows, int rounds, int repeats) {
  for (int round = -1; round < rounds; ++round) {
    for (auto& row : rows) {
      const double start = thread_seconds();
      for (int i = 0; i < repeats; ++i) row.work();
      if (round >= 0) row.seconds.push_back((thread_seconds() - start) / row.passes);
    }
  }
}

void run(int64_t n, int rounds, int repeats) {
  const Array base(n), plus(n), minus(n), noise(8192);
  for (int64_t i = 0; i < n; ++i) base.data()[i] = 1e-4f * static_cast<float>(i % 1009 - 504);
  const NoiseKey key{.seed = 1};
  std::vector<uint32_t> directions(16);
  for (uint32_t d = 0; d < 16; ++d) directions[d] = d;
  const std::vector<float> scalars(16, 0.5f);
  const auto pair = [&](NoiseKind kind, DType target) {
    perturb({.base = base.data(), .plus = plus.data(), .minus = minus.data(), .target_type = target, .count = n, .epsilon = 1e-3f}, kind,
            key);
  };
  const auto estimate = [&](NoiseKind kind, int64_t q) {
    noise_estimate(kind, key, directions.data(), scalars.data(), q, 0.1f, 0, n, plus.data());
  };
  std::vector<Row> rows;
  rows.push_back({"fill_normal into L1", 0, [&] {
                    for (int64_t i = 0; i < n; i += 2048) {
                      fill_normal(key, static_cast<uint64_t>(i), std::min<int64_t>(2048, n - i), noise.data());
                    }
                  }});
  rows.push_back({"memcpy", 8, [&] { std::memcpy(plus.data(), base.data(), static_cast<size_t>(n) * 4); }});
  rows.push_back({"gaussian fp32", 12, [&] { pair(NoiseKind::Gaussian, DType::F32); }});
  rows.push_back({"gaussian bf16", 8, [&] { pair(NoiseKind::Gaussian, DType::BF16); }});
  rows.push_back({"gaussian fp16", 8, [&] { pair(NoiseKind::Gaussian, DType::F16); }});
  rows.push_back({"rademacher fp32", 12, [&] { pair(NoiseKind::Rademacher, DType::F32); }});
  rows.push_back({"rademacher bf16", 8, [&] { pair(NoiseKind::Rademacher, DType::BF16); }});
  rows.push_back({"rademacher fp16", 8, [&] { pair(NoiseKind::Rademacher, DType::F16); }});
  rows.push_back({"estimate gaussian, 1", 4, [&] { estimate(NoiseKind::Gaussian, 1); }});
  rows.push_back({"estimate gaussian, 16", 4, [&] { estimate(NoiseKind::Gaussian, 16); }, 16});
  rows.push_back({"estimate rademacher, 16", 4, [&] { estimate(NoiseKind::Rademacher, 16); }, 16});
  rows.push_back({"low rank 8, fill", 4, [&, z = LowRankDirection({0, n / 512, 512, std::min<int64_t>(8, n / 512)}, 1, 0, 1, 0)] {
                    for (int64_t i = 0; i < n; i += 4096) z.fill(i, std::min<int64_t>(4096, n - i), noise.data());
                  }});
  rows.push_back({"round_stochastically bf16", 6, [&] { round_stochastically(base.data(), plus.data(), DType::BF16, key, 0, n); }});
  rows.push_back({"round_stochastically fp16", 6, [&] { round_stochastically(base.data(), plus.data(), DType::F16, key, 0, n); }});
  measure(rows, rounds, repeats);
  fmt::print("{} elements, dispatch target {}; medians of {} rounds; noise made per second for estimates\n\n", n, host_optimizer_target(),
             rounds);
  fmt::print("{:<26} {:>10} {:>14} {:>16}\n", "", "M elem/s", "of fill_normal", "bytes / memcpy's");
  for (const auto& row : rows) {
    const double elements = static_cast<double>(n) * repeats / testing::median(row.seconds);
    fmt::print("{:<26} {:>10.0f} {:>14.2f} {:>16.2f}\n", row.name, elements / 1e6, ratio(rows[0], row),
               row.bytes_per_element / 8 * ratio(rows[1], row));
  }
  fmt::print("\n");
}

}  // namespace
}  // namespace zerostep

int main(int argc, char** argv) {
  const int64_t millions = argc > 1 ? std::atoll(argv[1]) : 32;
  const int rounds = argc > 2 ? std::max(1, std::atoi(argv[2])) : 9;
  const int64_t supported = hwy::SupportedTargets();
  for (const int64_t target : {int64_t{HWY_AVX3}, int64_t{HWY_AVX2}, int64_t{HWY_NEON}}) {
    if ((supported & target) == 0) continue;
    hwy::SetSupportedTargetsForTest(target);
    zerostep::run(2048, rounds, 2048);
  }
  hwy::SetSupportedTargetsForTest(0);
  zerostep::run(std::max<int64_t>(1, millions) << 20, rounds, 1);
  return 0;
}
