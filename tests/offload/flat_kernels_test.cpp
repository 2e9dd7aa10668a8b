#include "offload/flat_kernels.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "base/noise_math.h"
#include "tests/offload/support/host_kernels.h"

// Operations of the interface against loops over elements written from their descriptions, on the caller's stream and on a worker's, with
// any number of threads: the bits are the same.
namespace zerostep {
namespace {

using test::random_values;
using test::same;
using test::Values;
using Which = GradientEntries::Which;

constexpr int64_t kRows = 191, kColumns = 733, kCount = kRows * kColumns;  // more than every grain of the threads
constexpr uint64_t kFirst = 12345;
constexpr float kThreshold = 0.4f;
constexpr uint32_t kNumbers[] = {0, 1, 5};
constexpr float kScalars[] = {0.7f, -1.3f, 0.11f};

const Values& gradient() {
  static const Values values = random_values(kCount, 0.5f, 7);
  return values;
}

ParameterPiece piece_of(int64_t begin, int64_t count) { return {kFirst, kRows, kColumns, begin, count}; }
NoiseSource noise_of(NoiseKind kind, int64_t rank) { return {kind, {3, NoiseTag::Direction, 17, 4}, rank, 5}; }
std::vector<NoiseSource> noises() {
  return {noise_of(NoiseKind::Gaussian, 0), noise_of(NoiseKind::Rademacher, 0), noise_of(NoiseKind::Gaussian, 3)};
}

// z of the whole matrix by its definition, an element at a time.
Values defined_noise(NoiseSource noise) {
  Values out(kCount);
  const auto normals = [&](NoiseTag tag, uint64_t step, int64_t count) {
    Values values;
    const NoiseKey key{noise.key.seed, tag, step, noise.key.stream};
    for (int64_t i = 0; i < count; ++i) values.push_back(noise_normal(key, kFirst + static_cast<uint64_t>(i)));
    return values;
  };
  const Values u = normals(NoiseTag::LowRankU, noise.key.step, kRows * noise.rank),
               v = normals(NoiseTag::LowRankV, noise.key.step / noise.refresh, kColumns * noise.rank);
  const auto rank = static_cast<size_t>(noise.rank);
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t row = i / kColumns, column = i % kColumns;
    if (rank == 0) out[i] = (noise.kind == NoiseKind::Gaussian ? noise_normal : noise_rademacher)(noise.key, kFirst + i);
    for (size_t k = 0; k < rank; ++k) out[i] = std::fma(u[row * rank + k], v[column * rank + k], out[i]);
    if (rank > 0) out[i] *= static_cast<float>(1 / std::sqrt(static_cast<double>(rank)));
  }
  return out;
}

Values defined_estimate(const NoiseEstimate& e) {
  Values out(kCount, 0.0f);
  for (int64_t d = 0; d < e.num_directions; ++d) {
    NoiseSource noise = e.noise;
    noise.key.stream = e.numbers[d];
    const Values z = defined_noise(noise);
    for (size_t i = 0; i < out.size(); ++i) out[i] = std::fma(e.scalars[d], z[i], out[i]);
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const float g = gradient()[i], sum = out[i] * e.scale;
    const bool kept = std::fabs(g) >= e.entries.threshold;
    if (e.entries.which == Which::None) out[i] = sum;
    if (e.entries.which == Which::All) out[i] = std::fma(e.gradient_weight + e.blended_weight, g, sum);
    if (e.entries.which == Which::Largest) out[i] = kept ? (e.gradient_weight + e.blended_weight) * g : std::fma(e.blended_weight, g, sum);
  }
  return out;
}

Gradient estimate_of(const NoiseSource& noise, Which which) {
  return {Gradient::Kind::Estimate, nullptr, {noise, kNumbers, kScalars, 3, 1.0f / 3, {which, kThreshold}, 0.21f, 0.13f}};
}

class FlatKernelsTest : public ::testing::Test {
 protected:
  void TearDown() override { at::set_num_threads(1); }
  // Calls check(stream) with the caller's stream under several threads and with a worker's.
  template <typename Check>
  static void on_every_stream(const Check& check) {
    for (const int threads : {1, 2, 5}) {
      at::set_num_threads(threads);
      SCOPED_TRACE(std::to_string(threads) + " threads");
      check(Stream::inline_stream());
    }
    SCOPED_TRACE("a worker's");
    const Stream worker = Stream::worker("kernels");
    check(worker);
    host_kernels().keep_to_one_thread(worker);
    check(worker);
  }
  const FlatKernels& kernels_ = host_kernels();
};

TEST_F(FlatKernelsTest, CastsCopiesAndArithmetic) {
  const Values source = random_values(kCount, 100, 1);
  on_every_stream([&](Stream stream) {
    for (const DType type : {DType::BF16, DType::F16}) {
      std::vector<uint16_t> half(kCount), copy(kCount);
      Values back(kCount);
      kernels_.cast(source.data(), DType::F32, half.data(), type, kCount, stream);
      kernels_.cast(half.data(), type, copy.data(), type, kCount, stream);
      kernels_.cast(copy.data(), type, back.data(), DType::F32, kCount, stream);
      stream.synchronize();
      for (size_t i = 0; i < source.size(); ++i) {
        const uint16_t expected = type == DType::BF16 ? bf16_from_fp32(source[i]) : fp16_from_fp32(source[i]);
        ASSERT_EQ(half[i], expected);
        ASSERT_EQ(back[i], type == DType::BF16 ? fp32_from_bf16(expected) : fp32_from_fp16(expected));
      }
    }
    Values sum = gradient(), expected = sum;
    kernels_.add(source.data(), sum.data(), kCount, stream);
    kernels_.scale(0.3f, sum.data(), kCount, stream);
    kernels_.zero(sum.data() + 5, DType::F32, 70, stream);
    double squares = 2;
    kernels_.add_squares(sum.data(), kCount, &squares, stream);
    stream.synchronize();
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = i >= 5 && i < 75 ? 0.0f : (expected[i] + source[i]) * 0.3f;
    EXPECT_TRUE(same(sum, expected));
    long double plain = 2;
    for (const float x : expected) plain += static_cast<long double>(x) * static_cast<long double>(x);
    EXPECT_NEAR(squares / static_cast<double>(plain), 1, 1e-13);
  });
  EXPECT_THROW(kernels_.cast(source.data(), DType::BF16, nullptr, DType::F16, 1, Stream::inline_stream()), ProtocolError);
}

TEST_F(FlatKernelsTest, AStreamThatWorksAloneLeavesItsThreadsToOthers) {
  at::set_num_threads(3);
  Stream alone = Stream::worker("alone"), other = Stream::worker("other");
  kernels_.keep_to_one_thread(alone);
  const auto threads_of = [&](Stream& stream) {
    int threads = 0;
    Values values(kCount);
    kernels_.zero(values.data(), DType::F32, kCount, stream);
    stream.enqueue([&] { threads = at::get_num_threads(); });
    stream.synchronize();
    return threads;
  };
  EXPECT_EQ(threads_of(alone), 1);
  EXPECT_EQ(threads_of(other), 3);
  EXPECT_EQ(at::get_num_threads(), 3);
}

TEST_F(FlatKernelsTest, PerturbsAlongItsDirections) {
  const Values base = random_values(kCount, 0.1f, 3);
  for (const NoiseSource& noise : noises())
    for (const Which which : {Which::None, Which::All, Which::Largest}) {
      const Direction direction{noise, {which, kThreshold}, 0.3f, 0.9f};
      const Values z = defined_noise(noise);
      Values expected_plus(kCount), expected_minus(kCount);
      for (size_t i = 0; i < z.size(); ++i) {
        const float g = gradient()[i], a = direction.gradient_weight, b = direction.noise_weight;
        float d = z[i];
        if (which == Which::All) d = std::fma(a, g, b * z[i]);
        if (which == Which::Largest) d = std::fabs(g) >= kThreshold ? a * g : b * z[i];
        expected_plus[i] = std::fma(1e-2f, d, base[i]);
        expected_minus[i] = std::fma(-1e-2f, d, base[i]);
      }
      on_every_stream([&](Stream stream) {
        // The matrix as two pieces, which the threads cut elsewhere.
        Values plus(kCount), minus(kCount);
        std::vector<Perturbation> pieces;
        constexpr int64_t kCut = 100001;
        for (const int64_t begin : {int64_t{0}, kCut}) {
          Perturbation p{piece_of(begin, begin == 0 ? kCut : kCount - kCut), {}, gradient().data() + begin};
          p.values.base = base.data() + begin;
          p.values.plus = plus.data() + begin;
          p.values.minus = minus.data() + begin;
          pieces.push_back(p);
        }
        kernels_.perturb(pieces, direction, 1e-2f, stream);
        pieces.clear();
        stream.synchronize();
        EXPECT_TRUE(same(plus, expected_plus));
        EXPECT_TRUE(same(minus, expected_minus));
      });
    }
}

TEST_F(FlatKernelsTest, FactorsMakeTheDirection) {
  const NoiseSource noise = noise_of(NoiseKind::Gaussian, 3);
  const Values z = defined_noise(noise);
  on_every_stream([&](Stream stream) {
    Values left(3 * 3 * kRows, NAN), right(3 * 3 * kColumns, NAN);
    const LowRankFactors factors{piece_of(0, kCount), noise, 0.01, {1, 0, -1}, left.data(), right.data()};
    kernels_.low_rank_factors({&factors, 1}, stream);
    stream.synchronize();
    for (size_t branch = 0; branch < 3; ++branch)
      for (int64_t i = 0; i < kCount; i += 37) {
        double product = 0;
        for (size_t k = 0; k < 3; ++k)
          product += double{left[(branch * 3 + k) * kRows + static_cast<size_t>(i / kColumns)]} *
                     double{right[(branch * 3 + k) * kColumns + static_cast<size_t>(i % kColumns)]};
        ASSERT_NEAR(product, factors.signs[branch] * 0.01 * double{z[static_cast<size_t>(i)]}, 1e-8);
      }
  });
}

TEST_F(FlatKernelsTest, EstimatesAreTheirSumsOverDirections) {
  for (const NoiseSource& noise : noises())
    for (const Which which : {Which::None, Which::All, Which::Largest}) {
      Gradient gradient_of = estimate_of(noise, which);
      const Values expected = defined_estimate(gradient_of.estimate);
      double products = 0, squares = 0, energy = 0;
      for (size_t i = 0; i < expected.size(); ++i) {
        products += double{gradient()[i]} * double{expected[i]};
        squares += double{expected[i]} * double{expected[i]};
        energy += double{gradient()[i]} * double{gradient()[i]};
      }
      on_every_stream([&](Stream stream) {
        // The part behind an element that no block begins at, in place of the reduced gradient.
        constexpr int64_t kBegin = 5003;
        Values out(gradient().begin() + kBegin, gradient().end());
        gradient_of.reduced = out.data();
        kernels_.estimate(piece_of(kBegin, kCount - kBegin), gradient_of, out.data(), stream);
        stream.synchronize();
        EXPECT_TRUE(same(out, Values(expected.begin() + kBegin, expected.end())));
        gradient_of.reduced = gradient().data();
        double sums[3] = {1, 2, 3};
        kernels_.add_gradient_sums(piece_of(0, kCount), gradient_of, sums, stream);
        stream.synchronize();
        EXPECT_NEAR(sums[0], 1 + products, 1e-9 * energy);
        EXPECT_NEAR(sums[1], 2 + energy, 1e-9 * energy);
        EXPECT_NEAR(sums[2], 3 + squares, 1e-9 * squares);
      });
    }
}

// What an update follows is data: an estimate gives the bits that its values give as a reduced gradient.
TEST_F(FlatKernelsTest, UpdatesFollowAnEstimateAsTheyFollowItsValues) {
  const OptimizerFormula formulas[] = {AdamParameters{0.9, 0.999, 1e-8, 1e-3, 1.7, true}, SgdParameters{0.9, 0, true, false},
                                       SgdParameters{0, 0, false, false}, LionParameters{0.9, 0.99}};
  struct State {
    Values masters = random_values(kCount, 0.1f, 3), first = random_values(kCount, 0.1f, 4), second = random_values(kCount, 0.1f, 5);
    std::vector<uint16_t> parameters = std::vector<uint16_t>(kCount);
    State() {
      for (float& x : second) x *= x;
      for (size_t i = 0; i < parameters.size(); ++i) parameters[i] = bf16_from_fp32(masters[i]);
    }
    bool operator==(const State&) const = default;
  };
  const State before;
  for (const NoiseSource& noise : noises()) {
    const Gradient by_estimate = estimate_of(noise, noise.rank > 0 ? Which::Largest : Which::All);
    const Values values = defined_estimate(by_estimate.estimate);
    for (const OptimizerFormula& formula : formulas)
      for (const bool has_masters : {true, false}) {
        const auto updated = [&](Gradient from, const Values& reduced, std::vector<int64_t> begins, Stream stream) {
          State state = before;
          begins.push_back(kCount);
          for (size_t p = 0; p + 1 < begins.size(); ++p) {
            const int64_t begin = begins[p];
            PieceUpdate update;
            update.piece = piece_of(begin, begins[p + 1] - begin);
            update.gradient = from;
            update.gradient.reduced = reduced.data() + begin;
            if (has_masters) update.masters = state.masters.data() + begin;
            update.parameters = state.parameters.data() + begin;
            update.type = DType::BF16;
            update.states = {state.first.data() + begin, state.second.data() + begin};
            update.gradient_scale = 0.7f;
            update.lr = 1e-3f;
            update.weight_decay = 0.1f;
            update.rounding = {3, NoiseTag::Rounding, 17, 0};
            kernels_.update(update, formula, stream);
          }
          stream.synchronize();
          return state;
        };
        at::set_num_threads(1);
        const State expected = updated({}, values, {0}, Stream::inline_stream());
        EXPECT_NE(expected.parameters, before.parameters);
        EXPECT_EQ(expected.masters == before.masters, !has_masters);
        on_every_stream([&](const Stream& stream) { EXPECT_TRUE(updated(by_estimate, gradient(), {0, 7, 70001}, stream) == expected); });
      }
  }
}

TEST_F(FlatKernelsTest, MomentsOfMatricesMayReplaceTheirGradient) {
  for (const bool muon : {true, false})
    for (const bool flag : {true, false}) {  // Nesterov, or cautious
      const Values m0 = random_values(kCount, 0.1f, 3), v0(kCount, 0.01f);
      Values m = m0, v = v0, u(kCount);
      int64_t kept = 0;
      for (size_t i = 0; i < u.size(); ++i) {
        const float g = gradient()[i] * 0.7f, b1 = 0.9f, c1 = static_cast<float>(1 - 0.9), b2 = 0.99f, c2 = static_cast<float>(1 - 0.99);
        m[i] = b1 * m[i] + c1 * g;
        if (muon) {
          u[i] = flag ? c1 * g + b1 * m[i] : m[i];
          continue;
        }
        v[i] = b2 * v[i] + c2 * (g * g);
        u[i] = m[i] / (std::sqrt(v[i]) + 1e-3f);
        if (flag && m[i] * g <= 0) u[i] = 0;
        kept += u[i] != 0 ? 1 : 0;
      }
      if (!muon && flag)
        for (float& x : u) x *= static_cast<float>(1 / (static_cast<double>(kept) / kCount));
      on_every_stream([&](Stream stream) {
        Values found_m = m0, found_v = v0, found_u = gradient();
        MatrixMoments moments;
        moments.gradient = moments.direction = found_u.data();
        moments.first_moment = found_m.data();
        if (!muon) moments.second_moment = found_v.data();
        moments.count = kCount;
        moments.gradient_scale = 0.7f;
        moments.beta1 = 0.9;
        moments.beta2 = 0.99;
        moments.eps = 1e-3;
        moments.nesterov = moments.cautious = flag;
        moments.rescales = true;
        kernels_.matrix_direction(moments, stream);
        stream.synchronize();
        EXPECT_TRUE(same(found_u, u));
        EXPECT_TRUE(same(found_m, m));
        EXPECT_TRUE(same(found_v, v));
      });
    }
}

// What a stream was given before is done before: each operation reads what the last one wrote.
TEST_F(FlatKernelsTest, AStreamKeepsTheOrder) {
  Stream stream = Stream::worker("kernels");
  Values values(kCount, 1.0f), twice(kCount);
  for (int i = 0; i < 20; ++i) {
    kernels_.cast(values.data(), DType::F32, twice.data(), DType::F32, kCount, stream);
    kernels_.add(twice.data(), values.data(), kCount, stream);
  }
  stream.synchronize();
  EXPECT_TRUE(same(values, Values(kCount, 0x1p20f)));
  // From the stream's own thread an operation is done in the place of the work that asks for it.
  stream.enqueue([&] { kernels_.scale(0.5f, values.data(), kCount, stream); });
  kernels_.add(values.data(), values.data(), kCount, stream);
  stream.synchronize();
  EXPECT_TRUE(same(values, Values(kCount, 0x1p20f)));
}

}  // namespace
}  // namespace zerostep
