#include "runtime/optim/schedule.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace zerostep {
namespace {

// DeepSpeed counts iterations from -1: the optimizer starts with what the scheduler gives at -1 and every applied step moves on by one.
int64_t iteration_of(int64_t applied_steps) { return applied_steps - 1; }

int64_t known_total(const SchedulerConfig& scheduler, const char* type) {
  if (scheduler.total_num_steps <= 0)
    fail_protocol("[make_lr_schedule] {} needs total_num_steps, found {}", type, scheduler.total_num_steps);
  return scheduler.total_num_steps;
}

class Constant : public LrSchedule {
 public:
  explicit Constant(const OptimizerConfig& optimizer)
      : base_{.lr = optimizer.lr, .beta1 = optimizer.beta1, .beta2 = optimizer.beta2, .momentum = optimizer.momentum} {}
  ScheduledValues at(int64_t applied_steps) const override {
    ScheduledValues values = base_;
    values.lr = lr_at(iteration_of(applied_steps));
    return values;
  }

 protected:
  virtual double lr_at(int64_t) const { return base_.lr; }
  ScheduledValues base_;
};

// The warm-up that WarmupLR, WarmupDecayLR and WarmupCosineLR share: 0 at iteration 0 up to 1 at iteration N.
class WarmupRamp {
 public:
  explicit WarmupRamp(const SchedulerConfig& scheduler)
      : num_steps_(std::max<int64_t>(2, scheduler.warmup_num_steps)),
        log_(scheduler.warmup_log),
        inverse_log_(1.0 / std::log(static_cast<double>(num_steps_))) {}
  int64_t num_steps() const { return num_steps_; }
  bool done(int64_t iteration) const { return iteration >= num_steps_; }
  double at(int64_t iteration) const {
    if (log_) return inverse_log_ * std::log(static_cast<double>(iteration + 1));
    return static_cast<double>(iteration) / static_cast<double>(num_steps_);
  }

 private:
  int64_t num_steps_;
  bool log_;
  double inverse_log_;
};

class Warmup : public Constant {
 public:
  Warmup(const SchedulerConfig& scheduler, const OptimizerConfig& optimizer)
      : Constant(optimizer), ramp_(scheduler), min_lr_(scheduler.warmup_min_lr), max_lr_(scheduler.warmup_max_lr) {}

 protected:
  double lr_at(int64_t iteration) const override {
    if (iteration < 0) return min_lr_;
    return min_lr_ + (max_lr_ - min_lr_) * (ramp_.done(iteration) ? warm_factor(iteration) : ramp_.at(iteration));
  }
  virtual double warm_factor(int64_t) const { return 1.0; }
  WarmupRamp ramp_;

 private:
  double min_lr_, max_lr_;
};

class WarmupDecay : public Warmup {
 public:
  WarmupDecay(const SchedulerConfig& scheduler, const OptimizerConfig& optimizer)
      : Warmup(scheduler, optimizer), total_(known_total(scheduler, "WarmupDecayLR")) {}

 protected:
  double warm_factor(int64_t iteration) const override {
    const double remaining = static_cast<double>(total_ - iteration);
    return std::max(0.0, remaining / std::max(1.0, static_cast<double>(total_ - ramp_.num_steps())));
  }

 private:
  int64_t total_;
};

class WarmupCosine : public Constant {
 public:
  WarmupCosine(const SchedulerConfig& scheduler, const OptimizerConfig& optimizer)
      : Constant(optimizer),
        ramp_(scheduler),
        total_(known_total(scheduler, "WarmupCosineLR")),
        warmup_min_ratio_(scheduler.warmup_min_ratio),
        cos_min_ratio_(scheduler.cos_min_ratio) {}

 protected:
  double lr_at(int64_t iteration) const override { return iteration < 0 ? 0.0 : base_.lr * ratio_at(iteration); }

 private:
  double ratio_at(int64_t iteration) const {
    if (!ramp_.done(iteration)) return warmup_min_ratio_ + ramp_.at(iteration) * (1.0 - warmup_min_ratio_);
    const double step = static_cast<double>(iteration - ramp_.num_steps() + 1);
    const double progress = std::min(1.0, step / static_cast<double>(std::max<int64_t>(1, total_ - ramp_.num_steps())));
    return std::max(0.0, cos_min_ratio_ + (1.0 - cos_min_ratio_) * ((1.0 + std::cos(M_PI * progress)) / 2.0));
  }

  WarmupRamp ramp_;
  int64_t total_;
  double warmup_min_ratio_, cos_min_ratio_;
};

class OneCycle : public Constant {
 public:
  OneCycle(const SchedulerConfig& scheduler, const OptimizerConfig& optimizer)
      : Constant(optimizer),
        s_(scheduler),
        cycles_betas_(scheduler.cycle_momentum && optimizer.type != OptimizerConfig::Type::SGD),
        first_(static_cast<double>(scheduler.cycle_first_step_size)),
        second_(static_cast<double>(scheduler.cycle_second_step_size)) {}

  ScheduledValues at(int64_t applied_steps) const override {
    ScheduledValues values = Constant::at(applied_steps);
    if (cycles_betas_) {
      values.beta1 = beta1_at(iteration_of(applied_steps));
      values.beta2 = 0.99;
    }
    return values;
  }

