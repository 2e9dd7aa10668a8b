#include "runtime/report/clip_watch.h"

#include <fmt/format.h>

#include <algorithm>

namespace zerostep {

std::optional<ClipWatch::Cut> ClipWatch::add(double norm, double scale) {
  if (steps_ >= kSteps) return std::nullopt;
  if (steps_ == 0) cut_ = {norm, norm, scale, scale};
  cut_ = {std::min(cut_.smallest_norm, norm), std::max(cut_.largest_norm, norm), std::min(cut_.smallest_scale, scale),
          std::max(cut_.largest_scale, scale)};
  if (++steps_ < kSteps || cut_.largest_scale >= kLittle) return std::nullopt;
  return cut_;
}

std::string clip_warning(const ClipWatch::Cut& cut, double clipping, bool follows_gradient) {
  return fmt::format(
      "gradient_clipping {} cut the first {} {} to between {:.2g} and {:.2g} of themselves (norms {:.3g} to {:.3g}){}. A larger "
      "gradient_clipping, or 0, leaves them as they are",
      clipping, ClipWatch::kSteps, follows_gradient ? "gradients" : "estimates", cut.smallest_scale, cut.largest_scale, cut.smallest_norm,
      cut.largest_norm, follows_gradient ? "" : ": an estimate is about sqrt(parameters) times as long as a gradient");
}

}  // namespace zerostep
