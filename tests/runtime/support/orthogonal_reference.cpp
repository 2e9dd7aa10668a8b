#include "tests/runtime/support/orthogonal_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace zerostep::testing {
namespace {

// (a, b, c) of the quintic; X goes to the matrix with its singular vectors and singular values near 1.
at::Tensor orthogonalised(at::Tensor x) {
  const bool tall = x.size(0) > x.size(1);
  if (tall) x = x.t();
  x = x / (x.norm() + 1e-7);
  for (int i = 0; i < 5; ++i) {
    const at::Tensor a = x.matmul(x.t());
    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a.matmul(a)).matmul(x);
  }
  return tall ? x.t() : x;
}

}  // namespace

void reference_orthogonal_step(const OptimizerConfig& c, const ParameterInfo& parameter, double lr, const std::vector<double>& gradient,
                               std::vector<float>& values, OrthogonalState& state) {
  const bool muon = c.type == OptimizerConfig::Type::Muon, excluded = parameter.name.find("wte") != std::string::npos ||
                                                                      parameter.name.find("wpe") != std::string::npos ||
                                                                      parameter.name.find("lm_head") != std::string::npos;
  const bool matrix = parameter.shape.size() == 2 && !(excluded && !c.no_muon);
  if (state.steps == 0) {
    state.first.assign(gradient.size(), 0.0);
    state.second.assign(gradient.size(), 0.0);
  }
  const auto as_tensor = [&](std::vector<double>& v) { return at::from_blob(v.data(), parameter.shape, at::kDouble); };
  std::vector<double> copy = gradient, weights(values.begin(), values.end());
  at::Tensor g = as_tensor(copy), m = as_tensor(state.first), v = as_tensor(state.second), theta = as_tensor(weights);
  const double t = static_cast<double>(++state.steps), correction1 = 1 - std::pow(c.beta1, t), correction2 = 1 - std::pow(c.beta2, t);
  theta.mul_(1 - lr * c.weight_decay);
  if (muon && matrix) {
    m.mul_(c.momentum).add_(g, 1 - c.momentum);
    const at::Tensor u = c.nesterov ? (1 - c.momentum) * g + c.momentum * m : m.clone();
    const double out = static_cast<double>(g.size(parameter.out_by_in ? 0 : 1)),
                 in = static_cast<double>(g.size(parameter.out_by_in ? 1 : 0));
    theta.sub_(orthogonalised(u),
               lr * c.muon_lr_factor * (c.match_rms_adamw ? 0.2 * std::sqrt(std::max(out, in)) : std::sqrt(std::max(1.0, out / in))));
  } else {
    m.mul_(c.beta1).add_(g, 1 - c.beta1);
    v.mul_(c.beta2).add_(g * g, 1 - c.beta2);
    if (muon) {
      theta.sub_((m / correction1) / ((v / correction2).sqrt() + c.eps), lr * c.adam_lr_factor);
    } else {
      at::Tensor u = m / (v.sqrt() + c.eps);
      double s = lr * std::sqrt(correction2) / correction1;
      if (c.cautious) {
        const at::Tensor mask = (m * g > 0).to(at::kDouble);
        u = u * mask / std::max(1e-3, mask.mean().item<double>());
      }
      if (matrix) {
        if (!c.bias_correction) s = lr;
        u = orthogonalised(u) * (0.2 * std::sqrt(static_cast<double>(std::max(g.size(0), g.size(1)))));
      }
      theta.sub_(u, s);
    }
  }
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(weights[i]);
}

}  // namespace zerostep::testing
