#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace zerostep {

// Notices when clipping leaves little of the first steps of a kind.
class ClipWatch {
 public:
  static constexpr int64_t kSteps = 20;
  static constexpr double kLittle = 0.1;
  // The range of norms and scales of the first steps.
  struct Cut {
    double smallest_norm, largest_norm, smallest_scale, largest_scale;
  };
  // An applied step: its norm before clipping and the factor that clipping gave it. Returns a value once: after the last of the first
  // kSteps, where each of them was cut below kLittle.
  std::optional<Cut> add(double norm, double scale);

 private:
  int64_t steps_ = 0;
  Cut cut_{};
};

// follows_gradient: the steps follow gradients of backprop, else estimates.
std::string clip_warning(const ClipWatch::Cut& cut, double clipping, bool follows_gradient);

}  // namespace zerostep
