#include "runtime/strategy/zeroth_order.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/error.h"

namespace zerostep {

QueryShare query_share(const StepConfig& config, int rank, int world) {
  const int groups = static_cast<int>(config.direction_parallel), ranks = world / groups, group = rank / ranks;
  QueryShare share;
  share.data_rank = rank % ranks;
  share.data_ranks = ranks;
  if (groups <= config.queries) {
    share.num_directions = config.queries / groups;
    share.first_direction = group * share.num_directions;
    return share;
  }
  share.first_direction = group / 2;
  share.plus = group % 2 == 0;
  share.minus = !share.plus;
  return share;
}

ZerothOrder::ZerothOrder(const StepConfig& config, const Objective& objective, const ModelLayout& layout, const QueryShare& share)
    : config_(config),
      objective_(objective),
      num_units_(static_cast<int>(layout.units.size())),
      first_perturbed_(num_units_),
      share_(share) {
  for (int u = 0; u < num_units_; ++u) {
    bool any = false;
    for (int g : layout.used_by(u)) any |= layout.groups[static_cast<size_t>(g)].trainable;
    perturbed_.push_back(any);
    if (any) first_perturbed_ = std::min(first_perturbed_, u);
  }
  per_pass_ = config.queries_per_pass == 0 ? share.num_directions : std::min(config.queries_per_pass, share.num_directions);
  sums_.resize(static_cast<size_t>(config.queries));
}

int64_t ZerothOrder::passes() const { return (share_.num_directions + per_pass_ - 1) / per_pass_; }

std::vector<ZerothOrder::Branch> ZerothOrder::branches_of(int pass) const {
  using Weights = Branch::Weights;
  std::vector<Branch> out;
  const int64_t begin = share_.first_direction + pass * per_pass_;
  const int64_t end = std::min(begin + per_pass_, share_.first_direction + share_.num_directions);
  const bool forward = config_.estimator == StepConfig::Estimator::Forward;
  // The unperturbed loss serves all directions of a step that share a batch.
  if (forward && !config_.independent_data && pass == 0) out.push_back({begin, Weights::Plain});
  for (int64_t d = begin; d < end; ++d) {
    if (forward && config_.independent_data) out.push_back({d, Weights::Plain});
    if (share_.plus) out.push_back({d, Weights::Plus});
    if (share_.minus && !forward) out.push_back({d, Weights::Minus});
  }
  return out;
}

std::vector<Visit> ZerothOrder::visits(int micro_batches) const {
  std::vector<Visit> out;
  const int copies = config_.estimator == StepConfig::Estimator::Central && share_.plus && share_.minus ? 2 : 1;
  for (int pass = 0; pass < passes(); ++pass) {
    const int64_t begin = pass * per_pass_, directions = std::min(per_pass_, share_.num_directions - begin);
    const int batches = config_.independent_data ? static_cast<int>(directions) : 1;
    for (int u = 0; u < num_units_; ++u) {
      const bool shared = u < first_perturbed_;
      if (shared && pass > 0 && !config_.independent_data) continue;
      Visit visit{u, VisitKind::ForwardOnly};
      visit.pass = pass;
      visit.branches = shared ? batches : static_cast<int>(branches_of(pass).size());
      visit.micro_batches = micro_batches;
      visit.token_batches = batches * micro_batches;
      visit.weight_copies = perturbed_[static_cast<size_t>(u)] ? copies : 0;
      out.push_back(visit);
    }
  }
  return out;
}

void ZerothOrder::begin_step(double) {
  reset();
  std::fill(sums_.begin(), sums_.end(), Sums{});
}

void ZerothOrder::reset() {
  pass_ = -1;
  batches_.clear();
  shared_.clear();
  hidden_.clear();
}

double ZerothOrder::loss_sum() const {
  double sum = 0;
  for (const Sums& s : sums_) sum += s.plus + s.minus;
  return sum;
}

size_t ZerothOrder::data_of(const Branch& branch) const {
  return config_.independent_data ? static_cast<size_t>(branch.direction - share_.first_direction - pass_ * per_pass_) : 0;
}

void ZerothOrder::visit(const VisitContext& context) {
  const at::NoGradGuard no_grad;
  if (context.visit.pass != pass_) begin_pass(context);
  if (context.visit.unit < first_perturbed_)
    run_shared(context);
  else
    run_branches(context);
}

void ZerothOrder::begin_pass(const VisitContext& context) {
  pass_ = context.visit.pass;
  micro_batches_ = context.visit.micro_batches;
  branches_ = branches_of(pass_);
  hidden_.assign(branches_.size(), std::vector<TensorList>(static_cast<size_t>(micro_batches_)));
  if (!config_.independent_data && !batches_.empty()) return;  // those of the first pass serve all
  const size_t count = config_.independent_data ? static_cast<size_t>(context.visit.token_batches / micro_batches_) : 1;
  batches_.assign(count, {});
  shared_.assign(count, std::vector<TensorList>(static_cast<size_t>(micro_batches_)));
  for (size_t b = 0; b < count; ++b)
    for (int64_t m = 0; m < micro_batches_; ++m)
      batches_[b].push_back(context.queries(share_.first_direction + pass_ * per_pass_ + static_cast<int64_t>(b), m));
}

void ZerothOrder::run_shared(const VisitContext& context) {
  context.weights.use_plain();
  for (size_t b = 0; b < batches_.size(); ++b)
    for (size_t m = 0; m < batches_[b].size(); ++m) {
      ForwardContext forward = context.forward;
      forward.batch = &batches_[b][m];
      shared_[b][m] = context.unit.forward(shared_[b][m], forward);
    }
}

void ZerothOrder::run_branches(const VisitContext& context) {
  using Weights = Branch::Weights;
  const bool perturbed = perturbed_[static_cast<size_t>(context.visit.unit)];
  if (!perturbed) context.weights.use_plain();
  int64_t made = -1;
  for (size_t b = 0; b < branches_.size(); ++b) {
    const Branch& branch = branches_[b];
    if (perturbed && branch.weights == Weights::Plain) context.weights.use_plain();
    if (perturbed && branch.weights != Weights::Plain) {
      if (made != branch.direction)
        context.weights.perturb(branch.direction, share_.plus, share_.minus && config_.estimator == StepConfig::Estimator::Central);
      made = branch.direction;
      context.weights.use(branch.weights == Weights::Plus ? Sign::Plus : Sign::Minus);
    }
    run_branch(context, b);
  }
  if (context.last_unit && config_.independent_data) shared_.clear();
}

void ZerothOrder::run_branch(const VisitContext& context, size_t branch) {
  const size_t data = data_of(branches_[branch]);
  for (size_t m = 0; m < static_cast<size_t>(micro_batches_); ++m) {
    const Batch& batch = batches_[data][m];
    ForwardContext forward = context.forward;
    forward.batch = &batch;
    TensorList& hidden = hidden_[branch][m];
    const TensorList& in = context.visit.unit == first_perturbed_ ? shared_[data][m] : hidden;
    TensorList out = context.unit.forward(in, forward);
    if (!context.last_unit) {
      hidden = std::move(out);
      continue;
    }
    hidden.clear();
    record(branches_[branch], objective_.value(batch, out), batch);
  }
}

void ZerothOrder::record(const Branch& branch, double sum, const Batch& batch) {
  const bool forward = config_.estimator == StepConfig::Estimator::Forward;
  const double tokens = static_cast<double>(objective_.count(batch));
  if (branch.weights != Branch::Weights::Plain) {
    Sums& s = sums_[static_cast<size_t>(branch.direction)];
    (branch.weights == Branch::Weights::Plus ? s.plus : s.minus) += sum;
    // Where the signs are on different ranks, one of them counts.
    if (branch.weights == Branch::Weights::Plus) s.tokens += tokens;
    return;
  }
  const int64_t begin = config_.independent_data ? branch.direction : share_.first_direction;
  const int64_t end = config_.independent_data ? begin + 1 : share_.first_direction + share_.num_directions;
  for (int64_t d = begin; forward && d < end; ++d) sums_[static_cast<size_t>(d)].minus += sum;
}

}  // namespace zerostep
