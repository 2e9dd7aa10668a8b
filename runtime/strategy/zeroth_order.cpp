#include "runtime/strategy/zeroth_order.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/nth.h"
#include "models/product.h"
#include "runtime/strategy/joined_batch.h"

namespace zerostep {
namespace {

// The shape of a step is the same on every machine, as its numbers and its plan are: both limits are of the arithmetic, not of a processor.
// A product of r rows reads each weight once for 2 r operations. Above 1,024 rows no processor waits for weights, so a larger product gains
// nothing; the last unit's outputs, which may be by far the largest tensors, are made for so many rows.
constexpr int64_t kRowsTogether = 1024;

// Above this many rows the GEMM hides the cost of perturbed copies, and tiling both signs would need more memory than the copies.
constexpr int64_t kTiledRows = 512;

// Calls use(parameter) for each trained parameter that the unit computes with.
template <typename Use>
void for_each_trained(const ModelLayout& layout, int unit, const Use& use) {
  for (int g : layout.used_by(unit)) {
    const FlatGroup& group = layout.group(g);
    if (!group.trainable) continue;
    for (int p : group.parameters) use(nth(layout.unit(group.unit).parameters, p));
  }
}

int64_t elements_of_a_branch(const ModelLayout& layout, int unit, int64_t rank) {
  int64_t elements = 0;
  for_each_trained(layout, unit, [&](const ParameterInfo& info) {
    elements += info.shape.size() == 2 ? rank * (info.shape[0] + info.shape[1]) : info.num_elements();
  });
  return elements;
}

// Of the largest product.
int64_t tile_bytes_of(const ModelLayout& layout, int unit, int64_t branches) {
  int64_t bytes = 0;
  for_each_trained(layout, unit, [&](const ParameterInfo& info) {
    if (info.shape.size() != 2) return;
    const int64_t in = info.shape[info.out_by_in ? 1 : 0], out = info.shape[info.out_by_in ? 0 : 1];
    bytes = std::max(bytes, tile_bytes(in, out, branches));
  });
  return bytes;
}

bool computes_in_fp32(const ModelLayout& layout) {
  return std::all_of(layout.groups.begin(), layout.groups.end(), [](const FlatGroup& g) { return g.compute_type == DType::F32; });
}

}  // namespace

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

ZerothOrder::ZerothOrder(const StepConfig& config, const Objective& objective, const ModelLayout& layout, const QueryShare& share,
                         bool makes_tiles)
    : config_(config),
      objective_(objective),
      num_units_(static_cast<int>(layout.units.size())),
      first_perturbed_(num_units_),
      tiled_(makes_tiles && !low_rank() && computes_in_fp32(layout) &&
             config.query_batch.micro_batch_size * config.query_sequence_length <= kTiledRows),
      share_(share) {
  for (int u = 0; u < num_units_; ++u) {
    bool any = false;
    for (int g : layout.used_by(u)) any |= layout.group(g).trainable;
    perturbed_.push_back(any);
    if (any) first_perturbed_ = std::min(first_perturbed_, u);
    elements_of_a_branch_.push_back(elements_of_a_branch(layout, u, low_rank() ? config.rank : 0));
    tile_bytes_.push_back(tiled_ ? tile_bytes_of(layout, u, both_signs() ? 2 : 1) : 0);
  }
  per_pass_ = config.queries_per_pass == 0 ? share.num_directions : std::min(config.queries_per_pass, share.num_directions);
}

int64_t ZerothOrder::passes() const { return (share_.num_directions + per_pass_ - 1) / per_pass_; }

std::vector<ProbeBranch> ZerothOrder::branches_of(int pass) const {
  std::vector<ProbeBranch> out;
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

bool ZerothOrder::joins(int unit) const { return unit >= first_perturbed_ && (low_rank() || !nth(perturbed_, unit)); }

int64_t ZerothOrder::branches_together(int unit, int64_t branches) const {
  if (!joins(unit)) return 1;
  if (unit + 1 < num_units_) return branches;
  const int64_t rows = config_.query_batch.micro_batch_size * config_.query_sequence_length;
  return std::clamp<int64_t>(kRowsTogether / std::max<int64_t>(1, rows), 1, branches);
}

std::vector<Visit> ZerothOrder::visits(int micro_batches) const { return visits(micro_batches, false); }

std::vector<Visit> ZerothOrder::instructed_visits(int micro_batches) const {
  std::vector<Visit> out = visits(micro_batches, true);
  for (Visit& visit : out) visit.reads_gradient = visit.weight_copies > 0;
  return out;
}

std::vector<Visit> ZerothOrder::visits(int micro_batches, bool copies) const {
  std::vector<Visit> out;
  const int signs = both_signs() ? 2 : 1;
  for (int pass = 0; pass < passes(); ++pass) {
    const int64_t begin = pass * per_pass_, directions = std::min(per_pass_, share_.num_directions - begin);
    const int batches = config_.independent_data ? static_cast<int>(directions) : 1;
    const std::vector<ProbeBranch> probes = branches_of(pass);
    const auto moved = std::count_if(probes.begin(), probes.end(), [](const ProbeBranch& b) { return b.weights != Weights::Plain; });
    for (int u = 0; u < num_units_; ++u) {
      const bool shared = u < first_perturbed_;
      if (shared && pass > 0 && !config_.independent_data) continue;
      Visit visit{u, VisitKind::ForwardOnly};
      visit.probes = true;
      visit.pass = pass;
      visit.branches = shared ? batches : static_cast<int>(probes.size());
      visit.micro_batches = micro_batches;
      visit.token_batches = batches * micro_batches;
      const bool perturbed = nth(perturbed_, u);
      visit.branches_together = perturbed && copies ? 1 : static_cast<int>(branches_together(u, visit.branches));
      visit.tiled = perturbed && tiled_ && !copies;
      if (visit.tiled) visit.branches_together = signs;
      if (visit.tiled) visit.tile_bytes = nth(tile_bytes_, u);
      if (perturbed && !copies && (low_rank() || tiled_))
        visit.perturbation_bytes = num_bytes(visit.branches_together * nth(elements_of_a_branch_, u), DType::F32);
      if (perturbed && (copies || (!low_rank() && !tiled_))) {
        visit.weight_copies = signs;
        visit.copied_branches = static_cast<int>(moved);
      }
      out.push_back(visit);
    }
  }
  return out;
}

void ZerothOrder::begin_step(double) { reset(); }

void ZerothOrder::reset() {
  pass_ = -1;
  batches_.clear();
  states_.reset();
}

void ZerothOrder::visit(const VisitContext& context) {
  const at::NoGradGuard no_grad;
  if (context.visit.pass != pass_) begin_pass(context);
  if (context.visit.unit < first_perturbed_) return run_shared(context);
  if (context.visit.tiled) {
    run_tiled(context);
  } else if (context.visit.reads_gradient || !joins(context.visit.unit)) {
    run_branches(context);
  } else {
    const size_t together = static_cast<size_t>(context.visit.branches_together);
    for (size_t b = 0; b < branches_.size(); b += together) run_joined(context, b, std::min(b + together, branches_.size()));
  }
  if (!context.last_unit) return;
  states_.end_branches();
  if (config_.independent_data) states_.drop_shared();
}

PassBatches ZerothOrder::read_batches(const Visit& visit, const QueryBatches& queries) const {
  if (!config_.independent_data && visit.pass > 0) return {};
  PassBatches out(config_.independent_data ? static_cast<size_t>(visit.token_batches / visit.micro_batches) : 1);
  int64_t direction = share_.first_direction + visit.pass * per_pass_;
  for (std::vector<Batch>& batches : out) {
    for (int m = 0; m < visit.micro_batches; ++m) batches.push_back(queries(direction, m));
    ++direction;
  }
  return out;
}

void ZerothOrder::begin_pass(const VisitContext& context) {
  pass_ = context.visit.pass;
  micro_batches_ = static_cast<size_t>(context.visit.micro_batches);
  branches_ = branches_of(pass_);
  if (!context.pass_batches.empty()) take_batches(context.pass_batches);
  std::vector<size_t> batch_of_branch;
  for (const ProbeBranch& branch : branches_)
    batch_of_branch.push_back(config_.independent_data ? static_cast<size_t>(branch.direction - share_.first_direction - pass_ * per_pass_)
                                                       : 0);
  states_.begin_branches(std::move(batch_of_branch));
}

void ZerothOrder::take_batches(const PassBatches& batches) {
  batches_ = batches;
  states_.begin_batches(batches_.size(), micro_batches_);
  // Directions that each have a batch of their own meet in one where a unit is the same, or nearly, for all of them.
  const bool meet = config_.perturbation == StepConfig::Perturbation::LowRank ||
                    std::find(perturbed_.begin(), perturbed_.end(), false) != perturbed_.end();
  for (size_t m = 0; meet && m < batches_[0].size(); ++m) {
    std::vector<Batch*> together;
    for (std::vector<Batch>& batch : batches_) together.push_back(&batch[m]);
    pad_together(together);
  }
}

void ZerothOrder::run_shared(const VisitContext& context) {
  for (size_t b = 0; b < batches_.size(); ++b)
    for (size_t m = 0; m < batches_[b].size(); ++m) {
      ForwardContext forward = context.forward;
      forward.batch = &batches_[b][m];
      states_.shared(b, m) = context.unit.forward(states_.shared(b, m), forward);
    }
}

void ZerothOrder::run_branches(const VisitContext& context) {
  int64_t made = -1;
  for (size_t b = 0; b < branches_.size(); ++b) {
    const ProbeBranch& branch = branches_[b];
    if (branch.weights == Weights::Plain && made >= 0) context.weights.use_plain();
    if (branch.weights != Weights::Plain) {
      if (made != branch.direction) context.weights.perturb(branch.direction, share_.plus, share_.minus && central());
      made = branch.direction;
      context.weights.use(branch.weights == Weights::Plus ? Sign::Plus : Sign::Minus);
    }
    run_branch(context, b);
  }
}

void ZerothOrder::run_tiled(const VisitContext& context) {
  for (size_t begin = 0, end = 0; begin < branches_.size(); begin = end) {
    const ProbeBranch& first = branches_[begin];
    end = begin + 1;
    if (first.weights == Weights::Plain) {
      run_branch(context, begin);
      continue;
    }
    if (both_signs()) ++end;
    const BranchPerturbation perturbation = context.weights.tiled(first.direction, share_.plus, share_.minus && central());
    for (size_t m = 0; m < micro_batches_; ++m) {
      const Batch& batch = batch_of(begin, m);
      ForwardContext forward = context.forward;
      forward.batch = &batch;
      TensorList out = context.unit.forward_branches(states_.take(begin, end, m), forward, perturbation);
      hand_on(context, begin, end, m, std::move(out));  // what came in is gone
    }
  }
}

void ZerothOrder::run_branch(const VisitContext& context, size_t branch) {
  for (size_t m = 0; m < micro_batches_; ++m) {
    const Batch& batch = batch_of(branch, m);
    ForwardContext forward = context.forward;
    forward.batch = &batch;
    TensorList out = context.unit.forward(states_.take(branch, branch + 1, m), forward);
    hand_on(context, branch, branch + 1, m, std::move(out));
  }
}

void ZerothOrder::run_joined(const VisitContext& context, size_t begin, size_t end) {
  BranchPerturbation perturbation;
  const bool perturbed = nth(perturbed_, context.visit.unit);
  if (perturbed) perturbation = context.weights.low_rank({branches_.data() + begin, end - begin});
  for (size_t m = 0; m < micro_batches_; ++m)
    hand_on(context, begin, end, m,
            forward_joined(context, states_.view(begin, end, m), begin, end, m, perturbed ? &perturbation : nullptr));
}

TensorList ZerothOrder::forward_joined(const VisitContext& context, const TensorList& inputs, size_t begin, size_t end, size_t micro_batch,
                                       BranchPerturbation* perturbation) {
  ForwardContext forward = context.forward;
  if (perturbation != nullptr && !config_.independent_data) {
    forward.batch = &batches_[0][micro_batch];
    return context.unit.forward_branches(inputs, forward, *perturbation);
  }
  std::vector<const Batch*> batches;
  for (size_t b = begin; b < end; ++b) batches.push_back(&batch_of(b, micro_batch));
  const Batch joined = joined_batch(batches);
  forward.batch = &joined;
  if (perturbation == nullptr) return context.unit.forward(inputs, forward);
  perturbation->own_batches = true;
  return context.unit.forward_branches(inputs, forward, *perturbation);
}

void ZerothOrder::hand_on(const VisitContext& context, size_t begin, size_t end, size_t micro_batch, TensorList out) {
  if (!context.last_unit) return states_.put(begin, end, micro_batch, std::move(out));
  for (size_t b = begin; b < end; ++b) {
    const Batch& batch = batch_of(b, micro_batch);
    record(context, branches_[b], objective_.value(batch, {samples_of_branches(out[0], b - begin, 1, end - begin)}), batch);
  }
}

void ZerothOrder::record(const VisitContext& context, const ProbeBranch& branch, const at::Tensor& sum, const Batch& batch) const {
  const bool forward = config_.estimator == StepConfig::Estimator::Forward;
  const at::Tensor sums = context.sums.view({-1, 3});  // plus, minus, tokens of each direction
  if (branch.weights != Weights::Plain) {
    const at::Tensor direction_sums = sums[branch.direction];
    direction_sums[branch.weights == Weights::Plus ? 0 : 1].add_(sum);
    // Where the signs are on different ranks, one of them counts.
    if (branch.weights == Weights::Plus) direction_sums[2].add_(static_cast<double>(objective_.count(batch)));
    return;
  }
  if (!forward) return;
  const int64_t begin = config_.independent_data ? branch.direction : share_.first_direction;
  sums.narrow(0, begin, config_.independent_data ? 1 : share_.num_directions).select(1, 1).add_(sum);
}

}  // namespace zerostep
