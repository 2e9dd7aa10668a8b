#include "offload/host_optimizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/offload/support/host_kernels.h"

namespace zerostep {
namespace {

using test::bits;
using test::HostOptimizerTargets;
using test::kNan;
using test::kNasty;
using test::random_values;
using test::same;
using test::Values;

struct State {
  Values p, g, s0, s1;
  std::vector<uint16_t> half;

  explicit State(size_t n, bool nasty = false)
      : p(random_values(n, 0.02f, 1)), g(random_values(n, 0.5f, 2)), s0(random_values(n, 0.1f, 3)), s1(random_values(n, 0.1f, 4)), half(n) {
    for (float& x : s1) x = x * x;
    if (!nasty) return;
    for (size_t i = 0; i + 1 < n; i += 7) {
      p[i] = kNasty[i / 7 % kNasty.size()];
      g[i] = kNasty[i / 7 / kNasty.size() % kNasty.size()];
      if (i % 2 == 0) s0[i] = kNasty[i / 3 % kNasty.size()];
      if (i % 3 == 0) s1[i] = std::fabs(kNasty[i / 5 % kNasty.size()]);
    }
  }
};

// One optimizer under one setting: as the kernel over [begin, end) of a state, and as a plain loop over element i.
struct Case {
  std::string name;
  std::function<void(State&, int64_t begin, int64_t end, DType compute)> run;
  std::function<void(State&, size_t i)> plain;
};

OptimizerPiece piece_of(State& s, int64_t begin, int64_t end, DType compute, float scale, float lr, float wd) {
  return {.master = s.p.data() + begin,
          .gradient = s.g.data() + begin,
          .compute = is_16bit(compute) ? s.half.data() + begin : nullptr,
          .compute_type = compute,
          .count = end - begin,
          .gradient_scale = scale,
          .lr = lr,
          .weight_decay = wd};
}

Case adam_case(bool decoupled, float wd, float scale, int t) {
  const double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, lr = 1e-3f;
  const AdamParameters parameters = {.beta1 = beta1,
                                     .beta2 = beta2,
                                     .eps = eps,
                                     .step_size = lr / (1 - std::pow(beta1, t)),
                                     .inv_sqrt_bias_correction2 = 1 / std::sqrt(1 - std::pow(beta2, t)),
                                     .decoupled = decoupled};
  return {std::string(decoupled ? "AdamW" : "Adam") + " wd " + std::to_string(wd) + " scale " + std::to_string(scale),
          [=](State& s, int64_t begin, int64_t end, DType compute) {
            adam_step(piece_of(s, begin, end, compute, scale, static_cast<float>(lr), wd), s.s0.data() + begin, s.s1.data() + begin,
                      parameters);
          },
          [=](State& s, size_t i) {
            float g = s.g[i] * scale;
            if (!decoupled) g = std::fma(wd, s.p[i], g);
            s.s0[i] = std::fma(static_cast<float>(1 - beta1), g - s.s0[i], s.s0[i]);
            s.s1[i] = std::fma(static_cast<float>(1 - beta2) * g, g, static_cast<float>(beta2) * s.s1[i]);
            const float denominator =
                std::fma(std::sqrt(s.s1[i]), static_cast<float>(parameters.inv_sqrt_bias_correction2), static_cast<float>(eps));
            const float p = decoupled ? s.p[i] * static_cast<float>(1 - lr * wd) : s.p[i];
            s.p[i] = std::fma(static_cast<float>(-parameters.step_size), s.s0[i] / denominator, p);
          }};
}

Case sgd_case(double momentum, double dampening, bool nesterov, bool first, float wd, float scale) {
  const float lr = 0.05f;
  const SgdParameters parameters = {.momentum = momentum, .dampening = dampening, .nesterov = nesterov, .first_step = first};
  return {"SGD momentum " + std::to_string(momentum) + (nesterov ? " nesterov" : "") + (first ? " first" : ""),
          [=](State& s, int64_t begin, int64_t end, DType compute) {
            sgd_step(piece_of(s, begin, end, compute, scale, lr, wd), momentum == 0 ? nullptr : s.s0.data() + begin, parameters);
          },
          [=](State& s, size_t i) {
            const float mu = static_cast<float>(momentum);
            const float g = std::fma(wd, s.p[i], s.g[i] * scale);
            float d = g;
            if (momentum != 0) {
              s.s0[i] = first ? g : std::fma(mu, s.s0[i], static_cast<float>(1 - dampening) * g);
              d = nesterov ? std::fma(mu, s.s0[i], g) : s.s0[i];
            }
            s.p[i] = std::fma(-lr, d, s.p[i]);
          }};
}

Case lion_case(float wd, float scale) {
  const float lr = 1e-3f;
  const LionParameters parameters = {.beta1 = 0.9, .beta2 = 0.99};
  return {"Lion wd " + std::to_string(wd),
          [=](State& s, int64_t begin, int64_t end, DType compute) {
            lion_step(piece_of(s, begin, end, compute, scale, lr, wd), s.s0.data() + begin, parameters);
          },
          [=](State& s, size_t i) {
            const float difference = s.g[i] * scale - s.s0[i];
            const float c = std::fma(static_cast<float>(1 - 0.9), difference, s.s0[i]);
            s.s0[i] = std::fma(static_cast<float>(1 - 0.99), difference, s.s0[i]);
            s.p[i] = std::fma(-lr, c > 0 ? 1.0f : c < 0 ? -1.0f : c, s.p[i] * static_cast<float>(1 - double{lr} * double{wd}));
          }};
}

std::vector<Case> all_cases() {
  return {adam_case(true, 0.1f, 1.0f, 1),
          adam_case(true, 0.0f, 0.37f, 10),
          adam_case(false, 0.1f, 0.5f, 3),
          adam_case(false, 0.0f, 1.0f, 1000),
          sgd_case(0, 0, false, false, 0.1f, 0.5f),
          sgd_case(0.9, 0, false, true, 0.01f, 1.0f),
          sgd_case(0.9, 0.1, false, false, 0, 2.0f),
          sgd_case(0.9, 0, true, true, 0.01f, 1.0f),
          sgd_case(0.9, 0, true, false, 0.01f, 1.0f),
          lion_case(0.1f, 1.0f),
          lion_case(0.0f, 0.25f)};
}

TEST_F(HostOptimizerTargets, AllEqualThePlainLoopOnNastyValues) {
  int scalar = 0;
  for_each_target([&](const char* target) {
    scalar += std::string(target) == "SCALAR";
    for (const Case& c : all_cases()) {
      for (const size_t n : {0, 1, 5, 16, 31, 33, 2007}) {
        State kernel(n, true), plain(n, true);
        c.run(kernel, 0, static_cast<int64_t>(n), DType::F32);
        for (size_t i = 0; i < n; ++i) c.plain(plain, i);
        EXPECT_TRUE(same(kernel.p, plain.p)) << c.name << " " << target << " master";
        EXPECT_TRUE(same(kernel.s0, plain.s0)) << c.name << " " << target << " first state";
        EXPECT_TRUE(same(kernel.s1, plain.s1)) << c.name << " " << target << " second state";
        EXPECT_TRUE(same(kernel.g, plain.g)) << c.name << " " << target << " gradient";
      }
    }
  });
  EXPECT_GE(scalar, 1);
}

TEST(HostOptimizer, AnySplitIntoSlicesGivesTheSameBits) {
  constexpr int64_t n = 1003;
  std::mt19937 random(5);
  for (const Case& c : all_cases()) {
    for (const DType compute : {DType::F32, DType::BF16, DType::F16}) {
      State whole(n, true), split(n, true);
      c.run(whole, 0, n, compute);
      for (int64_t begin = 0; begin < n;) {
        const int64_t end = std::min<int64_t>(n, begin + 1 + static_cast<int64_t>(random() % 70));
        c.run(split, begin, end, compute);
        begin = end;
      }
      EXPECT_TRUE(same(whole.p, split.p)) << c.name;
      EXPECT_TRUE(same(whole.s0, split.s0)) << c.name;
      EXPECT_TRUE(same(whole.s1, split.s1)) << c.name;
      EXPECT_EQ(whole.half, split.half) << c.name;
    }
  }
}

TEST(HostOptimizer, WritesOnlyTheSlice) {
  for (const Case& c : all_cases()) {
    State state(200);
    const State before = state;
    c.run(state, 50, 117, DType::BF16);
    for (size_t i = 0; i < 200; ++i) {
      if (i >= 50 && i < 117) continue;
      EXPECT_EQ(state.p[i], before.p[i]);
      EXPECT_EQ(state.s0[i], before.s0[i]);
      EXPECT_EQ(state.s1[i], before.s1[i]);
      EXPECT_EQ(state.half[i], 0);
    }
    EXPECT_NE(state.p[50], before.p[50]) << c.name;
    EXPECT_NE(state.p[116], before.p[116]) << c.name;
  }
}

TEST(HostOptimizer, ComputeCopyIsTheCastOfTheMaster) {
  for (const Case& c : all_cases()) {
    for (const DType type : {DType::BF16, DType::F16}) {
      State state(777, true);
      c.run(state, 0, 777, type);
      std::vector<uint16_t> expected(777);
      cast_from_fp32(state.p.data(), expected.data(), type, 777);
      EXPECT_EQ(state.half, expected) << c.name;
    }
  }
  State state(40);
  Values copy(40);
  OptimizerPiece piece = piece_of(state, 0, 40, DType::F32, 1, 0.1f, 0);
  piece.compute = copy.data();
  sgd_step(piece, nullptr, {});
  EXPECT_TRUE(same(copy, state.p));
  piece.compute_type = DType::F64;
  EXPECT_THROW(sgd_step(piece, nullptr, {}), ProtocolError);
}

// Parameters after six steps of torch.optim in fp64 (PyTorch 2.11), lr 1/16, weight decay 1/8, gradients as below.
TEST(HostOptimizer, SixStepsEqualTorchOptim) {
  constexpr float lr = 0.0625f, wd = 0.125f;
  const auto run = [&](const std::function<void(const OptimizerPiece&, Values&, Values&, int)>& step, const std::vector<double>& expected) {
    Values p = {0.5f, -1.25f, 2.0f, 0.0f}, g(4), s0(4), s1(4);
    for (int t = 0; t < 6; ++t) {
      for (int i = 0; i < 4; ++i) g[static_cast<size_t>(i)] = static_cast<float>((t * 7 + i * 3) % 11 - 5) / 8;
      step({.master = p.data(), .gradient = g.data(), .count = 4, .lr = lr, .weight_decay = wd}, s0, s1, t);
    }
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(p[i], expected[i], 1e-6);
  };
  for (const bool decoupled : {true, false}) {
    run(
        [&](const OptimizerPiece& piece, Values& m, Values& v, int t) {
          adam_step(piece, m.data(), v.data(),
                    {.beta1 = 0.9,
                     .beta2 = 0.999,
                     .eps = 1e-8,
                     .step_size = lr / (1 - std::pow(0.9, t + 1)),
                     .inv_sqrt_bias_correction2 = 1 / std::sqrt(1 - std::pow(0.999, t + 1)),
                     .decoupled = decoupled});
        },
        decoupled ? std::vector<double>{0.57687825452752, -1.22758932586987, 1.85610729890049, -0.097989448825499}
                  : std::vector<double>{0.557022329114812, -1.17070056979769, 1.76313392784815, -0.0954769204102311});
  }
  const auto sgd = [&](SgdParameters parameters, const std::vector<double>& expected) {
    run(
        [&](const OptimizerPiece& piece, Values& buffer, Values&, int t) {
          parameters.first_step = t == 0;
          sgd_step(piece, parameters.momentum == 0 ? nullptr : buffer.data(), parameters);
        },
        expected);
  };
  sgd({.momentum = 0, .dampening = 0, .nesterov = false, .first_step = false},
      {0.49192653468242, -1.23093468566441, 1.90030872781131, 0.0242163086086293});
  sgd({.momentum = 0.9, .dampening = 0.25, .nesterov = false, .first_step = true},
      {0.541516973769014, -1.17433112365674, 1.75983345543359, -0.0687232993933192});
  sgd({.momentum = 0.9, .dampening = 0, .nesterov = true, .first_step = true},
      {0.490640716013533, -1.17698511248407, 1.65216501103105, -0.0112117626288609});
}

TEST(HostOptimizer, ManyLionStepsEqualTheFormulaInDouble) {
  constexpr size_t n = 100;
  State s(n);
  std::fill(s.s0.begin(), s.s0.end(), 0.0f);
  std::vector<double> p(s.p.begin(), s.p.end()), m(n);
  for (int t = 0; t < 20; ++t) {
    s.g = random_values(n, 1.0f, 100 + static_cast<uint64_t>(t));
    lion_step({.master = s.p.data(), .gradient = s.g.data(), .count = n, .lr = 0.01f, .weight_decay = 0.1f}, s.s0.data(),
              {.beta1 = 0.9, .beta2 = 0.99});
    for (size_t i = 0; i < n; ++i) {
      const double u = 0.9 * m[i] + 0.1 * double{s.g[i]};
      p[i] = p[i] * (1 - 0.01 * 0.1) - 0.01 * (u > 0 ? 1 : u < 0 ? -1 : 0);
      m[i] = 0.99 * m[i] + 0.01 * double{s.g[i]};
    }
  }
  for (size_t i = 0; i < n; ++i) {
    EXPECT_NEAR(s.p[i], p[i], 1e-6);
    EXPECT_NEAR(s.s0[i], m[i], 1e-6);
  }
}

TEST(HostOptimizer, LionLeavesAParameterWithoutMomentumAlone) {
  Values p = {-0.5f}, g = {0.0f}, m = {0.0f};
  lion_step({.master = p.data(), .gradient = g.data(), .count = 1, .lr = 0.1f}, m.data(), {.beta1 = 0.9, .beta2 = 0.99});
  EXPECT_EQ(p[0], -0.5f);
  g[0] = kNan;
  lion_step({.master = p.data(), .gradient = g.data(), .count = 1, .lr = 0.1f}, m.data(), {.beta1 = 0.9, .beta2 = 0.99});
  EXPECT_TRUE(std::isnan(p[0]));
}

TEST(HostOptimizer, GradientScaleIsFoldedIntoTheGradient) {
  State scaled(100), plain(100);
  for (float& g : plain.g) g *= 0.125f;
  adam_case(true, 0.1f, 0.125f, 2).run(scaled, 0, 100, DType::F32);
  adam_case(true, 0.1f, 1.0f, 2).run(plain, 0, 100, DType::F32);
  EXPECT_TRUE(same(scaled.p, plain.p));
  EXPECT_TRUE(same(scaled.s1, plain.s1));
}

TEST(HostOptimizer, LearningRateZeroKeepsTheMastersBits) {
  State state(200, true);
  const State before = state;
  OptimizerPiece piece = piece_of(state, 0, 200, DType::BF16, 1, 0, 0.1f);
  const auto unchanged = [&] {
    for (size_t i = 0; i < 200; ++i) ASSERT_EQ(bits(state.p[i]), bits(before.p[i])) << i;
  };
  for (int t = 0; t < 3; ++t) {
    adam_step(piece, state.s0.data(), state.s1.data(),
              {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step_size = 0, .inv_sqrt_bias_correction2 = 1, .decoupled = true});
    unchanged();
    sgd_step(piece, nullptr, {.momentum = 0, .dampening = 0, .nesterov = false, .first_step = false});
    sgd_step(piece, state.s0.data(), {.momentum = 0.9, .dampening = 0, .nesterov = true, .first_step = false});
    unchanged();
    lion_step(piece, state.s0.data(), {.beta1 = 0.9, .beta2 = 0.99});
    unchanged();
  }
  EXPECT_NE(state.s1[1], before.s1[1]);
  EXPECT_NE(state.half[1], 0);
}

}  // namespace
}  // namespace zerostep
