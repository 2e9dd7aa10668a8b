#include "runtime/optim/optimizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/nth.h"
#include "offload/host_perturb.h"
#include "runtime/plan/name_pattern.h"

namespace zerostep {
namespace {

constexpr int64_t kGrainElements = int64_t{1} << 16;  // a thread's least work
constexpr int64_t kBlockElements = int64_t{1} << 12;  // of estimates and of 16-bit weights in fp32

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, const ModelLayout& layout, ShardedState& state, uint64_t seed)
    : config_(config), seed_(seed), layout_(layout), state_(state) {
  for (const FlatGroup& g : layout.groups) {
    auto& out = hyperparameters_.emplace_back();
    for (int p : g.parameters) {
      const ParameterInfo& info = nth(layout.unit(g.unit).parameters, p);
      const std::string& name = info.name;
      double factor = 1, decay = matches_any(name, config.no_decay) ? 0.0 : config.weight_decay;
      for (const auto& group : config.groups)
        if (matches_any(name, group.patterns)) {
          factor = group.lr_factor;
          decay = group.weight_decay.value_or(decay);
          break;
        }
      factor *= layout.options.is_orthogonal(info) ? config.muon_lr_factor : config.adam_lr_factor;
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

// A piece, and where what its update reads and changes lies, from its first element on.
struct Optimizer::Run {
  const FlatGroup& group;
  const ShardedState::Piece& piece;
  const ParameterInfo& parameter;
  const Hyperparameters& hyperparameters;
  const UpdateScalars& scalars;
  const GradientSource* source;
  const float* reduced;               // nullptr: there is no backprop
  std::byte* parameters;              // in the group's type
  float* masters;                     // nullptr: of 16-bit parameters that go without
  std::array<float*, 2> arrays = {};  // the optimizer's, in the set in use
};

void Optimizer::update(int group, int64_t begin, int64_t end, const UpdateScalars& scalars, GradientSource* source) {
  const FlatGroup& g = layout_.group(group);
  const bool has_values = g.type == DType::F32 || state_.has_masters(group);
  const int arrays = g.assigned ? 0 : state_values(config_);
  for (const ShardedState::Piece& piece : state_.pieces(group)) {
    const int64_t from = std::max(begin, piece.part_offset) - piece.part_offset,
                  to = std::min(end, piece.part_offset + piece.count) - piece.part_offset;
    if (from >= to) continue;
    const ParameterInfo& parameter = layout_.parameter(g, piece.parameter);
    if (source != nullptr) source->prepare(parameter);
    Run run{g,
            piece,
            parameter,
            nth(nth(hyperparameters_, group), piece.parameter),
            scalars,
            source,
            state_.has_gradients(group) ? state_.gradients(group, piece) : nullptr,
            state_.parameters(group, piece),
            has_values ? state_.masters(group, piece) : nullptr};
    for (int k = 0; k < arrays; ++k) nth(run.arrays, k) = state_.optimizer_array(group, piece, scalars.state_set * arrays + k);
    at::parallel_for(from, to, kGrainElements, [&](int64_t first, int64_t last) { step_blocks(run, first, last); });
  }
}

// Elements [first, last) of the piece: at once when gradient and masters lie in memory, else in blocks that stay in the first caches.
void Optimizer::step_blocks(const Run& run, int64_t first, int64_t last) const {
  const DType type = run.group.type;
  const bool rounded = run.masters == nullptr;
  const int64_t block = run.source != nullptr || rounded ? kBlockElements : last - first;
  std::vector<float> gradient(static_cast<size_t>(run.source != nullptr ? block : 0)), master(static_cast<size_t>(rounded ? block : 0));
  for (int64_t at = first; at < last; at += block) {
    const int64_t offset = run.piece.parameter_offset + at, count = std::min(block, last - at);
    const float* reduced = run.reduced == nullptr ? nullptr : run.reduced + at;
    std::byte* parameters = run.parameters + num_bytes(at, type);
    OptimizerSlice slice;
    slice.gradient = reduced;
    slice.count = count;
    if (run.source != nullptr) {
      run.source->read(offset, count, reduced, gradient.data());
      slice.gradient = gradient.data();
    }
    if (rounded) {
      cast_to_fp32(parameters, type, master.data(), count);
      slice.master = master.data();
    } else {
      slice.master = run.masters + at;
      slice.compute = type == DType::F32 ? nullptr : parameters;
      slice.compute_type = type;
    }
    step_slice(run, slice, at);
    if (rounded)
      round_stochastically(master.data(), parameters, type, {seed_, NoiseTag::Rounding, static_cast<uint64_t>(run.scalars.step), 0},
                           static_cast<uint64_t>(run.parameter.first + offset), count);
  }
}

// From the direction of a whole parameter to the step at a learning rate of 1.
double Optimizer::direction_scale(const Run& run) const {
  const bool orthogonal = layout_.options.is_orthogonal(run.parameter);
  double scale = 1;
  if (orthogonal) {
    // What a matrix does, not how it is stored: from so many inputs to so many outputs.
    const bool out_by_in = run.parameter.out_by_in;
    const double out = static_cast<double>(run.parameter.shape[out_by_in ? 0 : 1]),
                 in = static_cast<double>(run.parameter.shape[out_by_in ? 1 : 0]);
    const bool aspect = config_.type == OptimizerConfig::Type::Muon && !config_.match_rms_adamw;
    scale = aspect ? std::sqrt(std::max(1.0, out / in)) : 0.2 * std::sqrt(std::max(out, in));
  }
  if (config_.type != OptimizerConfig::Type::MuDaMW || (orthogonal && !config_.bias_correction)) return scale;
  const double step = static_cast<double>(run.scalars.applied_steps + 1);
  return scale * std::sqrt(1 - std::pow(run.scalars.scheduled.beta2, step)) / (1 - std::pow(run.scalars.scheduled.beta1, step));
}

void Optimizer::step_slice(const Run& run, OptimizerSlice slice, int64_t at) const {
  const auto array = [&](size_t k) { return run.arrays[k] == nullptr ? nullptr : run.arrays[k] + at; };
  const ScheduledValues& now = run.scalars.scheduled;
  const double step = static_cast<double>(run.scalars.applied_steps + 1);
  const double correction1 = config_.bias_correction ? 1 - std::pow(now.beta1, step) : 1.0;
  const double correction2 = config_.bias_correction ? 1 - std::pow(now.beta2, step) : 1.0;
  const double lr = now.lr * run.hyperparameters.lr_factor;
  slice.gradient_scale = run.scalars.gradient_scale;
  slice.lr = static_cast<float>(lr);
  slice.weight_decay = run.hyperparameters.weight_decay;
  if (run.group.assigned) {
    slice.gradient_scale = static_cast<float>(direction_scale(run));
    return sgd_step(slice, nullptr, {.momentum = 0, .dampening = 0, .nesterov = false, .first_step = false});
  }
  switch (config_.type) {
    case OptimizerConfig::Type::MuDaMW:
      // Its epsilon stands beside the uncorrected root; vectors are always corrected.
      return adam_step(slice, array(0), array(1),
                       {.beta1 = now.beta1,
                        .beta2 = now.beta2,
                        .eps = config_.eps,
                        .step_size = lr * std::sqrt(1 - std::pow(now.beta2, step)) / (1 - std::pow(now.beta1, step)),
                        .inv_sqrt_bias_correction2 = 1,
                        .decoupled = true});
    case OptimizerConfig::Type::Adam:
    case OptimizerConfig::Type::AdamW:
    case OptimizerConfig::Type::Muon:
      return adam_step(slice, array(0), array(1),
                       {.beta1 = now.beta1,
                        .beta2 = now.beta2,
                        .eps = config_.eps,
                        .step_size = lr / correction1,
                        .inv_sqrt_bias_correction2 = 1 / std::sqrt(correction2),
                        .decoupled = config_.type != OptimizerConfig::Type::Adam || config_.adam_w_mode});
    case OptimizerConfig::Type::SGD:
      return sgd_step(slice, array(0),
                      {.momentum = now.momentum,
                       .dampening = config_.dampening,
                       .nesterov = config_.nesterov,
                       .first_step = run.scalars.applied_steps == 0});
    case OptimizerConfig::Type::Lion:
      return lion_step(slice, array(0), {.beta1 = now.beta1, .beta2 = now.beta2});
  }
}

}  // namespace zerostep
