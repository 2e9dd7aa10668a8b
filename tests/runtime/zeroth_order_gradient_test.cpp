#include <gtest/gtest.h>

#include <cmath>

#include "tests/runtime/support/zeroth_order_reference.h"

namespace zerostep::testing {
namespace {

using Estimator = StepConfig::Estimator;
using Perturbation = StepConfig::Perturbation;

// Root mean square over directions of p - <g, z>, as a share of ||g||: projected gradients of the engine against those of backprop.
double share_of_gradient(const ZerothOrderCase& test) {
  ZerothOrderCase in_fp32 = test;
  in_fp32.config.precision.compute = DType::F32;
  const std::vector<std::vector<float>> g = reference_gradient(in_fp32, 0);
  const ZerothOrderOutcome engine = run_zeroth_order_threads(test, 1);
  std::vector<ParameterInfo> infos;
  const auto model = make_gpt2(test.model);
  for (const UnitInfo& unit : model->units()) infos.insert(infos.end(), unit.parameters.begin(), unit.parameters.end());
  double errors = 0, squares = 0;
  for (const auto& values : g)
    for (const float v : values) squares += static_cast<double>(v) * static_cast<double>(v);
  for (int64_t d = 0; d < test.config.step.queries; ++d) {
    double expected = 0;
    for (size_t p = 0; p < g.size(); ++p) {
      const auto z = reference_direction(test.config.step, test.config.seed, 0, d, infos[p]);
      for (size_t i = 0; i < z.size(); ++i) expected += static_cast<double>(z[i]) * static_cast<double>(g[p][i]);
    }
    errors += std::pow(engine.scalars[0][static_cast<size_t>(d)] - expected, 2);
  }
  return std::sqrt(errors / static_cast<double>(test.config.step.queries) / squares);
}

const std::vector<double> kSmall = {1e-2, 1e-3, 3e-4, 1e-4}, kAll = {1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5};

ZerothOrderCase one_step(const std::vector<std::string>& scope) {
  ZerothOrderCase test = ZerothOrderCase::tiny();
  test.steps = 1;
  test.config.optimizer.lr = 0;
  test.config.step.queries = 16;
  test.config.step.scope = scope;
  return test;
}

double best_share(ZerothOrderCase test, std::string* curve = nullptr) {
  double best = 1e30;
  for (const double epsilon : curve == nullptr ? kSmall : kAll) {
    test.config.step.epsilon = epsilon;
    const double share = share_of_gradient(test);
    best = std::min(best, share);
    if (curve != nullptr) *curve += fmt::format("  {:.0e}: {:.1e}", epsilon, share);
  }
  return best;
}

TEST(ZerothOrderGradient, ProjectedGradientsOfEveryGroupAreThoseOfBackprop) {
  const char* groups[] = {"transformer.wte.weight",
                          "transformer.wpe.weight",
                          "transformer.h.*.ln_*",
                          "transformer.h.*.attn.c_attn.*",
                          "transformer.h.*.attn.c_proj.*",
                          "transformer.h.*.mlp.c_fc.*",
                          "transformer.h.*.mlp.c_proj.*",
                          "transformer.ln_f.*",
                          "transformer.h.0.*",
                          "transformer.h.2.mlp.c_proj.bias",
                          "*.bias"};
  for (const char* group : groups) EXPECT_LT(best_share(one_step({group})), 2e-3) << group;
  EXPECT_LT(best_share(one_step({"full"})), 2e-3);
  EXPECT_LT(best_share(one_step({"reduced"})), 2e-3);
}

TEST(ZerothOrderGradient, AlsoAlongOtherDirections) {
  for (const Perturbation perturbation : {Perturbation::Rademacher, Perturbation::LowRank}) {
    ZerothOrderCase test = one_step({"full"});
    test.config.step.perturbation = perturbation;
    EXPECT_LT(best_share(test), 2e-3);
  }
}

// Bias falls with epsilon, round-off rises: one-sided and 16-bit losses have the minimum elsewhere, and higher.
TEST(ZerothOrderGradient, PrintsItsErrorOverEpsilon) {
  std::map<std::string, double> best;
  for (const Estimator estimator : {Estimator::Central, Estimator::Forward})
    for (const DType type : {DType::F32, DType::BF16, DType::F16}) {
      ZerothOrderCase test = one_step({"full"});
      test.config.step.estimator = estimator;
      test.config.precision.compute = type;
      std::string curve;
      const std::string name = fmt::format("{} {}", name_of(type), estimator == Estimator::Central ? "central" : "forward");
      best[name] = best_share(test, &curve);
      fmt::print("error of p as a share of ||g||, {:<13}{}\n", name, curve);
    }
  EXPECT_LT(best["fp32 central"], 2e-3);
  for (const char* other : {"fp32 forward", "bf16 central", "fp16 central"}) EXPECT_GT(best[other], best["fp32 central"]) << other;
  EXPECT_LT(best["fp16 central"], best["bf16 central"]);
}

}  // namespace
}  // namespace zerostep::testing
