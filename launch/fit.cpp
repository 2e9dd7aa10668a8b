#include "launch/fit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "base/error.h"
#include "base/format.h"
#include "base/nth.h"
#include "launch/fit_fill.h"
#include "launch/fit_options.h"
#include "runtime/report/plan_warnings.h"

namespace zerostep {
namespace {

// Plans candidates one by one.
class Search {
 public:
  Search(const Subject& subject, const FitRequest& request, FitResult& result)
      : request_(request),
        result_(result),
        budget_(without_libraries(request.capacity)),
        planner_(subject, request, result),
        filler_(request, without_libraries(request.capacity, true), planner_, result),
        chooses_state_tier_(std::find(result.chosen.begin(), result.chosen.end(), std::string(kStateBlock) + ".device") !=
                            result.chosen.end()) {}

  void run() {
    const auto count = [&](FitDimension d) { return static_cast<int>(nth(result_.dimensions, d).size()); };
    std::array<int, kFitDimensions> at = {};
    int &placement = nth(at, FitDimension::Placement), &recomputation = nth(at, FitDimension::Recomputation);
    int &queries = nth(at, FitDimension::QueriesPerPass), &micro_batch = nth(at, FitDimension::MicroBatch);
    for (placement = 0; placement < count(FitDimension::Placement); ++placement)
      for (recomputation = 0; recomputation < count(FitDimension::Recomputation); ++recomputation)
        for (queries = 0; queries < count(FitDimension::QueriesPerPass); ++queries)
          for (micro_batch = 0; micro_batch < count(FitDimension::MicroBatch); ++micro_batch)
            if (!plan_residencies(at, 0)) break;  // nor do larger ones
    if (!result_.candidates.empty()) return;
    if (const std::string& reason = planner_.why_not(); !reason.empty())
      fail_input("{}: no combination with what {} gives can be planned; of the last that was tried: {}", request_.asked_by(),
                 request_.arguments.file, reason);
    fail_input("{}: what {} gives leaves nothing to try: {}", request_.asked_by(), request_.arguments.file,
               result_.why_no_files.empty() ? fmt::format("{}", fmt::join(result_.kept, ", ")) : result_.why_no_files);
  }

  // Fills memory that the candidates from `first` on leave.
  void fill(int first = 0) {
    if (request_.machine != nullptr) filler_.fill(first, planner_.num_planned());
  }
  // Makes the best of a candidate. Gives whether there is a better one now.
  bool polish(int index) {
    if (!polished_.insert(nth(result_.candidates, index).options).second) return false;
    return request_.machine != nullptr ? filler_.polish(index) : filler_.fill_one(index);
  }

  // Where nothing fits beside the share that is left to libraries: what would fit without it is judged with what they take on this machine.
  // Gives whether something fits then.
  bool confirm_nearest() {
    if (request_.meter == nullptr) return false;
    bool fits = false;
    for (FitCandidate& candidate : result_.candidates) {
      if (!is_within(candidate.needed, request_.capacity)) continue;
      const FitPlanner::Planned planned = planner_.plan(candidate).value();
      planner_.judge(planned, request_.capacity, request_.meter, candidate);
      if (candidate.fits()) planner_.predict(planned, candidate);
      fits |= candidate.fits();
    }
    return fits;
  }

  // Judges a candidate again, with what libraries take on this machine, and gives whether it still fits. Where it does not, the residencies
  // that keep less are planned, which there was no need for before.
  bool confirm(int index) {
    if (request_.meter == nullptr) return true;
    FitCandidate& candidate = nth(result_.candidates, index);
    planner_.judge(planner_.plan(candidate).value(), request_.capacity, request_.meter, candidate);
    if (candidate.fits()) return true;
    const FitCandidate refuted = candidate;  // it moves as others are added
    const int first = static_cast<int>(result_.candidates.size());
    if (refuted.filling == FitFilling()) plan_residencies(refuted.options, nth(refuted.options, FitDimension::Residency) + 1);
    fill(first);
    return false;
  }

 private:
  static TierBytes without_libraries(TierBytes capacity, bool of_host_too = false) {
    for (int64_t* bytes : {&capacity.device, of_host_too ? &capacity.host : nullptr})
      if (bytes != nullptr) *bytes -= static_cast<int64_t>(kShareOfLibraries * static_cast<double>(*bytes));
    return capacity;
  }

  static bool is_within(const TierBytes& needed, const TierBytes& capacity) {
    return needed.device <= capacity.device && needed.host <= capacity.host && needed.file <= capacity.file;
  }

  // Gives nullptr where the settings contradict the file, or the search would name a tier for no state. InputError where the machine has no
  // figure of what all plans use.
  const FitCandidate* plan(const std::array<int, kFitDimensions>& options) {
    FitCandidate candidate;
    candidate.options = options;
    const std::optional<FitPlanner::Planned> planned = planner_.plan(candidate);
    if (!planned || (chooses_state_tier_ && has_idle_state_tier(planned->config.zero, planned->training))) return nullptr;
    FitPlanner::identify(*planned, candidate);
    filler_.see(candidate, planned->training.layout);
    planner_.judge(*planned, budget_, nullptr, candidate);
    if (candidate.fits()) planner_.predict(*planned, candidate);
    result_.candidates.push_back(std::move(candidate));
    if (request_.progress) request_.progress(static_cast<int>(result_.candidates.size()));
    return &result_.candidates.back();
  }

