#include "runtime/strategy/instruct_schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace zerostep {
namespace {

constexpr size_t kLosses = 10;

}  // namespace

InstructSchedule::InstructSchedule(const StepConfig::Instruct& config)
    : config_(config), lowest_mean_(std::numeric_limits<double>::infinity()) {}

void InstructSchedule::add(double loss) {
  if (losses_.size() < kLosses)
    losses_.push_back(loss);
  else
    losses_[next_++ % kLosses] = loss;
  if (losses_.size() < kLosses) return;
  lowest_mean_ = std::min(lowest_mean_, std::accumulate(losses_.begin(), losses_.end(), 0.0) / static_cast<double>(kLosses));
}

double InstructSchedule::value(const Schedule& s, double lowest_mean) {
  if (lowest_mean >= s.threshold) return s.start;
  const double notches = std::floor((s.threshold - lowest_mean) / s.fall) + 1;
  const double value = s.start + notches * s.increment;
  return s.increment > 0 ? std::min(value, s.end) : std::max(value, s.end);
}

StepConfig::Instruct InstructSchedule::now() const {
  StepConfig::Instruct out = config_;
  if (config_.cosine_schedule) out.cosine = value(*config_.cosine_schedule, lowest_mean_);
  if (config_.noise_schedule) out.noise_scale = value(*config_.noise_schedule, lowest_mean_);
  return out;
}

}  // namespace zerostep
