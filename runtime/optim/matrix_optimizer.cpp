#include "runtime/optim/matrix_optimizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/nth.h"
#include "base/trace.h"
#include "offload/newton_schulz.h"

namespace zerostep {
namespace {

constexpr int64_t kMatrixGrainElements = int64_t{1} << 15;
constexpr int64_t kGradientBlockElements = int64_t{1} << 12;
constexpr double kLeastShare = 1e-3;  // of entries that a cautious update keeps, as its rescaling sees it

// Part of a direction that lies in memory, as what the optimizer steps along.
class FoundDirection final : public GradientSource {
 public:
  FoundDirection(const float* values, int64_t first) : values_(values), first_(first) {}
  void prepare(const ParameterInfo&) override {}
  void read(int64_t begin, int64_t count, const float*, float* out) const override { std::copy_n(values_ + (begin - first_), count, out); }

 private:
  const float* values_;
  int64_t first_;  // element of the parameter that `values` begins with
};

}  // namespace

MatrixOptimizer::MatrixOptimizer(const OptimizerConfig& config, const ModelLayout& layout, const Plan& plan, ShardedState& state,
                                 Communicator shard_group, Stream compute, Stream stream, Optimizer& optimizer, Trace* trace)
    : config_(config),
      layout_(layout),
      plan_(plan),
      state_(state),
      shard_group_(std::move(shard_group)),
      compute_(std::move(compute)),
      stream_(std::move(stream)),
      optimizer_(optimizer),
      trace_(trace) {
  for (const AssignedParameter& p : plan_.matrices.parameters) shares_.push_back(shares_of(p));
}

const ParameterInfo& MatrixOptimizer::info(const AssignedParameter& p) const {
  const FlatGroup& g = layout_.group(p.group);
  return layout_.parameter(g, p.parameter);
}

std::vector<MatrixOptimizer::Share> MatrixOptimizer::shares_of(const AssignedParameter& p) const {
  const FlatLayout& layout = layout_.group(p.group).layout;
  std::vector<Share> out;
  for (int rank = 0; rank < shard_group_.size(); ++rank) {
    if (updates_whole(plan_.options)) {
      const int64_t at = layout.offset(p.parameter);
      out.push_back({rank, {p.parameter, 0, at, at, p.num_elements()}});
      continue;
    }
    for (const FlatLayout::Piece& piece : layout.pieces(rank))
      if (piece.parameter == p.parameter) out.push_back({rank, piece});
  }
  return out;
}

void MatrixOptimizer::update(int round, const UpdateScalars& scalars, GradientSource* source, bool reads_gradient) {
  const MatrixAssignment::Round& now = nth(plan_.matrices.rounds, round);
  if (reads_gradient && !updates_whole(plan_.options)) gather_gradients(now);
  compute_.launch([this, &now, scalars, source, reads_gradient] {
    for (int index : now.parameters)
      if (parameter(index).owner == shard_group_.rank()) make_direction(index, scalars, source, reads_gradient);
  });
  for (const std::vector<int>& wave : now.waves) hand_out(wave, scalars);
}

void MatrixOptimizer::gather_gradients(const MatrixAssignment::Round& round) {
  const int me = shard_group_.rank();
  std::vector<Transfer> transfers;
  for (int index : round.parameters) {
    const AssignedParameter& p = parameter(index);
    float* whole = state_.matrix_work() + p.work_offset;
    for (const Share& share : nth(shares_, index)) {
      const float* part = share.rank != me ? nullptr
                                           : state_.gradients(p.group) +
                                                 (state_.has_whole_gradients() ? share.piece.full_offset : share.piece.shard_offset);
      transfers.push_back({share.rank, p.owner, part, p.owner == me ? whole + share.piece.parameter_offset : nullptr, share.piece.count});
    }
  }
  exchange(transfers, "gradients of matrices");
}

void MatrixOptimizer::make_direction(int index, const UpdateScalars& scalars, GradientSource* source, bool reads_gradient) {
  const AssignedParameter& p = parameter(index);
  const Trace::Scope scope(trace_, "computation", trace_ == nullptr ? std::string() : "update " + info(p).name);
  float* direction = state_.matrix_work() + p.work_offset;
  const float* reduced = nullptr;
  if (reads_gradient)
    reduced = updates_whole(plan_.options) ? state_.gradients(p.group) + layout_.group(p.group).layout.offset(p.parameter) : direction;
  const int64_t kept = advance_moments(p, scalars, reduced, source);
  if (p.orthogonal) return newton_schulz(direction, p.rows, p.columns, state_.matrix_scratch());
  if (!config_.cautious) return;
  // The larger the share left out, the longer the step along the rest.
  const float factor = static_cast<float>(1 / std::max(kLeastShare, static_cast<double>(kept) / static_cast<double>(p.num_elements())));
  at::parallel_for(0, p.num_elements(), kMatrixGrainElements, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) direction[i] *= factor;
  });
}

