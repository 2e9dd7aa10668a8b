#include "offload/host_optimizer.h"

#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"

namespace zerostep {
namespace {

using Values = std::vector<float>;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }

// Equal bits, where every NaN equals every other: which operand's payload survives is the instruction's choice.
testing::AssertionResult same(const Values& a, const Values& b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << a.size() << " against " << b.size() << " values";
  for (size_t i = 0; i < a.size(); ++i) {
    if (bits(a[i]) != bits(b[i]) && !(std::isnan(a[i]) && std::isnan(b[i]))) {
      return testing::AssertionFailure() << "element " << i << ": " << a[i] << " against " << b[i];
    }
  }
  return testing::AssertionSuccess();
}

Values random_values(size_t count, float scale, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Values v(count);
  for (float& x : v) x = scale * normal(random);
  return v;
}

const Values kNasty = {0.0f, -0.0f, 1e-45f, -1e-45f, 1.17549435e-38f, 1e-30f,   -1e30f,  3.4e38f, -3.4e38f,
                       kInf, -kInf, kNan,   1.0f,    -1.0f,           65504.0f, 65520.0f};

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

OptimizerSlice slice_of(State& s, int64_t begin, int64_t end, DType compute, float scale, float lr, float wd) {
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
            adam_step(slice_of(s, begin, end, compute, scale, static_cast<float>(lr), wd), s.s0.data() + begin, s.s1.data() + begin,
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
            sgd_step(slice_of(s, begin, end, compute, scale, lr, wd), momentum == 0 ? nullptr : s.s0.data() + begin, parameters);
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
            lion_step(slice_of(s, begin, end, compute, scale, lr, wd), s.s0.data() + begin, parameters);
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

class HostOptimizerTargets : public testing::Test {
 protected:
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
  // Calls check for every instruction set of this machine that there is code for, and for the scalar code.
  static void for_each_target(const std::function<void(const char*)>& check) {
    hwy::SetSupportedTargetsForTest(0);
    const int64_t supported = hwy::SupportedTargets();
    for (int bit = 0; bit < 63; ++bit) {
      const int64_t target = int64_t{1} << bit;
      if ((supported & target) == 0 && target != HWY_STATIC_TARGET) continue;
      hwy::SetSupportedTargetsForTest(target);
      check(host_optimizer_target());
    }
    hwy::SetSupportedTargetsForTest(0);
  }
};

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
  OptimizerSlice slice = slice_of(state, 0, 40, DType::F32, 1, 0.1f, 0);
  slice.compute = copy.data();
  sgd_step(slice, nullptr, {});
  EXPECT_TRUE(same(copy, state.p));
  slice.compute_type = DType::F64;
  EXPECT_THROW(sgd_step(slice, nullptr, {}), ProtocolError);
}

// Parameters after six steps of torch.optim in fp64 (PyTorch 2.11), lr 1/16, weight decay 1/8, gradients as below.
TEST(HostOptimizer, SixStepsEqualTorchOptim) {
  constexpr float lr = 0.0625f, wd = 0.125f;
  const auto run = [&](const std::function<void(const OptimizerSlice&, Values&, Values&, int)>& step, const std::vector<double>& expected) {
    Values p = {0.5f, -1.25f, 2.0f, 0.0f}, g(4), s0(4), s1(4);
    for (int t = 0; t < 6; ++t) {
      for (int i = 0; i < 4; ++i) g[static_cast<size_t>(i)] = static_cast<float>((t * 7 + i * 3) % 11 - 5) / 8;
      step({.master = p.data(), .gradient = g.data(), .count = 4, .lr = lr, .weight_decay = wd}, s0, s1, t);
    }
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(p[i], expected[i], 1e-6);
  };
  for (const bool decoupled : {true, false}) {
    run(
        [&](const OptimizerSlice& slice, Values& m, Values& v, int t) {
          adam_step(slice, m.data(), v.data(),
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
        [&](const OptimizerSlice& slice, Values& buffer, Values&, int t) {
          parameters.first_step = t == 0;
          sgd_step(slice, parameters.momentum == 0 ? nullptr : buffer.data(), parameters);
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
  OptimizerSlice slice = slice_of(state, 0, 200, DType::BF16, 1, 0, 0.1f);
  const auto unchanged = [&] {
    for (size_t i = 0; i < 200; ++i) ASSERT_EQ(bits(state.p[i]), bits(before.p[i])) << i;
  };
  for (int t = 0; t < 3; ++t) {
    adam_step(slice, state.s0.data(), state.s1.data(),
              {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step_size = 0, .inv_sqrt_bias_correction2 = 1, .decoupled = true});
    unchanged();
    sgd_step(slice, nullptr, {.momentum = 0, .dampening = 0, .nesterov = false, .first_step = false});
    sgd_step(slice, state.s0.data(), {.momentum = 0.9, .dampening = 0, .nesterov = true, .first_step = false});
    unchanged();
    lion_step(slice, state.s0.data(), {.beta1 = 0.9, .beta2 = 0.99});
    unchanged();
  }
  EXPECT_NE(state.s1[1], before.s1[1]);
  EXPECT_NE(state.half[1], 0);
}

// Sums.
TEST_F(HostOptimizerTargets, SumOfSquares) {
  Values v = random_values(10007, 3.0f, 9);  // of such different sizes that the order of the sums shows
  for (size_t i = 0; i < v.size(); ++i) v[i] = std::ldexp(v[i], static_cast<int>(i * 7919 % 31) - 15);
  for (const int64_t count : {0, 1, 31, 32, 127, 128, 129, 255, 256, 10007}) {
    long double expected = 0;
    double lanes[32] = {};
    for (int64_t i = 0; i < count; ++i) expected += static_cast<long double>(v[static_cast<size_t>(i)]) * v[static_cast<size_t>(i)];
    // The documented order: a line of 16 values of each of eight streams in turn, then the rest.
    const int64_t length = count / 128 * 16;
    const auto add = [&](int64_t lane, int64_t i) {
      const double x = v[static_cast<size_t>(i)];
      lanes[lane] += x * x;
    };
    for (int64_t line = 0; line < length; line += 16) {
      for (int64_t s = 0; s < 8; ++s) {
        for (int64_t j = line; j < line + 16; ++j) add(8 * (s % 4) + j % 8, s * length + j);
      }
    }
    for (int64_t j = 0; j < count - 8 * length; ++j) add(j % 32, 8 * length + j);
    for (int half = 16; half > 0; half /= 2) {
      for (int k = 0; k < half; ++k) lanes[k] += lanes[k + half];
    }
    for_each_target([&](const char* target) {
      const double found = sum_of_squares(v.data(), count);
      EXPECT_EQ(found, lanes[0]) << target << " " << count;
      EXPECT_NEAR(found, static_cast<double>(expected), 1e-12 * static_cast<double>(expected));
      Values shifted(static_cast<size_t>(count) + 3);
      std::copy_n(v.begin(), count, shifted.begin() + 3);
      EXPECT_EQ(sum_of_squares(shifted.data() + 3, count), found);
    });
  }
}

TEST_F(HostOptimizerTargets, SumOfSquaresShowsEveryNonFiniteValueAndNeverOverflows) {
  for_each_target([](const char* target) {
    for (const float bad : {kInf, -kInf, kNan}) {
      for (const size_t at : {0, 17, 63, 64, 99}) {
        Values v(100, 1.0f);
        v[at] = bad;
        EXPECT_FALSE(std::isfinite(sum_of_squares(v.data(), 100))) << target << " " << bad << " at " << at;
      }
    }
    const Values large(100, 3e38f), small(100, 1e-45f);
    EXPECT_NEAR(sum_of_squares(large.data(), 100) / (100 * double{3e38f} * double{3e38f}), 1.0, 1e-14);
    EXPECT_NEAR(sum_of_squares(small.data(), 100) / (100 * double{1e-45f} * double{1e-45f}), 1.0, 1e-14);
  });
}

// Casts, against a table of all values of the 16-bit type.
double value_of(uint16_t half, DType type) {
  if (type == DType::BF16) return double{std::bit_cast<float>(uint32_t{half} << 16)};
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  const double sign = half >> 15 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

// Nearest even among the non-negative values, by search; beyond the largest value as if one more followed it.
uint16_t nearest(float x, DType type) {
  const auto sign = static_cast<uint16_t>(bits(x) >> 16 & 0x8000);
  const double a = std::fabs(double{x});
  const uint16_t infinity = type == DType::BF16 ? 0x7F80 : 0x7C00;
  uint16_t low = 0, high = infinity;
  if (std::isinf(a)) return sign | infinity;
  while (high - low > 1) {
    const auto middle = static_cast<uint16_t>((low + high) / 2);
    (value_of(middle, type) <= a ? low : high) = middle;
  }
  const double below = value_of(low, type);
  const double above = high == infinity ? 2 * below - value_of(static_cast<uint16_t>(low - 1), type) : value_of(high, type);
  const double down = a - below, up = above - a;
  return sign | (down < up || (down == up && low % 2 == 0) ? low : high);
}

TEST_F(HostOptimizerTargets, CastsRoundToNearestEven) {
  for (const DType type : {DType::BF16, DType::F16}) {
    Values values = kNasty;
    const uint16_t infinity = type == DType::BF16 ? 0x7F80 : 0x7C00;
    for (int h = 0; h + 1 < infinity; ++h) {  // every value, every midpoint, and the neighbours of the midpoints
      const double a = value_of(static_cast<uint16_t>(h), type), b = value_of(static_cast<uint16_t>(h + 1), type);
      const auto middle = static_cast<float>((a + b) / 2);
      for (const float x : {static_cast<float>(a), middle, std::nextafter(middle, 0.0f), std::nextafter(middle, kInf)}) {
        values.push_back(x);
        values.push_back(-x);
      }
    }
    for (const float x : {65519.996f, 65520.0f, 65536.0f, 3.3895314e38f, 3.3961775e38f, 3.4028235e38f, 2.9802322e-8f, 2.9802326e-8f}) {
      values.push_back(x);
    }
    std::mt19937 random(3);
    for (int i = 0; i < 100000; ++i) values.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
    std::vector<uint16_t> expected(values.size());
    for (size_t i = 0; i < values.size(); ++i) expected[i] = std::isnan(values[i]) ? 0 : nearest(values[i], type);
    for_each_target([&](const char* target) {
      std::vector<uint16_t> found(values.size() + 1, 7);
      cast_from_fp32(values.data(), found.data(), type, static_cast<int64_t>(values.size()));
      EXPECT_EQ(found.back(), 7);
      int failures = 0;
      for (size_t i = 0; i < values.size() && failures < 5; ++i) {
        const bool good = std::isnan(values[i]) ? std::isnan(value_of(found[i], type)) && found[i] >> 15 == bits(values[i]) >> 31
                                                : found[i] == expected[i];
        failures += !good;
        EXPECT_TRUE(good) << target << " " << name_of(type) << ": " << values[i] << " gives " << found[i] << ", expected " << expected[i];
      }
    });
  }
}

TEST_F(HostOptimizerTargets, CastsBackAreExact) {
  for (const DType type : {DType::BF16, DType::F16}) {
    std::vector<uint16_t> all(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
    for_each_target([&](const char* target) {
      Values wide(all.size());
      cast_to_fp32(all.data(), type, wide.data(), 65536);
      std::vector<uint16_t> back(all.size());
      cast_from_fp32(wide.data(), back.data(), type, 65536);
      for (size_t i = 0; i < all.size(); ++i) {
        const double expected = value_of(all[i], type);
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(wide[i])) << target << " " << i;
        } else {
          ASSERT_EQ(bits(wide[i]), bits(static_cast<float>(expected))) << target << " " << i;
          ASSERT_EQ(back[i], all[i]) << target;
        }
      }
      Values one(1);
      cast_to_fp32(&all[0x3C01], type, one.data(), 1);
      EXPECT_EQ(one[0], wide[0x3C01]);
    });
  }
}

// NaNs keep their upper payload on every target, so that files written on two machines are equal.
TEST_F(HostOptimizerTargets, CastsKeepTheBitsOfNan) {
  Values nans;
  for (const uint32_t b : {0x7FC00000u, 0xFFC00000u, 0x7F800001u, 0x7FFFFFFFu, 0xFF812345u, 0x7FA5A5A5u}) {
    for (int i = 0; i < 7; ++i) nans.push_back(std::bit_cast<float>(b));
  }
  for (const DType type : {DType::BF16, DType::F16}) {
    hwy::SetSupportedTargetsForTest(HWY_STATIC_TARGET);
    std::vector<uint16_t> expected(nans.size());
    cast_from_fp32(nans.data(), expected.data(), type, static_cast<int64_t>(nans.size()));
    EXPECT_EQ(expected[0], type == DType::BF16 ? 0x7FC0 : 0x7E00);
    for_each_target([&](const char* target) {
      std::vector<uint16_t> found(nans.size());
      cast_from_fp32(nans.data(), found.data(), type, static_cast<int64_t>(nans.size()));
      EXPECT_EQ(found, expected) << target;
    });
  }
}

TEST(HostOptimizer, CastsOfFp32AreCopiesAndFp64IsRefused) {
  const Values v = random_values(33, 1, 1);
  Values copy(33);
  cast_from_fp32(v.data(), copy.data(), DType::F32, 33);
  EXPECT_TRUE(same(copy, v));
  Values back(33);
  cast_to_fp32(v.data(), DType::F32, back.data(), 33);
  EXPECT_TRUE(same(back, v));
  EXPECT_THROW(cast_from_fp32(v.data(), copy.data(), DType::F64, 1), ProtocolError);
  EXPECT_THROW(cast_to_fp32(v.data(), DType::F64, copy.data(), 1), ProtocolError);
}

}  // namespace
}  // namespace zerostep
