#include "tests/runtime/support/zeroth_order_reference.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/noise.h"
#include "models/scalar_type.h"
#include "tests/runtime/support/orthogonal_reference.h"

namespace zerostep::testing {
namespace {

using Values = std::vector<float>;
using Numbers = std::vector<double>;

// As a shell matches names: * stands for anything.
bool matches(const std::string& name, const std::string& pattern) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*') return matches(name, pattern.substr(1)) || (!name.empty() && matches(name.substr(1), pattern));
  return !name.empty() && name[0] == pattern[0] && matches(name.substr(1), pattern.substr(1));
}

struct OptimizerState {
  Numbers first, second;
  int64_t steps = 0;
};

struct Parameter {
  ParameterInfo info;
  bool trained = true;
  Values master;
  std::vector<std::optional<OptimizerState>> state = {};  // one set, or one a kind of step
  OrthogonalState orthogonal[2] = {};
};

struct Loss {
  double sum = 0, tokens = 0;
};

class Loop {
 public:
  explicit Loop(const ZerothOrderCase& test)
      : test_(test), config_(test.config), step_(test.config.step), model_(make_gpt2(test.model)), objective_(make_cross_entropy()) {
    for (const UnitInfo& unit : model_->units()) {
      first_of_unit_.push_back(parameters_.size());
      for (const ParameterInfo& info : unit.parameters) {
        Parameter p{info, in_scope(info.name), Values(static_cast<size_t>(info.num_elements()))};
        initial_values(info, config_.seed, 0, info.num_elements(), p.master.data());
        if (p.trained) dimensions_ += info.num_elements();
        parameters_.push_back(std::move(p));
      }
    }
  }

  ZerothOrderOutcome run(const std::set<int64_t>& skipped) {
    for (int64_t step = 0; step < test_.steps; ++step) {
      const bool gradient = is_backprop(step);
      out_.scalars.emplace_back();
      const std::vector<Numbers> g = gradient ? backprop(step) : estimate(step);
      if (gradient && is_monitored(step)) measure_cosine(step, g);
      const double norm = gradient || step_.exact_norm ? norm_of(g) : estimate_norm_;
      const double clip = config_.gradient_clipping > 0 ? std::min(1.0, config_.gradient_clipping / (norm + 1e-6)) : 1.0;
      out_.norms.push_back(norm);
      out_.clip_scales.push_back(clip);
      out_.skipped.push_back(skipped.contains(step));
      if (out_.skipped.back()) continue;
      for (size_t i = 0; i < parameters_.size(); ++i)
        if (parameters_[i].trained) update(parameters_[i], g[i], clip, gradient);
    }
    for (Parameter& p : parameters_) out_.parameters.push_back(std::move(p.master));
    return std::move(out_);
  }

  std::vector<Values> query_gradient(int64_t step) {
    std::vector<Values> out;
    std::vector<Batch> batches = query_batches(test_.query_index(step, 0));
    for (const Numbers& g : backprop_of(batches)) out.emplace_back(g.begin(), g.end());
    return out;
  }