 protected:
  double lr_at(int64_t iteration) const override {
    if (iteration < 0) return s_.cycle_min_lr;
    if (in_cycle(iteration)) return s_.cycle_min_lr + (s_.cycle_max_lr - s_.cycle_min_lr) * scale_at(iteration);
    if (s_.decay_step_size == 0 || s_.decay_lr_rate == 0) return s_.cycle_min_lr;
    return s_.cycle_min_lr / (1.0 + s_.decay_lr_rate * decay_interval(iteration));
  }

 private:
  double total() const { return first_ + second_; }
  bool in_cycle(int64_t iteration) const { return static_cast<double>(iteration) < total(); }
  double decay_interval(int64_t iteration) const {
    return (static_cast<double>(iteration) - total() + 1.0) / static_cast<double>(s_.decay_step_size);
  }
  double beta1_at(int64_t iteration) const {
    if (iteration < 0) return s_.cycle_min_mom;
    if (in_cycle(iteration)) return s_.cycle_max_mom - (s_.cycle_max_mom - s_.cycle_min_mom) * scale_at(iteration);
    if (s_.decay_step_size == 0 || s_.decay_mom_rate == 0) return s_.cycle_max_mom;
    return s_.cycle_max_mom * (1.0 + s_.decay_mom_rate * decay_interval(iteration));
  }
  // Height in the cycle: 0 at its ends, 1 where its halves meet.
  double scale_at(int64_t iteration) const {
    const double position = static_cast<double>(iteration + 1);
    const double ratio = first_ / total();
    const double x = 1.0 + position / total() - std::floor(1.0 + position / total());
    const bool rising = x <= ratio;
    const auto stairs = static_cast<double>(rising ? s_.cycle_first_stair_count : s_.cycle_second_stair_count);
    if (stairs == 0) return rising ? x / ratio : (x - 1.0) / (ratio - 1.0);
    const double within = std::fmod(position, total());
    const double stair = within <= first_ ? within * stairs / first_ : (total() - within) * stairs / second_;
    return std::floor(stair) / stairs;
  }

  SchedulerConfig s_;
  bool cycles_betas_;
  double first_, second_;
};

class RangeTest : public Constant {
 public:
  RangeTest(const SchedulerConfig& scheduler, const OptimizerConfig& optimizer) : Constant(optimizer), s_(scheduler) {}

 protected:
  double lr_at(int64_t iteration) const override {
    if (iteration < 0) return s_.lr_range_test_min_lr;
    double interval = static_cast<double>(iteration + 1) / static_cast<double>(s_.lr_range_test_step_size);
    if (s_.lr_range_test_staircase) interval = std::floor(interval);
    return s_.lr_range_test_min_lr * (1.0 + s_.lr_range_test_step_rate * interval);
  }

 private:
  SchedulerConfig s_;
};

// Ours. Linear to the peak in `warmup_num_steps` updates, then half a cosine from the peak down to min_lr_ratio of it after
// `total_num_steps`, and the floor from there on.
class Cosine : public LrSchedule {
 public:
  Cosine(const SchedulerConfig& scheduler, const OptimizerConfig& optimizer)
      : optimizer_(optimizer),
        warmup_(scheduler.warmup_num_steps),
        total_(known_total(scheduler, "Cosine")),
        floor_(scheduler.min_lr_ratio) {}
  ScheduledValues at(int64_t k) const override {
    return {.lr = optimizer_.lr * ratio_at(k), .beta1 = optimizer_.beta1, .beta2 = optimizer_.beta2, .momentum = optimizer_.momentum};
  }

 private:
  double ratio_at(int64_t k) const {
    if (k < warmup_) return static_cast<double>(k + 1) / static_cast<double>(warmup_);
    if (k >= total_) return floor_;
    const double progress = static_cast<double>(k - warmup_) / static_cast<double>(total_ - warmup_);
    return floor_ + (1.0 - floor_) * 0.5 * (1.0 + std::cos(M_PI * progress));
  }

  OptimizerConfig optimizer_;
  int64_t warmup_, total_;
  double floor_;
};

}  // namespace

std::unique_ptr<LrSchedule> make_lr_schedule(const SchedulerConfig& scheduler, const OptimizerConfig& optimizer) {
  using Type = SchedulerConfig::Type;
  switch (scheduler.type) {
    case Type::None:
      return std::make_unique<Constant>(optimizer);
    case Type::WarmupLR:
      return std::make_unique<Warmup>(scheduler, optimizer);
    case Type::WarmupDecayLR:
      return std::make_unique<WarmupDecay>(scheduler, optimizer);
    case Type::WarmupCosineLR:
      return std::make_unique<WarmupCosine>(scheduler, optimizer);
    case Type::OneCycle:
      return std::make_unique<OneCycle>(scheduler, optimizer);
    case Type::LRRangeTest:
      return std::make_unique<RangeTest>(scheduler, optimizer);
    case Type::Cosine:
      return std::make_unique<Cosine>(scheduler, optimizer);
  }
  fail_protocol("[make_lr_schedule] unknown scheduler type {}", static_cast<int>(scheduler.type));
}

}  // namespace zerostep
