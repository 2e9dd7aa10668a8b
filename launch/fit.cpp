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
#include "launch/fit_options.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/engine/prediction.h"
#include "runtime/engine/training_cost.h"
#include "runtime/plan/plan_hash.h"

namespace zerostep {
namespace {

// What `needed` goes beyond `capacity`.
TierBytes beyond(const TierBytes& needed, const TierBytes& capacity) {
  return {std::max<int64_t>(0, needed.device - capacity.device), std::max<int64_t>(0, needed.host - capacity.host),
          std::max<int64_t>(0, needed.file - capacity.file)};
}

// Plans candidates one by one.
class Search {
 public:
  Search(const Subject& subject, const FitRequest& request, FitResult& result)
      : subject_(subject), request_(request), result_(result), budget_(request.capacity) {
    budget_.device -= static_cast<int64_t>(kShareOfLibraries * static_cast<double>(budget_.device));
  }

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
    if (!reason_.empty())
      fail_input("--fit: no combination with what {} gives can be planned; of the last that was tried: {}", request_.arguments.file,
                 reason_);
    fail_input("--fit: what {} gives leaves nothing to try: {}", request_.arguments.file,
               result_.why_no_files.empty() ? fmt::format("{}", fmt::join(result_.kept, ", ")) : result_.why_no_files);
  }

  // Judges a candidate again, with what libraries take on this machine, and gives whether it still fits. Where it does not, the residencies
  // that keep less are planned, which there was no need for before.
  bool confirm(int index) {
    if (request_.meter == nullptr) return true;
    FitCandidate& candidate = nth(result_.candidates, index);
    const Config config = with_micro_batches(config_of(candidate), kPlannedMicroBatches);
    judge(config, plan_of(config), request_.capacity, request_.meter, candidate);
    if (candidate.fits()) return true;
    const std::array<int, kFitDimensions> options = candidate.options;  // the candidate moves as others are added
    plan_residencies(options, nth(options, FitDimension::Residency) + 1);
    return false;
  }

 private:
  Config config_of(const FitCandidate& candidate) const {
    ConfigRequest asked{request_.arguments.file, request_.arguments.set, request_.world, {}};
    for (const FitSetting& setting : result_.settings(candidate)) asked.set.push_back({setting.text(), kFromFit});
    Config out = load_config(asked).config;
    out.run.device = subject_.config().run.device;
    return out;
  }

  // A step with fewer micro-batches: those beyond a few are like the ones before, take no more memory and each as long.
  static Config with_micro_batches(Config config, int64_t most) {
    BatchConfig& batch = config.batch;
    if (config.step.uses_queries() || batch.accumulation_steps <= most) return config;
    batch.train_batch_size = batch.train_batch_size / batch.accumulation_steps * most;
    batch.accumulation_steps = most;
    return config;
  }
  static constexpr int64_t kPlannedMicroBatches = 8;

  TrainingPlan plan_of(const Config& config) const { return plan_training(config, *subject_.model, *subject_.objective, request_.world); }

  // Gives nullptr where the settings contradict the file. InputError where the machine has no figure of what all plans use.
  const FitCandidate* plan(const std::array<int, kFitDimensions>& options) {
    FitCandidate candidate;
    candidate.options = options;
    std::optional<Config> config;
    std::optional<TrainingPlan> training;
    try {
      config.emplace(config_of(candidate));
      const Config planned = with_micro_batches(*config, kPlannedMicroBatches);
      training.emplace(plan_of(planned));
      for (const NamedPlan& named : training->plans()) candidate.plan_hash += plan_hash(*named.plan);
      candidate.plan_hash += fmt::format(" of {} micro-batches of {}", config->batch.accumulation_steps, config->batch.micro_batch_size);
      judge(planned, *training, budget_, nullptr, candidate);
    } catch (const InputError& error) {
      reason_ = error.what();
      return nullptr;
    }
    if (candidate.fits()) predict(*config, *training, candidate);
    result_.candidates.push_back(std::move(candidate));
    if (request_.progress) request_.progress(static_cast<int>(result_.candidates.size()));
    return &result_.candidates.back();
  }