  // Plans the residencies from `first` on up to one that fits: it is the fastest, what stays on the device is not brought there again.
  // Gives whether larger micro-batches are worth a try: one fits or may do so, or a contradiction that they may not have was met.
  bool plan_residencies(std::array<int, kFitDimensions> at, int first) {
    FitCandidate placed;
    placed.options = at;
    const bool gathers = has_effect(result_, placed, FitDimension::Residency);
    const auto last = gathers ? static_cast<int>(nth(result_.dimensions, FitDimension::Residency).size()) : 1;
    for (int& residency = nth(at, FitDimension::Residency) = first; residency < last; ++residency) {
      const FitCandidate* candidate = plan(at);
      if (candidate == nullptr || candidate->fits() || filler_.may_fit(*candidate)) return true;
    }
    return false;
  }

  const FitRequest& request_;
  FitResult& result_;
  const TierBytes budget_;  // of candidates that nothing was measured for
  FitPlanner planner_;
  FitFiller filler_;
  const bool chooses_state_tier_;
  std::set<std::array<int, kFitDimensions>> polished_;
};

// The simplest candidate of those that fit and are as fast as the fastest, but for one part in a hundred: predictions are no closer than
// that to what is measured. Of one choice of options the fastest. -1: none fits.
int best_of(const std::vector<FitCandidate>& candidates) {
  constexpr double kAsGood = 0.99;
  double most = 0;
  for (const FitCandidate& c : candidates)
    if (c.fits()) most = std::max(most, c.tokens_per_second);
  const auto is_before = [](const FitCandidate& a, const FitCandidate& b) {
    return a.options < b.options || (a.options == b.options && a.tokens_per_second > b.tokens_per_second);
  };
  int best = -1;
  for (int i = 0; i < static_cast<int>(candidates.size()); ++i) {
    const FitCandidate& c = nth(candidates, i);
    if (c.fits() && c.tokens_per_second >= kAsGood * most && (best < 0 || is_before(c, nth(candidates, best)))) best = i;
  }
  return best;
}

// The same where nothing is known of speed: the simplest that fits, of those the largest micro-batch, and what fills most. -1: none fits.
int best_by_memory(const std::vector<FitCandidate>& candidates) {
  const auto key = [](const FitCandidate& c) {
    std::array<int, kFitDimensions> out = c.options;
    nth(out, FitDimension::MicroBatch) *= -1;
    return std::tuple(out, c.filling.ratio, -c.filling.host_elements);
  };
  int best = -1;
  for (int i = 0; i < static_cast<int>(candidates.size()); ++i)
    if (const FitCandidate& c = nth(candidates, i); c.fits() && (best < 0 || key(c) < key(nth(candidates, best)))) best = i;
  return best;
}

// How far a candidate is from fitting, the nearer the less: by the number of tiers that are short, then by which they are, since memory of
// the device is harder to come by than the host's, and that harder than room in files, and then by the bytes.
std::tuple<int, bool, bool, int64_t> distance_of(const FitCandidate& c) {
  const bool device = c.lacks.device > 0, host = c.lacks.host > 0, file = c.lacks.file > 0;
  return {static_cast<int>(device) + static_cast<int>(host) + static_cast<int>(file), device, host, c.lacks.sum()};
}

// Whether a candidate is rather shown than another: it alone fits, is faster, or is nearer to fitting.
bool is_ahead(const FitCandidate& a, const FitCandidate& b) {
  if (a.fits() != b.fits()) return a.fits();
  return a.fits() ? a.tokens_per_second > b.tokens_per_second : distance_of(a) < distance_of(b);
}

}  // namespace

const FitOption& FitResult::option(const FitCandidate& candidate, FitDimension dimension) const {
  return nth(nth(dimensions, dimension), nth(candidate.options, dimension));
}

std::vector<FitSetting> FitResult::settings(const FitCandidate& candidate) const {
  std::vector<FitSetting> out;
  for (int d = 0; d < kFitDimensions; ++d) {
    const auto dimension = static_cast<FitDimension>(d);
    if (!has_effect(*this, candidate, dimension)) continue;
    const std::vector<FitSetting>& more = option(candidate, dimension).settings;
    out.insert(out.end(), more.begin(), more.end());
  }
  const std::vector<FitSetting> filling = settings_of_filling(candidate);
  out.insert(out.end(), filling.begin(), filling.end());
  return out;
}

std::vector<FitSetting> FitResult::settings_of_filling(const FitCandidate& candidate) {
  std::vector<FitSetting> out;
  const FitFilling& filling = candidate.filling;
  if (filling.ratio < 1) out.push_back({kRatio, filling.ratio});
  if (filling.host_elements > 0) out.push_back({kHostElements, filling.host_elements});
  if (filling.parameter_buffers > 0) out.push_back({kParameterBuffers, filling.parameter_buffers});
  if (filling.state_buffers > 0) out.push_back({kStateBuffers, filling.state_buffers});
  return out;
}

namespace {

// Of candidates with other residencies or fillings, planned one after the other: the fastest that fits, or the last.
bool is_shown_over(const FitCandidate& c, const FitCandidate& earlier) {
  if (!c.fits() || !earlier.fits()) return c.fits() || !earlier.fits();
  return c.tokens_per_second >= earlier.tokens_per_second;
}

}  // namespace

std::vector<const FitCandidate*> FitResult::placements() const {
  std::map<int, const FitCandidate*> found;
  for (const FitCandidate& c : candidates) {
    const FitCandidate*& kept = found[nth(c.options, FitDimension::Placement)];
    if (kept == nullptr || is_ahead(c, *kept)) kept = &c;
  }
  if (best >= 0) found[nth(nth(candidates, best).options, FitDimension::Placement)] = &nth(candidates, best);
  std::vector<const FitCandidate*> out;
  std::set<std::string> plans;
  if (best >= 0) plans.insert(nth(candidates, best).plan_hash);
  for (const auto& [placement, candidate] : found)
    if (plans.insert(candidate->plan_hash).second || (best >= 0 && candidate == &nth(candidates, best))) out.push_back(candidate);
  std::stable_sort(out.begin(), out.end(), [](const FitCandidate* a, const FitCandidate* b) { return is_ahead(*a, *b); });
  return out;
}

std::vector<const FitCandidate*> FitResult::neighbours(FitDimension dimension) const {
  const FitCandidate& winner = nth(candidates, best);
  std::map<int, const FitCandidate*> found;
  for (const FitCandidate& c : candidates) {
    bool same = true;
    for (int d = 0; d < kFitDimensions; ++d) {
      const auto which = static_cast<FitDimension>(d);
      if (which != dimension && which != FitDimension::Residency) same = same && nth(c.options, d) == nth(winner.options, d);
    }
    if (!same || nth(c.options, dimension) == nth(winner.options, dimension)) continue;
    const FitCandidate*& kept = found[nth(c.options, dimension)];
    if (kept == nullptr || is_shown_over(c, *kept)) kept = &c;
  }
  std::vector<const FitCandidate*> out;
  std::set<std::string> plans = {winner.plan_hash};
  for (const auto& [value, candidate] : found)
    if (plans.insert(candidate->plan_hash).second) out.push_back(candidate);
  return out;
}

bool has_effect(const FitResult& result, const FitCandidate& candidate, FitDimension dimension) {
  return dimension != FitDimension::Residency || stage_of(result.option(candidate, FitDimension::Placement)) == 3;
}

std::string filling_text(const FitFilling& filling) {
  std::string out;
  const auto add = [&](bool is_there, const std::string& text) {
    if (is_there) out += (out.empty() ? "" : ", ") + text;
  };
  add(filling.ratio < 1, fmt::format("{:.3g} % of the state offloaded", 100 * filling.ratio));
  add(filling.host_elements > 0,
      fmt::format("{} elements of the parameters in memory", human_count(static_cast<double>(filling.host_elements))));
  add(filling.parameter_buffers > 0, fmt::format("{} of parameters", counted(filling.parameter_buffers, "buffer")));
  add(filling.state_buffers > 0, fmt::format("{} of state", counted(filling.state_buffers, "buffer")));
  return out;
}

std::string lacking_text(const FitCandidate& candidate) {
  std::string out;
  const auto add = [&](const char* tier, int64_t needed, int64_t lacked) {
    if (lacked > 0)
      out += fmt::format("{}{} of {}, {} more than there is for it", out.empty() ? "needs " : "; ", human_bytes(needed), tier,
                         human_bytes(lacked));
  };
  add("device memory", candidate.needed.device, candidate.lacks.device);
  add("host memory", candidate.needed.host, candidate.lacks.host);
  add("room in files", candidate.needed.file, candidate.lacks.file);
  return out;
}

bool has_choice(const Subject& subject, const FitRequest& request) {
  FitResult result;
  find_options(subject, request, result);
  const FitFillable& fills = result.fillable;
  if (request.stage_is_free || fills.ratio || fills.host_elements || fills.parameter_buffers || fills.state_buffers) return true;
  return std::any_of(result.dimensions.begin(), result.dimensions.end(), [](const auto& options) { return options.size() > 1; });
}

FitResult find_fit(const Subject& subject, const FitRequest& request) {
  FitResult result;
  find_options(subject, request, result);
  result.capacity = request.capacity;
  Search search(subject, request, result);
  search.run();
  search.fill();
  for (;;) {
    result.best = request.machine != nullptr ? best_of(result.candidates) : best_by_memory(result.candidates);
    if (result.best < 0 && !search.confirm_nearest()) return result;
    if (result.best < 0) continue;
    if (!search.polish(result.best) && search.confirm(result.best)) return result;
  }
}

}  // namespace zerostep
