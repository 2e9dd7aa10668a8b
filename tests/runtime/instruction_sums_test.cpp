#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/noise.h"
#include "offload/block_sums.h"
#include "runtime/strategy/directions.h"
#include "runtime/strategy/instruction.h"

namespace zerostep {
namespace {

constexpr int64_t kRows = 300, kColumns = 257, kFirst = 77, kCount = kRows * kColumns - kFirst;  // five blocks, the last one not full

class InstructionSumsTest : public ::testing::Test {
 protected:
  InstructionSumsTest() {
    parameter_.name = "matrix";
    parameter_.shape = {kRows, kColumns};
    parameter_.first = 1000;
    gradient_.resize(static_cast<size_t>(kCount));
    fill_normal({5, NoiseTag::Permutation, 0, 0}, 0, kCount, gradient_.data());
    config_.queries = 3;
  }
  void TearDown() override { at::set_num_threads(1); }

  Instruction instruction(bool energy) const { return {energy, 0.5f, {}, {}, {}}; }
  std::vector<double> sums(bool energy, int threads) const {
    at::set_num_threads(threads);
    std::vector<double> out(7, 0.0);
    add_instruction_sums(Directions(config_, 9), instruction(energy), 4, parameter_, kFirst, kCount, gradient_.data(), out);
    return out;
  }
  // One element after the other, in extended precision.
  std::vector<double> expected(bool energy) const {
    std::vector<long double> out(7, 0);
    for (int64_t d = 0; d < 3; ++d) {
      std::vector<float> z(static_cast<size_t>(kCount));
      Directions(config_, 9).values(4, d, parameter_, kFirst, kCount, z.data());
      for (size_t i = 0; i < z.size(); ++i) {
        const long double g = gradient_[i], v = z[i];
        const bool kept = energy && std::abs(gradient_[i]) >= 0.5f;
        if (kept && d == 0) out[6] += g * g;
        if (kept) continue;
        out[static_cast<size_t>(2 * d)] += v * g;
        out[static_cast<size_t>(2 * d + 1)] += v * v;
      }
    }
    return {out.begin(), out.end()};
  }

  StepConfig config_;
  ParameterInfo parameter_;
  std::vector<float> gradient_;
};

TEST_F(InstructionSumsTest, ThreadsChangeNoBit) {
  using Perturbation = StepConfig::Perturbation;
  for (const Perturbation perturbation : {Perturbation::Gaussian, Perturbation::Rademacher, Perturbation::LowRank})
    for (const bool energy : {false, true}) {
      config_.perturbation = perturbation;
      const std::vector<double> one = sums(energy, 1), plain = expected(energy);
      for (size_t i = 0; i < one.size(); ++i) {
        // kCount products of size 1 at most a few, each rounded to 2^-53 of sums below kCount: 77,000 x 77,000 x 1e-16.
        EXPECT_NEAR(one[i], plain[i], 1e-6);
        EXPECT_TRUE(i == 6 || plain[i] != 0);
      }
      EXPECT_EQ(one[6] > 0, energy);
      for (const int threads : {2, 3, 7}) EXPECT_EQ(sums(energy, threads), one) << threads << " threads";
    }
}

TEST_F(InstructionSumsTest, HistogramsToo) {
  std::vector<double> first;
  for (const int threads : {1, 2, 3, 7}) {
    at::set_num_threads(threads);
    std::vector<double> bins(EnergyHistogram::kBins, 0.0);
    EnergyHistogram coarse(bins);
    coarse.add(gradient_.data(), kCount, host_kernels(), Stream::inline_stream());
    const std::vector<double> found(coarse.energy().begin(), coarse.energy().end());
    if (first.empty()) first = found;
    EXPECT_EQ(found, first) << threads << " threads";
  }
  double all = 0, squares = 0;
  for (const double energy : first) all += energy;
  for (const float g : gradient_) squares += static_cast<double>(g) * static_cast<double>(g);
  EXPECT_NEAR(all / squares, 1, 1e-10);  // 77,000 roundings of 1.1e-16 each
}

TEST_F(InstructionSumsTest, BlocksCoverEveryElementOnce) {
  at::set_num_threads(3);
  for (const int64_t elements : {int64_t{0}, int64_t{1}, kSumBlockElements, kSumBlockElements + 1, 600 * kSumBlockElements - 5}) {
    double sums[2] = {1, 2};
    add_block_sums(elements, sums, [](int64_t begin, int64_t count, std::span<double> partial) {
      partial[0] += static_cast<double>(count);
      partial[1] += static_cast<double>(begin / kSumBlockElements);
    });
    const double blocks = std::ceil(static_cast<double>(elements) / static_cast<double>(kSumBlockElements));
    EXPECT_EQ(sums[0], 1 + static_cast<double>(elements));
    EXPECT_EQ(sums[1], 2 + blocks * (blocks - 1) / 2);
  }
}

}  // namespace
}  // namespace zerostep