  // Plans the residencies from `first` on up to one that fits: it is the fastest, what stays on the device is not brought there again.
  // Gives whether larger micro-batches are worth a try: one fits, or a contradiction that they may not have was met.
  bool plan_residencies(std::array<int, kFitDimensions> at, int first) {
    FitCandidate placed;
    placed.options = at;
    const bool gathers = has_effect(result_, placed, FitDimension::Residency);
    const auto last = gathers ? static_cast<int>(nth(result_.dimensions, FitDimension::Residency).size()) : 1;
    for (int& residency = nth(at, FitDimension::Residency) = first; residency < last; ++residency) {
      const FitCandidate* candidate = plan(at);
      if (candidate == nullptr || candidate->fits()) return true;
    }
    return false;
  }

  void judge(const Config& config, const TrainingPlan& training, const TierBytes& capacity, WorkspaceMeter* meter,
             FitCandidate& candidate) const {
    const PlanCost cost = training_cost(config, training, *subject_.model, *subject_.objective, meter);
    const int64_t host = cost.host_peak_bytes + staging_bytes(config, training, meter != nullptr);
    const bool shared = request_.includes_host;
    candidate.needed = {cost.device_needed_bytes() + (shared ? host : 0), shared ? 0 : host, cost.file_peak_bytes};
    candidate.lacks = beyond(candidate.needed, capacity);
  }

  // `training`: of config with no more than kPlannedMicroBatches.
  void predict(const Config& config, const TrainingPlan& training, FitCandidate& candidate) const {
    const auto predicted = [&](int64_t most, const TrainingPlan& plan) {
      return predict_training(with_micro_batches(config, most), plan, *subject_.model, *subject_.objective, request_.machine);
    };
    const Prediction prediction = predicted(kPlannedMicroBatches, training);
    candidate.step_seconds = prediction.step_seconds;
    candidate.tokens_per_second = prediction.tokens_per_second;
    candidate.bound_by = name_of(prediction.bound_by);
    const int64_t all = config.batch.accumulation_steps;
    if (config.step.uses_queries() || all <= kPlannedMicroBatches) return;
    constexpr int64_t kHalf = kPlannedMicroBatches / 2;
    const Prediction half = predicted(kHalf, plan_of(with_micro_batches(config, kHalf)));
    candidate.step_seconds +=
        static_cast<double>(all - kPlannedMicroBatches) * (prediction.step_seconds - half.step_seconds) / static_cast<double>(kHalf);
    candidate.tokens_per_second *= prediction.step_seconds / candidate.step_seconds * static_cast<double>(all) / kPlannedMicroBatches;
  }

  const Subject& subject_;
  const FitRequest& request_;
  FitResult& result_;
  TierBytes budget_;    // of candidates that nothing was measured for
  std::string reason_;  // why the last combination could not be planned
};

// The simplest candidate of those that fit and are as fast as the fastest, but for one part in a hundred: predictions are no closer than
// that to what is measured. -1: none fits.
int best_of(const std::vector<FitCandidate>& candidates) {
  constexpr double kAsGood = 0.99;
  double most = 0;
  for (const FitCandidate& c : candidates)
    if (c.fits()) most = std::max(most, c.tokens_per_second);
  int best = -1;
  for (int i = 0; i < static_cast<int>(candidates.size()); ++i) {
    const FitCandidate& c = nth(candidates, i);
    if (c.fits() && c.tokens_per_second >= kAsGood * most && (best < 0 || c.options < nth(candidates, best).options)) best = i;
  }
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
  return out;
}

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
    if (kept == nullptr || c.fits() || !kept->fits()) kept = &c;
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

FitResult find_fit(const Subject& subject, const FitRequest& request) {
  FitResult result;
  find_options(subject, request, result);
  result.capacity = request.capacity;
  Search search(subject, request, result);
  search.run();
  for (;;) {
    result.best = best_of(result.candidates);
    if (result.best < 0 || search.confirm(result.best)) return result;
  }
}

}  // namespace zerostep