// Momentum (and second moment) of an owned parameter, and the direction before it is made orthogonal. Returns the entries that a cautious
// update keeps.
int64_t MatrixOptimizer::advance_moments(const AssignedParameter& p, const UpdateScalars& scalars, const float* reduced,
                                         GradientSource* source) {
  const bool muon = config_.type == OptimizerConfig::Type::Muon;
  float* direction = state_.matrix_work() + p.work_offset;
  const int first_array = scalars.state_set * Optimizer::matrix_state_values(config_);
  float* m = state_.matrix_array(first_array) + p.state_offset;
  float* v = muon ? nullptr : state_.matrix_array(first_array + 1) + p.state_offset;
  const ScheduledValues& now = scalars.scheduled;
  const double decay1 = muon ? config_.momentum : now.beta1;
  const float b1 = static_cast<float>(decay1), c1 = static_cast<float>(1 - decay1);
  const float b2 = static_cast<float>(now.beta2), c2 = static_cast<float>(1 - now.beta2), eps = static_cast<float>(config_.eps);
  std::atomic<int64_t> kept = 0;
  if (source != nullptr) source->prepare(info(p));
  at::parallel_for(0, p.num_elements(), kMatrixGrainElements, [&](int64_t first, int64_t last) {
    std::vector<float> block(static_cast<size_t>(std::min(kGradientBlockElements, last - first)));
    int64_t kept_here = 0;
    for (int64_t at = first; at < last; at += kGradientBlockElements) {
      const int64_t count = std::min(kGradientBlockElements, last - at);
      if (source != nullptr)
        source->read(at, count, reduced == nullptr ? nullptr : reduced + at, block.data());
      else
        std::copy_n(reduced + at, count, block.data());
      float* const u = direction + at;
      float* const first_moment = m + at;
      for (int64_t i = 0; i < count; ++i) nth(block, i) *= scalars.gradient_scale;
      const float* const g = block.data();
      for (int64_t i = 0; i < count; ++i) first_moment[i] = b1 * first_moment[i] + c1 * g[i];
      if (muon) {
        for (int64_t i = 0; i < count; ++i) u[i] = config_.nesterov ? c1 * g[i] + b1 * first_moment[i] : first_moment[i];
        continue;
      }
      float* const second_moment = v + at;
      for (int64_t i = 0; i < count; ++i) {
        second_moment[i] = b2 * second_moment[i] + c2 * (g[i] * g[i]);
        u[i] = first_moment[i] / (std::sqrt(second_moment[i]) + eps);
      }
      if (!config_.cautious) continue;
      for (int64_t i = 0; i < count; ++i) {
        const bool keep = first_moment[i] * g[i] > 0;
        kept_here += keep ? 1 : 0;
        u[i] = keep ? u[i] : 0.0f;
      }
    }
    kept += kept_here;
  });
  return kept;
}

void MatrixOptimizer::hand_out(const std::vector<int>& wave, const UpdateScalars& scalars) {
  const int me = shard_group_.rank();
  std::vector<Transfer> transfers;
  struct Step {
    int group;
    FlatLayout::Piece piece;
    const float* direction;
  };
  std::vector<Step> steps;
  std::vector<int64_t> arrived(static_cast<size_t>(shard_group_.size()), 0);
  for (int index : wave) {
    const AssignedParameter& p = parameter(index);
    const float* made = state_.matrix_work() + p.work_offset;
    for (const Share& share : nth(shares_, index)) {
      const FlatLayout::Piece& piece = share.piece;
      const float* direction = made + piece.parameter_offset;
      if (share.rank != p.owner) {
        float* target = state_.matrix_results() + nth(arrived, share.rank);
        nth(arrived, share.rank) += piece.count;
        transfers.push_back({p.owner, share.rank, p.owner == me ? direction : nullptr, share.rank == me ? target : nullptr, piece.count});
        direction = target;
      }
      if (share.rank == me) steps.push_back({p.group, piece, direction});
    }
  }
  exchange(transfers, "updates of matrices");
  compute_.launch([this, steps = std::move(steps), scalars] {
    for (const Step& step : steps) {
      FoundDirection direction(step.direction, step.piece.parameter_offset);
      optimizer_.update(step.group, step.piece.shard_offset, step.piece.shard_offset + step.piece.count, scalars, &direction);
    }
  });
}

void MatrixOptimizer::exchange(const std::vector<Transfer>& transfers, const char* label) {
  if (shard_group_.size() == 1) return;
  stream_.wait(compute_.record());
  compute_.wait(Trace::on_stream(trace_, stream_, "communication", label,
                                 [&] { return shard_group_.exchange(transfers, DType::F32, stream_, label); }));
}

}  // namespace zerostep
