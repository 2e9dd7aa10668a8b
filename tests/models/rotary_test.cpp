#include "models/rotary.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <numbers>

#include "tests/models/support/whole_model.h"

namespace zerostep {
namespace {

TEST(Rotary, TurnsEachPairByItsAngle) {
  const int64_t positions = 5, heads = 3, width = 10;
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor rows = at::randn({2 * positions, heads * width}).to(type), at = at::tensor({0, 3, 1, 7, 1000}, at::kLong);
    at::Tensor turned = rows.clone();
    const Rotation rotation = make_rotation(rotary_frequencies({.rope_theta = 500}, width), at);
    rotate_(turned, rotation);
    at::Tensor expected = at::empty(rows.sizes(), at::kDouble);
    for (int64_t r = 0; r < rows.size(0); ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < width / 2; ++i) {
          const double angle = at[r % positions].item<double>() * std::pow(500.0, -2.0 * static_cast<double>(i) / width);
          const int64_t first = h * width + i, second = first + width / 2;
          const auto z = std::complex(rows[r][first].item<double>(), rows[r][second].item<double>()) * std::polar(1.0, angle);
          expected[r][first] = z.real();
          expected[r][second] = z.imag();
        }
      }
    }
    EXPECT_LT(relative_distance(turned, expected), type == at::kFloat ? 2e-5 : type == at::kHalf ? 5e-4 : 4e-3);
    rotate_(turned, rotation, true);
    EXPECT_LT(relative_distance(turned, rows), type == at::kFloat ? 1e-6 : type == at::kHalf ? 1e-3 : 8e-3);
  }
}

// Llama 3.1's own values: waves shorter than 8192 / 4 positions as they are, longer than 8192 divided by 8, smooth between.
TEST(Rotary, Llama3StretchesLongWavesAlone) {
  const RotaryOptions plain{.rope_theta = 500000};
  RotaryOptions scaled = plain;
  scaled.type = RotaryOptions::Type::Llama3;
  scaled.factor = 8, scaled.low_freq_factor = 1, scaled.high_freq_factor = 4, scaled.original_max_position_embeddings = 8192;
  const at::Tensor before = rotary_frequencies(plain, 128), after = rotary_frequencies(scaled, 128);
  int64_t kept = 0, stretched = 0;
  for (int64_t i = 0; i < 64; ++i) {
    const double f = before[i].item<double>(), wave = 2 * std::numbers::pi / f, g = after[i].item<double>();
    if (wave < 2048) {
      EXPECT_EQ(g, f);
      ++kept;
    } else if (wave > 8192) {
      EXPECT_NEAR(g, f / 8, 1e-7 * f);
      ++stretched;
    } else {
      const double share = (8192 / wave - 1) / 3;
      EXPECT_NEAR(g, (1 - share) * f / 8 + share * f, 1e-6 * f);
    }
  }
  EXPECT_EQ(kept, 29);
  EXPECT_EQ(stretched, 29);
}

TEST(Rotary, MisuseIsNamed) {
  const Rotation rotation = make_rotation(rotary_frequencies({}, 8), at::arange(3));
  EXPECT_ANY_THROW(rotate_(at::zeros({4, 8}), rotation));
  EXPECT_ANY_THROW(rotate_(at::zeros({3, 12}), rotation));
  EXPECT_ANY_THROW(rotate_(at::zeros({8, 3}).t(), rotation));
}

}  // namespace
}  // namespace zerostep
