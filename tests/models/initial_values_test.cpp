#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/noise.h"
#include "models/gpt2/gpt2.h"

namespace zerostep {
namespace {

std::vector<float> values_of(const ParameterInfo& p, uint64_t seed) {
  std::vector<float> v(p.num_elements());
  initial_values(p, seed, 0, p.num_elements(), v.data());
  return v;
}

TEST(InitialValues, AnySliceIsTheSliceOfTheWhole) {
  ParameterInfo p{.name = "w", .shape = {37, 53}, .first = 1234567, .init = {ParameterInit::Kind::Normal, 0.02f}};
  const auto whole = values_of(p, 9);
  for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 1}, {1, 700}, {63, 66}, {1000, 961}, {1961, 0}}) {
    std::vector<float> slice(count);
    initial_values(p, 9, begin, count, slice.data());
    EXPECT_EQ(slice, std::vector<float>(whole.begin() + begin, whole.begin() + begin + count)) << begin;
  }
  EXPECT_THROW(initial_values(p, 9, 1961, 1, std::vector<float>(1).data()), ProtocolError);
}

TEST(InitialValues, AreTheNoiseOfTheGlobalElementIndexTimesTheDeviation) {
  ParameterInfo p{.name = "w", .shape = {40}, .first = 777, .init = {ParameterInit::Kind::Normal, 0.25f}};
  std::vector<float> noise(40);
  fill_normal({5, NoiseTag::Initialisation}, 777, 40, noise.data());
  const auto v = values_of(p, 5);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(v[i], 0.25f * noise[i]);
  EXPECT_NE(values_of(p, 6), v);
}

TEST(InitialValues, FollowHuggingFacesInitialisation) {
  Gpt2Options o;
  o.n_layer = 8, o.n_embd = 64, o.n_head = 4, o.n_positions = 32, o.vocab_size = 301;
  const auto model = make_gpt2(o);
  for (const UnitInfo& unit : model->units()) {
    for (const ParameterInfo& p : unit.parameters) {
      const auto v = values_of(p, 1);
      double sum = 0, squares = 0;
      for (float x : v) sum += x, squares += static_cast<double>(x) * x;
      const double n = static_cast<double>(v.size()), mean = sum / n, deviation = std::sqrt(squares / n);
      const bool norm = p.name.find("ln_") != std::string::npos;
      const bool bias = p.name.ends_with(".bias");
      if (bias || norm) {
        EXPECT_EQ(squares, bias ? 0 : n) << p.name;
        EXPECT_EQ(sum, bias ? 0 : n) << p.name;
        continue;
      }
      const double expected = p.name.ends_with("c_proj.weight") ? 0.02 / std::sqrt(16.0) : 0.02;
      EXPECT_NEAR(mean, 0, 5 * expected / std::sqrt(n)) << p.name;
      EXPECT_NEAR(deviation, expected, 5 * expected / std::sqrt(2 * n)) << p.name;
    }
  }
}

}  // namespace
}  // namespace zerostep
