#include "runtime/optim/matrix_optimizer.h"

#include "base/nth.h"
#include "runtime/state/parameter_piece.h"

namespace zerostep {

MatrixOptimizer::MatrixOptimizer(const OptimizerConfig& config, ShardedState& state, Optimizer& optimizer, Lanes& lanes)
    : config_(config), layout_(state.layout()), plan_(state.plan()), state_(state), optimizer_(optimizer), lanes_(lanes) {
  for (const AssignedParameter& p : plan_.matrices.parameters) shares_.push_back(shares_of(p));
}

const ParameterInfo& MatrixOptimizer::info(const AssignedParameter& p) const {
  const FlatGroup& g = layout_.group(p.group);
  return layout_.parameter(g, p.parameter);
}

std::vector<MatrixOptimizer::Share> MatrixOptimizer::shares_of(const AssignedParameter& p) const {
  const FlatLayout& layout = layout_.group(p.group).layout;
  std::vector<Share> out;
  for (int rank = 0; rank < lanes_.group.size(); ++rank) {
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

Event MatrixOptimizer::exchange(const Action& action) {
  const bool gathers = action.kind == ActionKind::GatherMatrices;
  const char* label = gathers ? "gradients of matrices" : "updates of matrices";
  const std::vector<Transfer> transfers = gathers ? gradients_to_owners(action) : updates_to_holders(action);
  return lanes_.communicate(label, [&] { return lanes_.group.exchange(transfers, DType::F32, lanes_.communication, label); });
}

std::vector<Transfer> MatrixOptimizer::gradients_to_owners(const Action& action) const {
  const int me = lanes_.group.rank();
  std::vector<Transfer> transfers;
  for (const int index : plan_.matrices.parameters_in(action.round)) {
    const AssignedParameter& p = parameter(index);
    float* whole = state_.matrix_work() + p.work_offset;
    for (const Share& share : nth(shares_, index)) {
      const float* part = share.rank != me ? nullptr
                                           : state_.gradients(p.group) +
                                                 (state_.has_whole_gradients() ? share.piece.full_offset : share.piece.shard_offset);
      transfers.push_back({share.rank, p.owner, part, p.owner == me ? whole + share.piece.parameter_offset : nullptr, share.piece.count});
    }
  }
  return transfers;
}

void MatrixOptimizer::update(const Action& action, const UpdateScalars& scalars) {
  const int me = lanes_.group.rank();
  if (action.kind == ActionKind::MakeMatrixUpdates) {
    for (const int index : plan_.matrices.parameters_in(action.round))
      if (parameter(index).owner == me) make_update(index, scalars, action.reads_gradient);
    return;
  }
  const auto step = [&](const PieceUpdate& piece, const OptimizerFormula& formula) {
    lanes_.kernels.update(piece, formula, lanes_.compute);
  };
  for_each_share(action, [&](const AssignedParameter& p, const Share& share, const float* made, const float* arrived) {
    const int64_t begin = share.piece.shard_offset;
    if (share.rank == me) optimizer_.update({p.group, begin, begin + share.piece.count}, scalars, step, p.owner == me ? made : arrived);
  });
}

void MatrixOptimizer::make_update(int index, const UpdateScalars& scalars, bool reads_gradient) {
  const AssignedParameter& p = parameter(index);
  const auto scope = lanes_.traced(Lane::Compute, lanes_.trace == nullptr ? std::string() : "update " + info(p).name);
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
    lanes_.kernels.estimate(piece_of(info(p), 0, p.num_elements()), estimate, direction, lanes_.compute);
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
  lanes_.kernels.matrix_direction(moments, lanes_.compute);
  if (p.orthogonal) lanes_.kernels.newton_schulz(direction, p.rows, p.columns, state_.matrix_scratch(), lanes_.compute);
}

template <typename Use>
void MatrixOptimizer::for_each_share(const Action& wave, const Use& use) const {
  std::vector<int64_t> arrived(static_cast<size_t>(lanes_.group.size()), 0);
  for (const int index : plan_.matrices.parameters_in(wave.round, wave.wave)) {
    const AssignedParameter& p = parameter(index);
    for (const Share& share : nth(shares_, index)) {
      const bool travels = share.rank != p.owner;
      use(p, share, state_.matrix_work() + p.work_offset + share.piece.parameter_offset,
          travels ? state_.matrix_results() + nth(arrived, share.rank) : nullptr);
      if (travels) nth(arrived, share.rank) += share.piece.count;
    }
  }
}

std::vector<Transfer> MatrixOptimizer::updates_to_holders(const Action& action) const {
  const int me = lanes_.group.rank();
  std::vector<Transfer> transfers;
  for_each_share(action, [&](const AssignedParameter& p, const Share& share, const float* made, float* arrives) {
    if (share.rank != p.owner)
      transfers.push_back({p.owner, share.rank, p.owner == me ? made : nullptr, share.rank == me ? arrives : nullptr, share.piece.count});
  });
  return transfers;
}

}  // namespace zerostep
