#include "runtime/optim/optimizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "offload/host_optimizer.h"
#include "runtime/plan/name_pattern.h"

namespace zerostep {
namespace {

constexpr int64_t kGrainElements = int64_t{1} << 16;  // a thread's least work

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, const ModelLayout& layout, ShardedState& state)
    : config_(config), layout_(layout), state_(state) {
  const auto check = [&](const std::vector<std::string>& patterns, const char* key) {
    for (const std::string& pattern : patterns) {
      bool used = false;
      for (const UnitInfo& unit : layout.units)
        for (const ParameterInfo& p : unit.parameters) used |= matches_pattern(p.name, pattern);
      if (!used) fail_input("{}: the pattern \"{}\" matches no parameter (`zerostep inspect model FILE` lists the names)", key, pattern);
    }
  };
  check(config.no_decay, "optimizer.params.no_decay");
  for (const auto& group : config.groups) check(group.patterns, "optimizer.groups");
  for (const FlatGroup& g : layout.groups) {
    auto& out = hyperparameters_.emplace_back();
    for (int p : g.parameters) {
      const std::string& name = layout.units[static_cast<size_t>(g.unit)].parameters[static_cast<size_t>(p)].name;
      double factor = 1, decay = matches_any(name, config.no_decay) ? 0.0 : config.weight_decay;
      for (const auto& group : config.groups)
        if (matches_any(name, group.patterns)) {
          factor = group.lr_factor;
          decay = group.weight_decay.value_or(decay);
          break;
        }
      out.push_back({static_cast<float>(factor), static_cast<float>(decay)});
    }
  }
}

int Optimizer::state_values(const OptimizerConfig& config) {
  switch (config.type) {
    case OptimizerConfig::Type::Adam:
    case OptimizerConfig::Type::AdamW:
      return 2;
    case OptimizerConfig::Type::Lion:
      return 1;
    case OptimizerConfig::Type::SGD:
      return config.momentum != 0 ? 1 : 0;
  }
  fail_protocol("[optimizer] unknown type");
}

void Optimizer::update(int group, int64_t begin, int64_t end, const UpdateScalars& scalars) {
  const FlatGroup& g = layout_.groups[static_cast<size_t>(group)];
  const ShardedState::Group& state = state_.group(group);
  const int64_t part = state.update_whole ? g.full_elements() : g.shard_elements();
  const double step = static_cast<double>(scalars.applied_steps + 1);
  const ScheduledValues& now = scalars.scheduled;
  const double correction1 = config_.bias_correction ? 1 - std::pow(now.beta1, step) : 1.0;
  const double correction2 = config_.bias_correction ? 1 - std::pow(now.beta2, step) : 1.0;

  for (const ShardedState::Piece& piece : state_.pieces(group)) {
    const int64_t from = std::max(begin, piece.part_offset), to = std::min(end, piece.part_offset + piece.count);
    if (from >= to) continue;
    const Hyperparameters& h = hyperparameters_[static_cast<size_t>(group)][static_cast<size_t>(piece.parameter)];
    const double lr = now.lr * h.lr_factor;
    at::parallel_for(from, to, kGrainElements, [&](int64_t first, int64_t last) {
      const int64_t skip = first - piece.part_offset;
      void* compute = state_.compute_at(group, piece);
      OptimizerSlice slice{.master = state_.master_at(group, piece) + skip,
                           .gradient = state_.gradient_at(group, piece) + skip,
                           .compute = compute == nullptr ? nullptr : static_cast<std::byte*>(compute) + num_bytes(skip, g.type),
                           .compute_type = g.type,
                           .count = last - first,
                           .gradient_scale = scalars.gradient_scale,
                           .lr = static_cast<float>(lr),
                           .weight_decay = h.weight_decay};
      float* first_state = state.optimizer_state == nullptr ? nullptr : state.optimizer_state + first;
      switch (config_.type) {
        case OptimizerConfig::Type::Adam:
        case OptimizerConfig::Type::AdamW:
          adam_step(slice, first_state, first_state + part,
                    {.beta1 = now.beta1,
                     .beta2 = now.beta2,
                     .eps = config_.eps,
                     .step_size = lr / correction1,
                     .inv_sqrt_bias_correction2 = 1 / std::sqrt(correction2),
                     .decoupled = config_.type == OptimizerConfig::Type::AdamW || config_.adam_w_mode});
          break;
        case OptimizerConfig::Type::SGD:
          sgd_step(slice, first_state,
                   {.momentum = now.momentum,
                    .dampening = config_.dampening,
                    .nesterov = config_.nesterov,
                    .first_step = scalars.applied_steps == 0});
          break;
        case OptimizerConfig::Type::Lion:
          lion_step(slice, first_state, {.beta1 = now.beta1, .beta2 = now.beta2});
          break;
      }
    });
  }
}

}  // namespace zerostep
