#pragma once
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace zerostep {

// Quantiles of many lengths in little memory: of more than kMost every second, fourth... is kept.
class LengthSample {
 public:
  static constexpr size_t kMost = 1 << 20;

  void add(int64_t length);
  int64_t count() const { return count_; }
  int64_t sum() const { return sum_; }
  // {"total", "mean", "min", "p5", "p25", "median", "p75", "p95", "p99", "max"}; empty without any length.
  nlohmann::ordered_json json() const;

 private:
  std::vector<int64_t> kept_;
  int64_t stride_ = 1, count_ = 0, sum_ = 0, min_ = 0, max_ = 0;
};

}  // namespace zerostep