 private:
  bool in_scope(const std::string& name) const {
    const std::string block = fmt::format("transformer.h.{}.", test_.model.n_layer - 1);
    const std::vector<std::string> reduced = {block + "mlp.*", block + "ln_2.*", "transformer.ln_f.*",
                                              test_.model.tie_word_embeddings ? "transformer.wte.weight" : "lm_head.weight"};
    const std::vector<std::string>& patterns = step_.scope == std::vector<std::string>{"reduced"} ? reduced : step_.scope;
    if (step_.scope == std::vector<std::string>{"full"}) return true;
    return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& p) { return matches(name, p); });
  }

  bool is_backprop(int64_t step) const {
    if (step_.mode == StepConfig::Mode::Calibrate) return (step + 1) % step_.bp_interval == 0;
    return step_.mode == StepConfig::Mode::Alternating && step % (step_.zo_steps + 1) == 0;
  }

  bool is_monitored(int64_t step) const {
    return step_.monitor_interval > 0 && (step + 1) / step_.bp_interval % step_.monitor_interval == 0;
  }

  // The queries of a backprop step leave their scalars, their loss and the cosine, and no update.
  void measure_cosine(int64_t step, const std::vector<Numbers>& gradient) {
    out_.losses.pop_back();  // backprop's
    const std::vector<Numbers> g = estimate(step);
    double product = 0;
    for (size_t p = 0; p < g.size(); ++p)
      for (size_t i = 0; i < g[p].size(); ++i) product += g[p][i] * gradient[p][i];
    out_.cosines.push_back(product / (norm_of(g) * norm_of(gradient)));
  }

  std::vector<Batch> query_batches(int64_t index) const {
    std::vector<Batch> out;
    const int64_t micro = step_.query_batch.micro_batch_size;
    for (int64_t m = 0; m < test_.global_batch / micro; ++m) out.push_back(test_.query_batch(index, m, 0, 1));
    return out;
  }

  // Matrices in the compute type, vectors in fp32.
  at::Tensor tensor_of(const Parameter& p, const Values& values) const {
    const at::Tensor whole = at::empty(p.info.shape, at::kFloat);
    std::copy(values.begin(), values.end(), whole.data_ptr<float>());
    return p.info.shape.size() < 2 ? whole : whole.to(scalar_type(config_.precision.compute));
  }

  std::vector<std::unique_ptr<Unit>> make_units(const std::vector<at::Tensor>& tensors) const {
    std::vector<std::unique_ptr<Unit>> units;
    for (size_t u = 0; u < model_->units().size(); ++u) {
      const UnitInfo& info = model_->units()[u];
      std::vector<at::Tensor> own(tensors.begin() + static_cast<std::ptrdiff_t>(first_of_unit_[u]),
                                  tensors.begin() + static_cast<std::ptrdiff_t>(first_of_unit_[u] + info.parameters.size()));
      for (const BorrowedParameter& b : info.borrowed)
        own.push_back(tensors[first_of_unit_[static_cast<size_t>(b.unit)] + static_cast<size_t>(b.parameter)]);
      units.push_back(model_->make_unit(static_cast<int>(u), std::move(own)));
    }
    return units;
  }

  TensorList logits(const std::vector<std::unique_ptr<Unit>>& units, const Batch& batch) const {
    TensorList hidden;
    for (const auto& unit : units) hidden = unit->forward(hidden, {&batch, false, config_.seed, 0});
    return hidden;
  }

  // The loss where every trained parameter is moved by `epsilon` along a direction of a step.
  Loss loss_at(int64_t step, int64_t direction, float epsilon, const std::vector<Batch>& batches) const {
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> tensors;
    for (const Parameter& p : parameters_) {
      Values moved = p.master;
      if (p.trained && epsilon != 0) {
        const Values z = reference_direction(step_, config_.seed, step, direction, p.info);
        for (size_t i = 0; i < moved.size(); ++i) moved[i] = std::fma(epsilon, z[i], moved[i]);
      }
      tensors.push_back(tensor_of(p, moved));
    }
    const auto units = make_units(tensors);
    Loss loss;
    for (const Batch& batch : batches) {
      const at::Tensor rows = logits(units, batch)[0].to(at::kDouble).flatten(0, 1), labels = batch.labels.flatten();
      const at::Tensor valid = labels.ge(0), chosen = labels.clamp_min(0).unsqueeze(1);
      const at::Tensor losses = at::logsumexp(rows, {1}) - rows.gather(1, chosen).squeeze(1);
      loss.sum += at::where(valid, losses, at::zeros_like(losses)).sum().item<double>();
      loss.tokens += valid.sum().item<double>();
    }
    return loss;
  }

  std::vector<Numbers> estimate(int64_t step) {
    const bool forward = step_.estimator == StepConfig::Estimator::Forward;
    const float epsilon = static_cast<float>(step_.epsilon);
    Numbers& scalars = out_.scalars.back();
    double mean_loss = 0;
    for (int64_t d = 0; d < step_.queries; ++d) {
      const std::vector<Batch> batches = query_batches(test_.query_index(step, d));
      const Loss plus = loss_at(step, d, epsilon, batches), other = loss_at(step, d, forward ? 0 : -epsilon, batches);
      scalars.push_back((plus.sum - other.sum) / plus.tokens / (forward ? step_.epsilon : 2 * step_.epsilon));
      mean_loss += (forward ? other.sum : (plus.sum + other.sum) / 2) / plus.tokens / static_cast<double>(step_.queries);
    }
    out_.losses.push_back(mean_loss);
    const Numbers p = transformed(scalars);
    const double q = static_cast<double>(p.size());
    std::vector<Numbers> g;
    for (const Parameter& parameter : parameters_) {
      Numbers& sum = g.emplace_back(parameter.master.size(), 0.0);
      for (size_t d = 0; d < p.size() && parameter.trained; ++d) {
        const Values z = reference_direction(step_, config_.seed, step, static_cast<int64_t>(d), parameter.info);
        for (size_t i = 0; i < z.size(); ++i) sum[i] += p[d] * static_cast<double>(z[i]) / q;
      }
    }
    double squares = 0;
    for (double v : p) squares += v * v;
    estimate_norm_ = std::sqrt(static_cast<double>(dimensions_) * squares) / q;
    return g;
  }

  Numbers transformed(const Numbers& p) const {
    using Kind = StepConfig::Transform::Kind;
    const double q = static_cast<double>(p.size());
    double sum = 0, squares = 0;
    for (double v : p) sum += v;
    for (double v : p) squares += (v - sum / q) * (v - sum / q);
    const double deviation = std::sqrt(squares / (q - 1)), reach = step_.transform.deviations * deviation;
    Numbers out;
    for (double v : p) {
      if (step_.transform.kind == Kind::None) out.push_back(v);
      if (step_.transform.kind == Kind::LeaveOneOut) out.push_back(v - (sum - v) / (q - 1));
      if (step_.transform.kind == Kind::Normalise) out.push_back(v / deviation);
      if (step_.transform.kind == Kind::Clip) out.push_back(std::min(std::max(v, sum / q - reach), sum / q + reach));
    }
    return out;
  }

  std::vector<Numbers> backprop(int64_t step) {
    std::vector<Batch> batches;
    for (int64_t m = 0; m < test_.global_batch / ZerothOrderCase::kMicroBatch; ++m) {
      // Of one rank, whatever the number of ranks that share the samples.
      ZerothOrderCase alone = test_;
      alone.set_micro_batch(ZerothOrderCase::kMicroBatch, 1);
      batches.push_back(alone.batch(step, m, 0, 1));
    }
    std::vector<Numbers> g = backprop_of(batches);
    out_.losses.push_back(backprop_loss_);
    return g;
  }

  std::vector<Numbers> backprop_of(const std::vector<Batch>& batches) {
    std::vector<at::Tensor> tensors, gradients;
    for (const Parameter& p : parameters_) {
      tensors.push_back(tensor_of(p, p.master).detach().requires_grad_(p.trained));
      gradients.push_back(at::zeros(p.info.shape, at::kFloat));
      if (p.trained) tensors.back().mutable_grad() = gradients.back();
    }
    const auto units = make_units(tensors);
    double sum = 0, tokens = 0;
    for (const Batch& batch : batches) tokens += static_cast<double>(batch.valid_tokens);
    for (const Batch& batch : batches) {
      const at::Tensor loss = objective_->sum(batch, logits(units, batch));
      sum += loss.item<double>();
      loss.backward(at::full({}, 1 / tokens, loss.options()));
    }
    backprop_loss_ = sum / tokens;
    std::vector<Numbers> out;
    for (const at::Tensor& g : gradients) out.emplace_back(g.data_ptr<float>(), g.data_ptr<float>() + g.numel());
    return out;
  }

  double norm_of(const std::vector<Numbers>& g) const {
    double squares = 0;
    for (const Numbers& values : g)
      for (double v : values) squares += v * v;
    return std::sqrt(squares);
  }

  void update(Parameter& p, const Numbers& gradient, double clip, bool of_backprop) {
    using Type = OptimizerConfig::Type;
    const OptimizerConfig& c = config_.optimizer;
    p.state.resize(2);
    if (c.orthogonal()) {
      Numbers clipped = gradient;
      for (double& value : clipped) value *= clip;
      return reference_orthogonal_step(c, p.info, of_backprop && step_.bp_lr ? *step_.bp_lr : c.lr, clipped, p.master,
                                       p.orthogonal[step_.separate_state && of_backprop ? 1 : 0]);
    }
    auto& state = p.state[step_.separate_state && of_backprop ? 1 : 0];
    if (!state) state = OptimizerState{Numbers(gradient.size(), 0.0), Numbers(gradient.size(), 0.0), 0};
    const double lr = of_backprop && step_.bp_lr ? *step_.bp_lr : c.lr, decay = c.weight_decay;
    const double t = static_cast<double>(++state->steps);
    for (size_t i = 0; i < gradient.size(); ++i) {
      double theta = static_cast<double>(p.master[i]), g = clip * gradient[i], &m = state->first[i], &v = state->second[i];
      if (c.type == Type::SGD) {
        g += decay * theta;
        m = t == 1 ? g : c.momentum * m + (1 - c.dampening) * g;
        theta -= lr * (c.momentum == 0 ? g : c.nesterov ? g + c.momentum * m : m);
      } else if (c.type == Type::Lion) {
        const double mixed = c.beta1 * m + (1 - c.beta1) * g;
        theta -= lr * (decay * theta + (mixed > 0 ? 1 : mixed < 0 ? -1 : 0));
        m = c.beta2 * m + (1 - c.beta2) * g;
      } else {
        m = c.beta1 * m + (1 - c.beta1) * g;
        v = c.beta2 * v + (1 - c.beta2) * g * g;
        const double mean = m / (1 - std::pow(c.beta1, t)), square = v / (1 - std::pow(c.beta2, t));
        theta -= lr * (decay * theta + mean / (std::sqrt(square) + c.eps));
      }
      p.master[i] = static_cast<float>(theta);
    }
  }

  const ZerothOrderCase& test_;
  const Config& config_;
  const StepConfig& step_;
  std::unique_ptr<ModelDefinition> model_;
  std::unique_ptr<Objective> objective_;
  std::vector<Parameter> parameters_;
  std::vector<size_t> first_of_unit_;
  int64_t dimensions_ = 0;
  double estimate_norm_ = 0, backprop_loss_ = 0;
  ZerothOrderOutcome out_;
};

}  // namespace

