#include "runtime/engine/unit_weights.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "base/error.h"
#include "base/nth.h"
#include "base/poison.h"
#include "runtime/engine/low_rank_branches.h"

namespace zerostep {
namespace {

// A matrix perturbed along one direction, both signs or one of them.
class TiledMatrix final : public PerturbedMatrix {
 public:
  TiledMatrix(const Directions& directions, int64_t step, int64_t direction, const ParameterInfo& info, const float* values, bool plus,
              bool minus)
      : directions_(directions), step_(step), direction_(direction), info_(info), values_(values), plus_(plus), minus_(minus) {}
  void write(const Part& part, float* const* out) const override {
    PerturbedTile tile;
    tile.stride = info_.shape[1];
    tile.base = values_ + part.row * tile.stride + part.column;
    tile.rows = part.rows;
    tile.columns = part.columns;
    if (plus_) tile.plus = out[0];
    if (minus_) tile.minus = out[plus_ ? 1 : 0];
    directions_.perturb_tile(step_, direction_, info_, part.row, part.column, tile);
  }

 private:
  const Directions& directions_;
  int64_t step_, direction_;
  const ParameterInfo& info_;
  const float* values_;
  bool plus_, minus_;
};

}  // namespace

UnitWeights::UnitWeights(const ShardedState& state, UnitStreamer& streamer, const Directions& directions)
    : layout_(state.layout()), state_(state), streamer_(streamer), directions_(directions) {}

void UnitWeights::enter(const Visit& visit, const Action& action, int64_t step) {
  step_ = step;
  unit_ = visit.unit;
  groups_ = layout_.used_by(unit_);
  values_.assign(groups_.size(), nullptr);
  for (size_t i = 0; i < action.parameters.size(); ++i) {
    const auto& [group, slot] = action.parameters[i];
    values_[i] = slot < 0 ? state_.parameters(group) : state_.parameter_slot(group, slot);
  }
  offsets_.clear();
  copy_bytes_ = zerostep::copy_bytes(layout_, unit_, &offsets_);
  if (visit.weight_copies * copy_bytes_ > state_.plan().copies_bytes)
    fail_protocol("[weights] {} copies of unit {} were not planned", visit.weight_copies, unit_);
  if (reads_parameters(layout_, visit)) use_plain();
}

void UnitWeights::leave() {
  gradients_.clear();
  values_.clear();
  for (int g : groups_) streamer_.bind(g, nullptr);
}

void UnitWeights::poison(int group, int slot) const {
  if constexpr (kPoisonsReleasedSlots)
    fill_with_nan(state_.parameter_slot(group, slot), layout_.group(group).type, layout_.group(group).full_elements());
}

void UnitWeights::use_plain() {
  for (size_t i = 0; i < groups_.size(); ++i) {
    const FlatGroup& g = layout_.group(groups_[i]);
    if (g.type == g.compute_type) {
      streamer_.bind(g.id, values_[i]);
      continue;
    }
    std::byte* target = state_.weight_copies() + offsets_[i];
    directions_.kernels().cast(values_[i], g.type, target, g.compute_type, g.full_elements(), directions_.stream());
    streamer_.bind(g.id, target);
  }
}

void UnitWeights::perturb(int64_t direction, bool plus, bool minus) {
  minus_second_ = plus && minus;
  std::vector<Directions::Perturbed> perturbed;
  for (size_t i = 0; i < groups_.size(); ++i) {
    const FlatGroup& g = layout_.group(groups_[i]);
    if (!g.trainable) continue;
    const std::byte* base = values_[i];
    std::byte* copy = state_.weight_copies() + offsets_[i];
    for (size_t p = 0; p < g.parameters.size(); ++p) {
      const int64_t offset = g.layout.offset(static_cast<int>(p));
      std::byte* target = copy + num_bytes(offset, g.compute_type);
      PerturbedPiece piece;
      piece.base = base + num_bytes(offset, g.type);
      piece.base_type = g.type;
      piece.plus = plus ? target : nullptr;
      piece.minus = minus ? target + (plus ? copy_bytes_ : 0) : nullptr;
      piece.target_type = g.compute_type;
      perturbed.push_back({&layout_.parameter(g, static_cast<int>(p)), piece, gradients_.empty() ? nullptr : gradients_[i] + offset});
    }
  }
  directions_.perturb(step_, direction, perturbed);
}

void UnitWeights::use(Sign sign) {
  std::byte* copy = state_.weight_copies() + (sign == Sign::Minus && minus_second_ ? copy_bytes_ : 0);
  for (size_t i = 0; i < groups_.size(); ++i)
    if (layout_.group(groups_[i]).trainable) streamer_.bind(groups_[i], copy + offsets_[i]);
}

template <typename Use>
void UnitWeights::for_each_parameter(const Use& use) const {
  const auto visit = [&](int unit, int parameter) {
    const ModelLayout::Place place = layout_.place(unit, parameter);
    const FlatGroup& g = layout_.group(place.group);
    const std::byte* group = nth(values_, std::find(groups_.begin(), groups_.end(), g.id) - groups_.begin());
    const float* values = g.type == DType::F32 ? reinterpret_cast<const float*>(group) + g.layout.offset(place.index) : nullptr;
    use(nth(layout_.unit(unit).parameters, parameter), values, g.trainable);
  };
  const UnitInfo& unit = layout_.unit(unit_);
  for (size_t p = 0; p < unit.parameters.size(); ++p) visit(unit_, static_cast<int>(p));
  for (const BorrowedParameter& b : unit.borrowed) visit(b.unit, b.parameter);
}

BranchPerturbation UnitWeights::low_rank(std::span<const ProbeBranch> branches) {
  BranchPerturbation out;
  out.branches = static_cast<int64_t>(branches.size());
  std::vector<BranchedParameter> trained;
  for_each_parameter([&](const ParameterInfo& info, const float* values, bool is_trained) {
    out.parameters.emplace_back();
    if (!is_trained) return;
    const bool factors = directions_.low_rank(info);
    if (!factors && values == nullptr) fail_protocol("[weights] {} does not rest in fp32", info.name);
    out.parameters.back() = empty_branches(directions_, info, out.branches);
    trained.push_back({&info, factors ? nullptr : values, out.parameters.back()});
  });
  fill_branches(directions_, step_, branches, trained);
  return out;
}

BranchPerturbation UnitWeights::tiled(int64_t direction, bool plus, bool minus) {
  BranchPerturbation out;
  out.branches = (plus ? 1 : 0) + (minus ? 1 : 0);
  std::vector<Directions::Perturbed> vectors;
  for_each_parameter([&](const ParameterInfo& info, const float* values, bool is_trained) {
    out.parameters.emplace_back();
    if (!is_trained) return;
    if (values == nullptr) fail_protocol("[weights] {} does not rest in fp32", info.name);
    if (info.shape.size() == 2) {
      out.parameters.back().tiled = std::make_shared<TiledMatrix>(directions_, step_, direction, info, values, plus, minus);
      return;
    }
    out.parameters.back().values =
        at::empty({out.branches, info.num_elements()}, streamer_.parameter(unit_, 0).options().dtype(at::kFloat).requires_grad(false));
    PerturbedPiece piece;
    piece.base = values;
    float* target = out.parameters.back().values.data_ptr<float>();
    piece.plus = plus ? target : nullptr;
    piece.minus = minus ? target + (plus ? info.num_elements() : 0) : nullptr;
    vectors.push_back({&info, piece});
  });
  directions_.perturb(step_, direction, vectors);
  return out;
}

}  // namespace zerostep
