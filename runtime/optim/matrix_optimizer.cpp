#include "runtime/optim/matrix_optimizer.h"

#include "base/nth.h"
#include "base/trace.h"
#include "runtime/state/parameter_piece.h"

namespace zerostep {

MatrixOptimizer::MatrixOptimizer(const OptimizerConfig& config, const ModelLayout& layout, const Plan& plan, ShardedState& state,
                                 Communicator shard_group, Stream compute, Stream stream, Optimizer& optimizer, const FlatKernels& kernels,
                                 Trace* trace)
    : config_(config),
      layout_(layout),
      plan_(plan),
      state_(state),
      shard_group_(std::move(shard_group)),
      compute_(std::move(compute)),
      stream_(std::move(stream)),
      optimizer_(optimizer),
      kernels_(kernels),
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

void MatrixOptimizer::update(int round, const UpdateScalars& scalars, bool reads_gradient) {
  const MatrixAssignment::Round& now = nth(plan_.matrices.rounds, round);
  if (reads_gradient && !updates_whole(plan_.options)) gather_gradients(now);
  compute_.launch([this, &now, scalars, reads_gradient] {
    for (int index : now.parameters)
      if (parameter(index).owner == shard_group_.rank()) make_direction(index, scalars, reads_gradient);
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

void MatrixOptimizer::make_direction(int index, const UpdateScalars& scalars, bool reads_gradient) {
  const AssignedParameter& p = parameter(index);
  const Trace::Scope scope(trace_, "computation", trace_ == nullptr ? std::string() : "update " + info(p).name);
  float* direction = state_.matrix_work() + p.work_offset;
  const float* reduced = nullptr;
  if (reads_gradient)
    reduced = updates_whole(plan_.options) ? state_.gradients(p.group) + layout_.group(p.group).layout.offset(p.parameter) : direction;
  const bool muon = config_.type == OptimizerConfig::Type::Muon;
  const int first_array = scalars.state_set * Optimizer::matrix_state_values(config_);
  MatrixMoments moments;
  moments.gradient = reduced;
  if (scalars.gradient.kind == Gradient::Kind::Estimate) {
    Gradient estimate = scalars.gradient;
    estimate.reduced = reduced;
    kernels_.estimate(piece_of(info(p), 0, p.num_elements()), estimate, direction, compute_);
    moments.gradient = direction;
  }
  moments.first_moment = state_.matrix_array(first_array) + p.state_offset;
  if (!muon) moments.second_moment = state_.matrix_array(first_array + 1) + p.state_offset;
  moments.direction = direction;
  moments.count = p.num_elements();
  moments.gradient_scale = scalars.gradient_scale;
  moments.beta1 = muon ? config_.momentum : scalars.scheduled.beta1;
  moments.beta2 = scalars.scheduled.beta2;
  moments.eps = config_.eps;
  moments.nesterov = config_.nesterov;
  moments.cautious = config_.cautious;
  moments.rescales = !p.orthogonal;
  kernels_.matrix_direction(moments, compute_);
  if (p.orthogonal) kernels_.newton_schulz(direction, p.rows, p.columns, state_.matrix_scratch(), compute_);
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
    for (const auto& [group, piece, direction] : steps)
      optimizer_.update(group, piece.shard_offset, piece.shard_offset + piece.count, scalars, direction);
  });
}

void MatrixOptimizer::exchange(const std::vector<Transfer>& transfers, const char* label) {
  if (shard_group_.size() == 1) return;
  stream_.wait(compute_.record());
  compute_.wait(Trace::on_stream(trace_, stream_, "communication", label,
                                 [&] { return shard_group_.exchange(transfers, DType::F32, stream_, label); }));
}

}  // namespace zerostep
