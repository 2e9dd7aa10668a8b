#include "experiments/datasets/length_sample.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/nth.h"

namespace zerostep {

void LengthSample::add(int64_t length) {
  min_ = count_ == 0 ? length : std::min(min_, length);
  max_ = std::max(max_, length);
  sum_ += length;
  if (count_++ % stride_ != 0) return;
  kept_.push_back(length);
  if (kept_.size() < kMost) return;
  for (size_t i = 0; i < kept_.size() / 2; ++i) kept_[i] = kept_[2 * i];
  kept_.resize(kept_.size() / 2);
  stride_ *= 2;
}

nlohmann::ordered_json LengthSample::json() const {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  if (count_ == 0) return out;
  std::vector<int64_t> sorted = kept_;
  std::sort(sorted.begin(), sorted.end());
  const auto quantile = [&](int64_t percent) { return nth(sorted, (std::ssize(sorted) - 1) * percent / 100); };
  out["total"] = sum_;
  out["mean"] = static_cast<double>(sum_) / static_cast<double>(count_);
  out["min"] = min_;
  for (const int64_t percent : {5, 25}) out["p" + std::to_string(percent)] = quantile(percent);
  out["median"] = quantile(50);
  for (const int64_t percent : {75, 95, 99}) out["p" + std::to_string(percent)] = quantile(percent);
  out["max"] = max_;
  return out;
}

}  // namespace zerostep