std::vector<float> reference_direction(const StepConfig& config, uint64_t seed, int64_t step, int64_t direction,
                                       const ParameterInfo& parameter) {
  const auto t = static_cast<uint64_t>(step);
  const auto stream = static_cast<uint32_t>(direction);
  const auto first = static_cast<uint64_t>(parameter.first);
  Values z(static_cast<size_t>(parameter.num_elements()));
  if (config.perturbation == StepConfig::Perturbation::Rademacher) {
    fill_rademacher({seed, NoiseTag::Direction, t, stream}, first, parameter.num_elements(), z.data());
    return z;
  }
  if (config.perturbation == StepConfig::Perturbation::Gaussian || parameter.shape.size() != 2) {
    fill_normal({seed, NoiseTag::Direction, t, stream}, first, parameter.num_elements(), z.data());
    return z;
  }
  // Z = U V^T / sqrt(r), V drawn anew every `refresh` steps.
  const int64_t rows = parameter.shape[0], columns = parameter.shape[1], r = config.rank;
  Values u(static_cast<size_t>(rows * r)), v(static_cast<size_t>(columns * r));
  fill_normal({seed, NoiseTag::LowRankU, t, stream}, first, rows * r, u.data());
  fill_normal({seed, NoiseTag::LowRankV, t / static_cast<uint64_t>(config.refresh), stream}, first, columns * r, v.data());
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(r)));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < r; ++k) sum = std::fma(u[static_cast<size_t>(i * r + k)], v[static_cast<size_t>(j * r + k)], sum);
      z[static_cast<size_t>(i * columns + j)] = sum * scale;
    }
  return z;
}

ZerothOrderOutcome run_zeroth_order_reference(const ZerothOrderCase& test, const std::set<int64_t>& skipped) {
  at::set_num_threads(1);
  return Loop(test).run(skipped);
}

std::vector<std::vector<float>> reference_gradient(const ZerothOrderCase& test, int64_t step) {
  at::set_num_threads(1);
  return Loop(test).query_gradient(step);
}

}  // namespace zerostep::testing
