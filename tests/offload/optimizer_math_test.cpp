#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "base/ieee.h"
#include "offload/host_optimizer.h"
#include "tests/offload/support/host_kernels.h"

// The formulas without Highway, as another backend compiles them: with a lane of its own they give the bits of the host's kernels.
namespace zerostep {
namespace plain {

#define ZEROSTEP_LANE_FUNCTION ZEROSTEP_HOST_DEVICE inline
#include "offload/optimizer_math.h"

struct Lane {
  using V = float;
  static V set(float x) { return x; }
  static V add(V a, V b) { return ieee_add(a, b); }
  static V sub(V a, V b) { return ieee_sub(a, b); }
  static V mul(V a, V b) { return ieee_mul(a, b); }
  static V div(V a, V b) { return ieee_div(a, b); }
  static V sqrt(V a) { return ieee_sqrt(a); }
  static V fma(V a, V b, V c) { return ieee_fma(a, b, c); }
  static V sign(V a) { return a > 0 ? 1.0f : a < 0 ? -1.0f : a; }
};

}  // namespace plain

namespace {

using test::HostOptimizerTargets;
using test::kNasty;
using test::random_values;
using test::same;
using test::Values;

struct Operands {
  Values p = random_values(333, 0.02f, 1), g = random_values(333, 0.5f, 2), m = random_values(333, 0.1f, 3),
         v = random_values(333, 0.1f, 4);
  Operands() {
    for (size_t i = 0; i < p.size(); i += 5) {
      p[i] = kNasty[i / 5 % kNasty.size()];
      g[i] = kNasty[i / 5 / kNasty.size() % kNasty.size()];
      m[i] = kNasty[i / 3 % kNasty.size()];
    }
    for (float& x : v) x *= x;
  }
  OptimizerPiece piece(float lr) {
    return {.master = p.data(),
            .gradient = g.data(),
            .count = static_cast<int64_t>(p.size()),
            .gradient_scale = 0.37f,
            .lr = lr,
            .weight_decay = 0.1f};
  }
};

// The formula over every element, as a kernel of one thread an element would run it.
template <class Formula>
Operands updated(const Formula& formula, float scale) {
  Operands x;
  for (size_t i = 0; i < x.p.size(); ++i) {
    const float g = ieee_mul(x.g[i], scale);
    float after;
    if constexpr (Formula::kStates == 0) after = formula.template update<plain::Lane>(x.p[i], g);
    if constexpr (Formula::kStates == 1) after = formula.template update<plain::Lane>(x.p[i], g, x.m[i]);
    if constexpr (Formula::kStates == 2) after = formula.template update<plain::Lane>(x.p[i], g, x.m[i], x.v[i]);
    if (!formula.frozen()) x.p[i] = after;
  }
  return x;
}

class OptimizerMath : public HostOptimizerTargets {
 protected:
  // step(piece, m, v): the host's kernel.
  template <class Formula, class Step>
  static void expect_same(const std::string& name, float lr, const Formula& formula, const Step& step) {
    const Operands expected = updated(formula, Operands().piece(lr).gradient_scale);
    EXPECT_EQ(same(expected.p, Operands().p), lr == 0) << name;
    for_each_target([&](const char* target) {
      Operands found;
      step(found.piece(lr), found.m.data(), found.v.data());
      EXPECT_TRUE(same(found.p, expected.p)) << name << " " << target << " masters";
      EXPECT_TRUE(same(found.m, expected.m)) << name << " " << target << " first state";
      EXPECT_TRUE(same(found.v, expected.v)) << name << " " << target << " second state";
    });
  }
  template <bool kDecoupled>
  static void adam(float lr) {
    const AdamParameters parameters{0.9, 0.999, 1e-8, lr / 0.19, 1 / std::sqrt(0.002), kDecoupled};
    expect_same(kDecoupled ? "AdamW" : "Adam", lr, plain::Adam<kDecoupled>(Operands().piece(lr), parameters),
                [&](const OptimizerPiece& piece, float* m, float* v) { adam_step(piece, m, v, parameters); });
  }
  static void momentum(float lr, bool is_first, bool is_nesterov) {
    const SgdParameters parameters{0.9, 0.1, is_nesterov, is_first};
    expect_same(std::string("SGD with momentum") + (is_first ? ", first" : "") + (is_nesterov ? ", Nesterov" : ""), lr,
                plain::SgdMomentum(Operands().piece(lr), parameters),
                [&](const OptimizerPiece& piece, float* m, float*) { sgd_step(piece, m, parameters); });
  }
};

TEST_F(OptimizerMath, GivesTheBitsOfTheKernelsInAnyLane) {
  for (const float lr : {0.0f, 3e-4f}) {
    adam<true>(lr);
    adam<false>(lr);
    expect_same("SGD", lr, plain::Sgd(Operands().piece(lr)), [&](const OptimizerPiece& piece, float*, float*) {
      sgd_step(piece, nullptr, {0, 0, false, false});
    });
    for (const bool is_first : {false, true})
      for (const bool is_nesterov : {false, true}) momentum(lr, is_first, is_nesterov);
    const LionParameters lion{0.9, 0.99};
    expect_same("Lion", lr, plain::Lion(Operands().piece(lr), lion),
                [&](const OptimizerPiece& piece, float* m, float*) { lion_step(piece, m, lion); });
  }
}

}  // namespace
}  // namespace zerostep
