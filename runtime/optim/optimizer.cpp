#include "runtime/optim/optimizer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/nth.h"
#include "runtime/plan/name_pattern.h"
#include "runtime/state/parameter_piece.h"

namespace zerostep {

Optimizer::Optimizer(const OptimizerConfig& config, ShardedState& state, uint64_t seed)
    : config_(config), seed_(seed), layout_(state.layout()), state_(state) {
  for (const FlatGroup& g : layout_.groups) {
    auto& out = hyperparameters_.emplace_back();
    for (int p : g.parameters) {
      const ParameterInfo& info = nth(layout_.unit(g.unit).parameters, p);
      const std::string& name = info.name;
      double factor = 1, decay = matches_any(name, config.no_decay) ? 0.0 : config.weight_decay;
      for (const auto& group : config.groups)
        if (matches_any(name, group.patterns)) {
          factor = group.lr_factor;
          decay = group.weight_decay.value_or(decay);
          break;
        }
      factor *= layout_.options.is_orthogonal(info) ? config.muon_lr_factor : config.adam_lr_factor;
      out.push_back({static_cast<float>(factor), static_cast<float>(decay)});
    }
  }
}

int Optimizer::state_values(const OptimizerConfig& config) {
  switch (config.type) {
    case OptimizerConfig::Type::Adam:
    case OptimizerConfig::Type::AdamW:
    case OptimizerConfig::Type::Muon:
    case OptimizerConfig::Type::MuDaMW:
      return 2;
    case OptimizerConfig::Type::Lion:
      return 1;
    case OptimizerConfig::Type::SGD:
      return config.momentum != 0 ? 1 : 0;
  }
  fail_protocol("[optimizer] unknown type");
}

int Optimizer::matrix_state_values(const OptimizerConfig& config) {
  if (!config.orthogonal()) return 0;
  return config.type == OptimizerConfig::Type::Muon ? 1 : 2;
}

void Optimizer::update(const Part& part, const UpdateScalars& scalars, const Kernel& kernel, const float* direction) {
  const auto& [group, begin, end, slot] = part;
  const FlatGroup& g = layout_.group(group);
  const int arrays = g.assigned ? 0 : state_values(config_);
  for (const ShardedState::Piece& piece : state_.pieces(group)) {
    const int64_t from = std::max(begin, piece.part_offset), to = std::min(end, piece.part_offset + piece.count);
    if (from >= to) continue;
    const int64_t skip = from - piece.part_offset;
    const ParameterInfo& parameter = layout_.parameter(g, piece.parameter);
    const Hyperparameters& hyperparameters = nth(nth(hyperparameters_, group), piece.parameter);
    const double lr = scalars.scheduled.lr * hyperparameters.lr_factor;
    PieceUpdate update;
    update.piece = piece_of(parameter, piece.parameter_offset + skip, to - from);
    update.type = g.type;
    std::byte* const values =
        (slot < 0 ? state_.parameters(group, piece) : state_.parameters_in_slot(group, piece, slot)) + num_bytes(skip, g.type);
    if (g.type != DType::F32) update.parameters = values;
    if (state_.has_masters(group))
      update.masters = state_.masters(group, piece) + skip;
    else if (g.type == DType::F32)
      update.masters = reinterpret_cast<float*>(values);
    for (int k = 0; k < arrays; ++k) nth(update.states, k) = state_.optimizer_array(group, piece, scalars.state_set * arrays + k) + skip;
    update.lr = static_cast<float>(lr);
    update.weight_decay = hyperparameters.weight_decay;
    update.rounding = {seed_, NoiseTag::Rounding, static_cast<uint64_t>(scalars.step), 0};
    if (direction != nullptr) {
      update.gradient.reduced = direction + (from - begin);
      update.gradient_scale = static_cast<float>(direction_scale(parameter, scalars));
      kernel(update, SgdParameters{.momentum = 0, .dampening = 0, .nesterov = false, .first_step = false});
      continue;
    }
    update.gradient = scalars.gradient;
    update.gradient.reduced = state_.has_gradients(group) ? state_.gradients(group, piece) + skip : nullptr;
    update.gradient_scale = scalars.gradient_scale;
    kernel(update, formula(lr, scalars));
  }
}

// From the direction of a whole parameter to the step at a learning rate of 1.
double Optimizer::direction_scale(const ParameterInfo& parameter, const UpdateScalars& scalars) const {
  const bool orthogonal = layout_.options.is_orthogonal(parameter);
  double scale = 1;
  if (orthogonal) {
    // What a matrix does, not how it is stored: from so many inputs to so many outputs.
    const bool out_by_in = parameter.out_by_in;
    const double out = static_cast<double>(parameter.shape[out_by_in ? 0 : 1]),
                 in = static_cast<double>(parameter.shape[out_by_in ? 1 : 0]);
    const bool aspect = config_.type == OptimizerConfig::Type::Muon && !config_.match_rms_adamw;
    scale = aspect ? std::sqrt(std::max(1.0, out / in)) : 0.2 * std::sqrt(std::max(out, in));
  }
  if (config_.type != OptimizerConfig::Type::MuDaMW || (orthogonal && !config_.bias_correction)) return scale;
  const double step = static_cast<double>(scalars.applied_steps + 1);
  return scale * std::sqrt(1 - std::pow(scalars.scheduled.beta2, step)) / (1 - std::pow(scalars.scheduled.beta1, step));
}

OptimizerFormula Optimizer::formula(double lr, const UpdateScalars& scalars) const {
  const ScheduledValues& now = scalars.scheduled;
  const double step = static_cast<double>(scalars.applied_steps + 1);
  const double correction1 = config_.bias_correction ? 1 - std::pow(now.beta1, step) : 1.0;
  const double correction2 = config_.bias_correction ? 1 - std::pow(now.beta2, step) : 1.0;
  switch (config_.type) {
    case OptimizerConfig::Type::MuDaMW:
      // Its epsilon stands beside the uncorrected root; vectors are always corrected.
      return AdamParameters{.beta1 = now.beta1,
                            .beta2 = now.beta2,
                            .eps = config_.eps,
                            .step_size = lr * std::sqrt(1 - std::pow(now.beta2, step)) / (1 - std::pow(now.beta1, step)),
                            .inv_sqrt_bias_correction2 = 1,
                            .decoupled = true};
    case OptimizerConfig::Type::Adam:
    case OptimizerConfig::Type::AdamW:
    case OptimizerConfig::Type::Muon:
      return AdamParameters{.beta1 = now.beta1,
                            .beta2 = now.beta2,
                            .eps = config_.eps,
                            .step_size = lr / correction1,
                            .inv_sqrt_bias_correction2 = 1 / std::sqrt(correction2),
                            .decoupled = config_.type != OptimizerConfig::Type::Adam || config_.adam_w_mode};
    case OptimizerConfig::Type::SGD:
      return SgdParameters{
          .momentum = now.momentum, .dampening = config_.dampening, .nesterov = config_.nesterov, .first_step = scalars.applied_steps == 0};
    case OptimizerConfig::Type::Lion:
      return LionParameters{.beta1 = now.beta1, .beta2 = now.beta2};
  }
  fail_protocol("[optimizer] unknown type");
}

}  // namespace zerostep
