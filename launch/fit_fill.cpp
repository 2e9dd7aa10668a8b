#include "launch/fit_fill.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/nth.h"
#include "launch/fit_options.h"

namespace zerostep {
namespace {

// Predictions that are closer to each other are the same: a part that gains less only fills memory.
constexpr double kFaster = 1.001;

const auto kParameterBuffersByDefault = static_cast<int>(PlanOptions().parameter_buffers),
           kStateBuffersByDefault = static_cast<int>(PlanOptions().state_buffers);

// The first index in [first, last] where excess(index) <= 0, which is so at the last, known as `at_last`. The excess falls with the index,
// and nearly linearly with `position`, which rises with it, by `slope` where that is known: each probe is where a straight line says that
// the excess ends.
template <typename Excess, typename Position>
int first_that_fits(int first, int last, double at_last, double slope, const Excess& excess, const Position& position) {
  constexpr int kByLine = 5;  // a line that misleads so often is given up for halves
  int bad = first - 1, good = last;
  double good_excess = at_last;
  for (int probes = 0; good - bad > 1; ++probes) {
    // What is left holds no further group.
    if (slope > 0 && slope * (position(good) - position(good - 1)) > -good_excess) return good;
    int middle = bad + (good - bad) / 2;
    if (probes == 0 && slope <= 0) middle = first;
    if (probes < kByLine && slope > 0) {
      const double at = position(good) + good_excess / slope;
      for (middle = good - 1; middle - 1 > bad && position(middle - 1) >= at;) --middle;
    }
    const double here = excess(middle);
    const double along = position(good) - position(middle);
    if (along > 0 && here > good_excess) slope = (here - good_excess) / along;
    if (here <= 0) {
      good = middle;
      good_excess = here;
    } else {
      bad = middle;
    }
  }
  return good;
}

// The number with the fewest digits in (above, most].
double shortest_in(double above, double most) {
  for (double scale = 10; scale < 1e9; scale *= 10)
    if (const double out = std::floor(most * scale) / scale; out > above) return out;
  return most;
}

}  // namespace

bool FitFiller::fills_state(const FitCandidate& candidate) const {
  return result_.fillable.ratio && tier_of(result_.option(candidate, FitDimension::Placement), kStateBlock) != "none";
}

bool FitFiller::fills_parameters(const FitCandidate& candidate) const {
  return result_.fillable.host_elements && tier_of(result_.option(candidate, FitDimension::Placement), kParameterBlock) == "nvme";
}

void FitFiller::see(const FitCandidate& candidate, const ModelLayout& layout) {
  if (!fills_state(candidate) && !fills_parameters(candidate)) return;
  Cuts& cuts = cuts_[candidate.options];
  cuts = {{0}, {0}, 0};
  double trained = 0, before = 0, bytes = 0;
  for (const FlatGroup& g : layout.groups) trained += g.trainable ? static_cast<double>(g.full_elements()) : 0;
  for (const FlatGroup& g : layout.groups) {
    // A group's state is offloaded where the share before it is below the ratio.
    if (g.trainable) {
      const double share = before / trained;
      before += static_cast<double>(g.full_elements());
      cuts.ratios.push_back(before >= trained ? 1 : shortest_in(share, before / trained));
    }
    if (g.tier == Tier::Device) continue;
    cuts.elements.push_back(cuts.elements.back() + g.shard_elements());
    bytes += static_cast<double>(g.shard_elements()) * static_cast<double>(size_of(g.type));
  }
  if (cuts.elements.back() > 0) cuts.element_bytes = bytes / static_cast<double>(cuts.elements.back());
}

bool FitFiller::plan(FitCandidate& candidate) {
  planned_ = planner_.plan(candidate);
  if (planned_) planner_.judge(*planned_, capacity_, nullptr, candidate);
  return planned_.has_value();
}

void FitFiller::predict(FitCandidate& candidate) const {
  if (!planned_ || !candidate.fits()) return;
  FitPlanner::identify(*planned_, candidate);
  planner_.predict(*planned_, candidate);
}

int FitFiller::fewest_offloaded(FitCandidate candidate) {
  const std::vector<double>& ratios = cuts_.at(candidate.options).ratios;
  const auto excess = [&] { return static_cast<double>(candidate.needed.device - capacity_.device); };
  candidate.filling.ratio = 1;
  return first_that_fits(
      1, static_cast<int>(ratios.size()) - 1, excess(), 0,
      [&](int offloaded) {
        candidate.filling.ratio = nth(ratios, offloaded);
        if (!plan(candidate)) fail_protocol("[fit] a ratio cannot be planned: {}", planner_.why_not());
        return excess();
      },
      [&](int offloaded) { return nth(ratios, offloaded); });
}

FitCandidate FitFiller::with_parameters(FitCandidate candidate) {
  candidate.filling.host_elements = 0;
  if (!plan(candidate)) {
    candidate.lacks.device = INT64_MAX;
    return candidate;
  }
  const auto excess = [&] {
    return static_cast<double>(request_.includes_host ? candidate.needed.device - capacity_.device
                                                      : candidate.needed.host - capacity_.host);
  };
  if (fills_parameters(candidate) && excess() <= 0) {
    const Cuts& cuts = cuts_.at(candidate.options);
    const int all = static_cast<int>(cuts.elements.size()) - 1;
    const auto elements = [&](int in_files) { return nth(cuts.elements, all - in_files); };
    const auto probe = [&](int in_files) {
      candidate.filling.host_elements = elements(in_files);
      if (!plan(candidate)) fail_protocol("[fit] parameters in memory cannot be planned: {}", planner_.why_not());
      return excess();
    };
    const int in_files = first_that_fits(0, all, excess(), cuts.element_bytes, probe,
                                         [&](int number) { return static_cast<double>(cuts.elements.back() - elements(number)); });
    if (candidate.filling.host_elements != elements(in_files)) probe(in_files);
  }
  predict(candidate);
  return candidate;
}

FitCandidate FitFiller::with_ratio(FitCandidate candidate, int offloaded) {
  candidate.filling.ratio = nth(cuts_.at(candidate.options).ratios, offloaded);
  return with_parameters(std::move(candidate));
}

std::optional<FitCandidate> FitFiller::filled(const FitCandidate& base) {
  std::vector<FitCandidate> found;
  if (fills_state(base)) {
    const int fewest = fewest_offloaded(base), all = static_cast<int>(cuts_.at(base.options).ratios.size()) - 1;
    if (fewest < all) found.push_back(with_ratio(base, fewest));
  }
  if (fills_parameters(base)) found.push_back(with_parameters(base));
  std::optional<FitCandidate> out;
  for (FitCandidate& candidate : found)
    if (candidate.fits() && (!out || candidate.tokens_per_second > kFaster * out->tokens_per_second)) out = std::move(candidate);
  return out;
}

bool FitFiller::may_fit(const FitCandidate& candidate) const {
  // What leaves the host takes as many bytes on the device at least.
  return candidate.lacks.device == 0 && candidate.lacks.sum() > 0 && fills_state(candidate) &&
         std::max(candidate.lacks.host, candidate.lacks.file) <= capacity_.device - candidate.needed.device;
}

// Tokens a second with everything on the device, whatever it holds, and every unit kept there: parts that rest elsewhere add transfers.
double FitFiller::reachable(const FitCandidate& candidate) {
  const std::vector<FitOption>& placements = nth(result_.dimensions, FitDimension::Placement);
  const int64_t stage = stage_of(result_.option(candidate, FitDimension::Placement));
  FitCandidate on_device;
  on_device.options = candidate.options;
  nth(on_device.options, FitDimension::Residency) = 0;
  for (int p = 0; p < static_cast<int>(placements.size()); ++p) {
    const FitOption& option = nth(placements, p);
    if (stage_of(option) != stage || tier_of(option, kParameterBlock) != "none" || tier_of(option, kStateBlock) != "none") continue;
    nth(on_device.options, FitDimension::Placement) = p;
    const auto [at, is_new] = reachable_.try_emplace(on_device.options, INFINITY);
    if (!is_new) return at->second;
    if (const auto planned = planner_.plan(on_device)) {
      planner_.predict(*planned, on_device);
      at->second = on_device.tokens_per_second;
    }
    return at->second;
  }
  return INFINITY;  // the file places something elsewhere
}

bool FitFiller::add(const std::optional<FitCandidate>& candidate, const FitCandidate& than) {
  if (!candidate || !candidate->fits()) return false;
  const bool is_faster = request_.machine == nullptr || candidate->tokens_per_second > kFaster * than.tokens_per_second;
  if (than.fits() && !is_faster) return false;
  result_.candidates.push_back(*candidate);
  if (request_.progress) request_.progress(static_cast<int>(result_.candidates.size()));
  return true;
}

void FitFiller::fill(int first, int plans) {
  std::vector<FitCandidate> bases;
  double most = 0;
  for (const FitCandidate& c : result_.candidates) most = std::max(most, c.fits() ? c.tokens_per_second : 0);
  for (int i = first; i < static_cast<int>(result_.candidates.size()); ++i)
    if (const FitCandidate& c = nth(result_.candidates, i);
        (fills_state(c) || fills_parameters(c)) && c.filling == FitFilling() && (c.fits() || may_fit(c)))
      bases.push_back(c);
  std::stable_sort(bases.begin(), bases.end(),
                   [](const FitCandidate& a, const FitCandidate& b) { return a.tokens_per_second > b.tokens_per_second; });
  const int end = planner_.num_planned() + plans;
  for (const FitCandidate& base : bases) {
    if (planner_.num_planned() >= end) return;
    if (reachable(base) <= kFaster * most) continue;
    if (add(filled(base), base)) most = std::max(most, result_.candidates.back().tokens_per_second);
  }
}

bool FitFiller::polish(int best) {
  FitCandidate top = nth(result_.candidates, best);
  const auto before = result_.candidates.size();
  const FitOption& placement = result_.option(top, FitDimension::Placement);
  const auto better = [&](const std::optional<FitCandidate>& candidate) {
    if (!add(candidate, top)) return false;
    top = *candidate;
    return true;
  };
  const auto unfilled = [&] {
    FitCandidate out = top;
    out.filling = {};
    plan(out);
    return out;
  };
  // What fewer gathered units leave of the device, state may take.
  if (fills_state(top) && has_effect(result_, top, FitDimension::Residency)) {
    FitCandidate lower = unfilled();
    const int last = static_cast<int>(nth(result_.dimensions, FitDimension::Residency).size());
    for (int& residency = nth(lower.options, FitDimension::Residency); ++residency < last;) {
      const int64_t needed = lower.needed.device;
      if (!plan(lower)) break;
      see(lower, planned_->training.layout);
      constexpr double kWorthwhile = 0.01;  // of the device's memory
      if (lower.lacks.device == 0 &&
          static_cast<double>(needed - lower.needed.device) > kWorthwhile * static_cast<double>(capacity_.device))
        better(filled(lower));
    }
  }
  // The host's updates run beside the device's work, so that the best part is not always the largest.
  if (fills_state(top)) {
    const std::vector<double>& ratios = cuts_.at(top.options).ratios;
    const int low = fewest_offloaded(unfilled()), high = static_cast<int>(ratios.size()) - 1;
    int middle = low;
    while (middle < high && nth(ratios, middle) < top.filling.ratio) ++middle;
    for (int step = (high - low) / 4; step > 0; step /= 2)
      for (const int next : {middle - step, middle + step})
        if (next > low && next < high && better(with_ratio(top, next))) {
          middle = next;
          break;
        }
  }
  const auto try_buffers = [&](bool is_free, int FitFilling::*count, int otherwise) {
    if (!is_free) return;
    FitCandidate other = top;
    for (const int buffers : {2, 3, 5, 8}) {
      if (buffers == otherwise) continue;
      other.filling.*count = buffers;
      better(with_parameters(other));
    }
  };
  if (tier_of(placement, kParameterBlock) == "nvme")
    try_buffers(result_.fillable.parameter_buffers, &FitFilling::parameter_buffers, kParameterBuffersByDefault);
  if (tier_of(placement, kStateBlock) == "nvme")
    try_buffers(result_.fillable.state_buffers, &FitFilling::state_buffers, kStateBuffersByDefault);
  return result_.candidates.size() > before;
}

}  // namespace zerostep
