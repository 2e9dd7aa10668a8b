#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "offload/flat_kernels.h"
#include "tests/offload/support/host_kernels.h"
#include "tests/offload/support/twin_memory.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"

// The kernels of a GPU against those of the host, bit by bit: over slices of any length at any place of the noise and of the memory.
namespace zerostep {
namespace {

using testing::message_of;
using testing::TwinMemory;
using At = TwinMemory::At;
using Which = GradientEntries::Which;

constexpr int64_t kCounts[] = {0, 1, 63, 64, 65, 511, 2047, 2049, 100003};
constexpr DType kTypes[] = {DType::F32, DType::BF16, DType::F16};

class CudaKernels : public ::testing::Test {
 protected:
  // Values of ordinary and of extreme sizes.
  std::vector<float> values(int64_t count, float scale, bool is_nasty = false) {
    static const std::vector<float> pool = test::random_values(1 << 20, 1, 3);
    const auto begin = pool.begin() + static_cast<int64_t>(random_() % (pool.size() - static_cast<size_t>(count)));
    std::vector<float> all(begin, begin + count);
    for (float& x : all) x *= scale;
    for (size_t i = 0; is_nasty && i < all.size(); i += 3) all[i] = nth(test::kNasty, (i / 3) % test::kNasty.size());
    return all;
  }
  std::vector<float> squares(int64_t count, float scale) {
    std::vector<float> all = values(count, scale);
    for (float& x : all) x *= x;
    return all;
  }
  // An array of parameters, or of masters, of a type.
  int64_t place(const std::vector<float>& of, DType type, bool is_aligned) {
    const int64_t shift = is_aligned ? 0 : static_cast<int64_t>(random_() % 16);
    if (type == DType::F32) return twin_.place(of, type, shift);
    std::vector<uint16_t> halves(of.size());
    for (size_t i = 0; i < of.size(); ++i) halves[i] = type == DType::BF16 ? bf16_from_fp32(of[i]) : fp16_from_fp32(of[i]);
    return twin_.place(halves, type, shift);
  }
  int64_t place(const std::vector<float>& of, bool is_aligned) { return place(of, DType::F32, is_aligned); }
  // A first element of the noise: a multiple of 64, or any, up to the last that there are.
  uint64_t first(bool is_aligned, int64_t count) {
    constexpr int64_t kLongest = 110000;  // of what has a shape
    const uint64_t limits[] = {1, 5000, uint64_t{1} << 33, (uint64_t{1} << 58) - static_cast<uint64_t>(std::max(count, kLongest))};
    const uint64_t limit = limits[random_() % 4], any = limit == limits[3] ? limit - random_() % 3000 : random_() % limit;
    return is_aligned ? any / 64 * 64 : any;
  }
  NoiseSource noise(NoiseKind kind) {
    return {kind, {random_(), NoiseTag::Direction, random_() % 1000, static_cast<uint32_t>(random_() % 50)}};
  }
  // A piece of the length, without or with a shape.
  ParameterPiece piece(bool is_aligned, int64_t count) {
    ParameterPiece p;
    p.begin = is_aligned ? 128 : static_cast<int64_t>(random_() % 1000);
    p.count = count;
    p.first = first(is_aligned, count + p.begin);
    return p;
  }
  // Calls check(is_aligned, count) for all lengths; the longest is aligned or not.
  template <typename Check>
  void for_slices(const Check& check) {
    for (const int64_t count : kCounts)
      for (const bool is_aligned : {true, false}) {
        if (count > 10000 && is_aligned == (random_() % 2 == 0)) continue;
        SCOPED_TRACE(std::to_string(count) + (is_aligned ? " elements" : " elements anywhere"));
        twin_.clear();
        check(is_aligned, count);
        if (HasFailure()) return;
      }
  }

  std::mt19937_64 random_{7};
  Device device_ = Device::cuda(0);
  TwinMemory twin_{device_, int64_t{8} << 20};
};

template <typename T>
T* as(void* data) {
  return static_cast<T*>(data);
}

TEST_F(CudaKernels, Casts) {
  for (const DType from : kTypes)
    for (const DType to : kTypes) {
      if (from != to && from != DType::F32 && to != DType::F32) continue;
      for_slices([&](bool is_aligned, int64_t count) {
        const int64_t source = place(values(count, 3, true), from, is_aligned), target = place(values(count, 1), to, is_aligned);
        EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
          kernels.cast(at(source), from, at(target), to, count, stream);
        })) << name_of(from)
            << " to " << name_of(to);
      });
    }
}

TEST_F(CudaKernels, ZerosSumsAndProducts) {
  for_slices([&](bool is_aligned, int64_t count) {
    const int64_t source = place(values(count, 3, true), is_aligned), target = place(values(count, 1, true), is_aligned),
                  scaled = place(values(count, 1, true), is_aligned), half = place(values(count, 1), DType::BF16, is_aligned);
    EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
      kernels.add(as<float>(at(source)), as<float>(at(target)), count, stream);
      kernels.scale(0.3f, as<float>(at(scaled)), count, stream);
      kernels.zero(at(half), DType::BF16, count / 2, stream);
    }));
  });
}

TEST_F(CudaKernels, DrawsNoise) {
  for (const NoiseKind kind : {NoiseKind::Gaussian, NoiseKind::Rademacher})
    for_slices([&](bool is_aligned, int64_t count) {
      const ParameterPiece p = piece(is_aligned, count);
      const NoiseSource source = noise(kind);
      const int64_t out = place(values(count, 1), is_aligned);
      EXPECT_TRUE(twin_.is_same_after(
          [&](const FlatKernels& kernels, const At& at, const Stream& stream) { kernels.draw(p, source, as<float>(at(out)), stream); }));
    });
}

TEST_F(CudaKernels, Perturbs) {
  for (const NoiseKind kind : {NoiseKind::Gaussian, NoiseKind::Rademacher})
    for (const Which which : {Which::None, Which::All, Which::Largest})
      for (const DType type : kTypes)
        for_slices([&](bool is_aligned, int64_t count) {
          const Direction direction{noise(kind), {which, 0.4f}, 0.3f, 0.9f};
          const DType base_type = random_() % 2 == 0 ? DType::F32 : type;
          const int64_t base = place(values(count, 0.1f), base_type, is_aligned), gradient = place(values(count, 0.5f), is_aligned),
                        plus = place(values(count, 1), type, is_aligned), minus = place(values(count, 1), type, is_aligned);
          const ParameterPiece p = piece(is_aligned, count);
          const uint64_t sides = random_() % 4;
          EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
            Perturbation given{p, {}, as<float>(at(gradient))};
            given.values.base = at(base);
            given.values.base_type = base_type;
            given.values.target_type = type;
            if (sides != 1) given.values.plus = at(plus);
            if (sides != 2) given.values.minus = at(minus);
            kernels.perturb({&given, 1}, direction, 1e-2f, stream);
          }));
        });
}

// More parameters than one kernel is given, some of them empty or of low rank.
TEST_F(CudaKernels, PerturbsManyParametersTogether) {
  for (const NoiseKind kind : {NoiseKind::Gaussian, NoiseKind::Rademacher}) {
    twin_.clear();
    NoiseSource source = noise(kind);
    source.rank = 2;
    std::vector<ParameterPiece> pieces;
    std::vector<int64_t> bases, targets;
    for (int i = 0; i < 75; ++i) {
      const int64_t count = i % 7 == 0 ? 0 : static_cast<int64_t>(random_() % 700);
      pieces.push_back(piece(i % 2 == 0, count));
      if (i % 10 == 3) {
        pieces.back().begin = 13;
        pieces.back().rows = 31;
        pieces.back().columns = 37;
      }
      bases.push_back(place(values(count, 1), i % 2 == 0));
      targets.push_back(place(values(count, 1), DType::BF16, i % 2 == 0));
    }
    EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
      std::vector<Perturbation> all;
      for (size_t i = 0; i < pieces.size(); ++i) {
        all.push_back({pieces[i], {}, nullptr});
        all.back().values.base = at(bases[i]);
        all.back().values.minus = at(targets[i]);
        all.back().values.target_type = DType::BF16;
      }
      kernels.perturb(all, Direction{source, {}, 0, 1}, 0.03f, stream);
    }));
  }
}

TEST_F(CudaKernels, EstimatesAndUpdates) {
  const OptimizerFormula formulas[] = {AdamParameters{0.9, 0.999, 1e-8, 1e-3, 1.7, true},
                                       AdamParameters{0.9, 0.99, 1e-8, 1e-3, 1.7, false},
                                       SgdParameters{0.9, 0.1, true, false},
                                       SgdParameters{0.9, 0.1, false, true},
                                       SgdParameters{0, 0, false, false},
                                       LionParameters{0.9, 0.99}};
  const uint32_t numbers[] = {0, 1, 5};
  const float scalars[] = {0.7f, -1.3f, 0.11f};
  for (const OptimizerFormula& formula : formulas)
    for (const int source : {0, 1, 2})  // the reduced gradient, or an estimate from either noise
      for (const bool has_masters : {true, false})
        for_slices([&](bool is_aligned, int64_t count) {
          const DType type = has_masters ? nth(kTypes, random_() % 3) : nth(kTypes, 1 + random_() % 2);
          const bool is_frozen = random_() % 8 == 0, has_copy = !has_masters || random_() % 4 != 0;
          const int64_t reduced = place(values(count, 0.5f), is_aligned), masters = place(values(count, 0.1f), is_aligned),
                        parameters = place(values(count, 0.1f), type, is_aligned), state0 = place(values(count, 0.1f), is_aligned),
                        state1 = place(squares(count, 0.1f), is_aligned), out = place(values(count, 1), is_aligned);
          PieceUpdate update;
          update.piece = piece(is_aligned, count);
          if (source != 0) {
            const auto which = static_cast<Which>(random_() % 3);
            update.gradient = {Gradient::Kind::Estimate,
                               nullptr,
                               {noise(source == 1 ? NoiseKind::Gaussian : NoiseKind::Rademacher),
                                numbers,
                                scalars,
                                1 + static_cast<int64_t>(random_() % 3),
                                1.0f / 3,
                                {which, 0.4f},
                                0.21f,
                                0.13f}};
          }
          update.type = type;
          update.gradient_scale = 0.7f;
          update.lr = is_frozen ? 0 : 1e-3f;
          update.weight_decay = 0.1f;
          update.rounding = {random_(), NoiseTag::Rounding, 17, 0};
          EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
            PieceUpdate given = update;
            given.gradient.reduced = as<float>(at(reduced));
            if (has_masters) given.masters = as<float>(at(masters));
            if (has_copy) given.parameters = at(parameters);
            given.states = {as<float>(at(state0)), as<float>(at(state1))};
            kernels.update(given, formula, stream);
            kernels.estimate(given.piece, given.gradient, as<float>(at(out)), stream);
          })) << "formula "
              << formula.index() << ", source " << source << ", " << name_of(type) << (has_masters ? " with" : " without") << " masters";
        });
}

// More directions than one kernel is given, and more elements than the memory for their sums has.
TEST_F(CudaKernels, EstimatesOfManyDirections) {
  std::vector<uint32_t> numbers(900);
  std::vector<float> scalars = values(900, 1);
  for (size_t d = 0; d < numbers.size(); ++d) numbers[d] = static_cast<uint32_t>(3 * d);
  struct Case {
    NoiseKind kind;
    int64_t count, num_directions, rank;
  };
  for (const Case& c : {Case{NoiseKind::Gaussian, 1000, 900, 0},
                        {NoiseKind::Rademacher, 530000, 385, 0},
                        {NoiseKind::Gaussian, 9999, 300, 64},
                        {NoiseKind::Gaussian, 500, 0, 0},
                        {NoiseKind::Gaussian, 500, 0, 2}}) {
    twin_.clear();
    NoiseSource source = noise(c.kind);
    source.rank = c.rank;
    ParameterPiece p = piece(false, c.count);
    if (c.rank > 0) p.rows = 100, p.columns = 110;
    const int64_t reduced = place(values(c.count, 0.5f), false), out = place(values(c.count, 1), false),
                  sums = twin_.place_sums({1, 2, 3}, 1e-12);
    EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
      const Gradient gradient{Gradient::Kind::Estimate,
                              as<float>(at(reduced)),
                              {source, numbers.data(), scalars.data(), c.num_directions, 0.1f, {Which::Largest, 0.4f}, 0.21f, 0.13f}};
      kernels.add_gradient_sums(p, gradient, as<double>(at(sums)), stream);
      kernels.estimate(p, gradient, as<float>(at(out)), stream);
      kernels.estimate(p, gradient, as<float>(at(reduced)), stream);
    })) << c.count
        << " elements, " << c.num_directions << " directions of rank " << c.rank;
  }
}

TEST_F(CudaKernels, LowRankDirections) {
  struct Case {
    int64_t rows, columns, rank, begin, count;
  };
  const uint32_t numbers[] = {2, 0, 7};
  const float scalars[] = {0.7f, -1.3f, 0.11f};
  for (const Case& c : {Case{191, 733, 3, 0, 191 * 733},
                        {191, 733, 3, 5003, 70001},
                        {191, 733, 3, 740, 100},
                        {5, 3, 3, 1, 13},
                        {3, 40, 1, 0, 120},
                        {64, 1, 1, 3, 60},
                        {20, 30, 4, 77, 0}})
    for (const bool has_masters : {true, false})
      for (const Which which : {Which::None, Which::All, Which::Largest}) {
        twin_.clear();
        NoiseSource source = noise(NoiseKind::Gaussian);
        source.rank = c.rank;
        source.refresh = 5;
        const ParameterPiece p{first(false, c.rows * c.columns), c.rows, c.columns, c.begin, c.count};
        const int64_t out = place(values(c.count, 1), false), base = place(values(c.count, 0.1f), false),
                      gradient = place(values(c.count, 0.5f), false), plus = place(values(c.count, 1), DType::F16, false),
                      parameters = place(values(c.count, 1), DType::BF16, false), state = place(values(c.count, 1), false);
        EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
          kernels.draw(p, source, as<float>(at(out)), stream);
          Perturbation given{p, {}, as<float>(at(gradient))};
          given.values.base = at(base);
          given.values.plus = at(plus);
          given.values.target_type = DType::F16;
          kernels.perturb({&given, 1}, {source, {which, 0.4f}, 0.3f, 0.9f}, 1e-2f, stream);
          PieceUpdate update;
          update.piece = p;
          update.gradient = {
              Gradient::Kind::Estimate, as<float>(at(gradient)), {source, numbers, scalars, 3, 0.3f, {which, 0.4f}, 0.2f, 0.1f}};
          if (has_masters) update.masters = as<float>(at(base));
          update.parameters = at(parameters);
          update.type = DType::BF16;
          update.states = {as<float>(at(state)), nullptr};
          update.lr = 1e-3f;
          kernels.update(update, LionParameters{0.9, 0.99}, stream);
        })) << c.rows
            << " x " << c.columns << " from " << c.begin << " on";
      }
}

TEST_F(CudaKernels, LowRankFactorsOfBranches) {
  const std::vector<std::vector<int>> of_branches = {{1, -1}, {0, 0}, {1, 0, -1}, std::vector<int>(1100, -1)};
  for (const std::vector<int>& signs : of_branches) {
    twin_.clear();
    NoiseSource source = noise(NoiseKind::Gaussian);
    source.rank = 3;
    source.refresh = 4;
    const auto branches = static_cast<int64_t>(signs.size());
    const int64_t left = place(values(branches * 3 * 19, 1), false), right = place(values(branches * 3 * 33, 1), false);
    EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
      const LowRankFactors factors{{12345, 19, 33, 0, 19 * 33}, source, 0.01, signs, as<float>(at(left)), as<float>(at(right))};
      kernels.low_rank_factors({&factors, 1}, stream);
    }));
  }
}

TEST_F(CudaKernels, MomentsOfMatrices) {
  for (int flags = 0; flags < 8; ++flags)
    for_slices([&](bool is_aligned, int64_t count) {
      const int64_t gradient = place(values(count, 0.5f), is_aligned), m = place(values(count, 0.1f), is_aligned),
                    v = place(squares(count, 0.1f), is_aligned), u = place(values(count, 1), is_aligned);
      EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
        MatrixMoments moments;
        moments.gradient = as<float>(at(gradient));
        moments.direction = as<float>(at((flags & 4) != 0 ? gradient : u));
        moments.first_moment = as<float>(at(m));
        if ((flags & 1) != 0) moments.second_moment = as<float>(at(v));
        moments.count = count;
        moments.gradient_scale = 0.7f;
        moments.beta1 = 0.9;
        moments.beta2 = 0.99;
        moments.eps = 1e-3;
        moments.nesterov = moments.cautious = (flags & 2) != 0;
        moments.rescales = true;
        kernels.matrix_direction(moments, stream);
      }));
    });
}

TEST_F(CudaKernels, SumsInAnOrderOfTheirOwn) {
  const uint32_t numbers[] = {0, 1, 5};
  const float scalars[] = {0.7f, -1.3f, 0.11f};
  constexpr double kTolerance = 1e-12;
  for (const NoiseKind kind : {NoiseKind::Gaussian, NoiseKind::Rademacher})
    for (const int64_t rank : {0, 2})
      for_slices([&](bool is_aligned, int64_t count) {
        const int64_t g = place(values(count, 0.5f), is_aligned);
        const int64_t squares = twin_.place_sums({2}, kTolerance), reduced = twin_.place_sums({1, 2, 3}, kTolerance),
                      estimated = twin_.place_sums({1, 2, 3}, kTolerance), alone = twin_.place_sums({1, 2, 3}, kTolerance),
                      directions = twin_.place_sums(std::vector<double>(2 * 20 + 1, 5.0), kTolerance);
        NoiseSource source = noise(kind);
        source.rank = rank;
        ParameterPiece p = piece(is_aligned, count);
        p.rows = 500;
        p.columns = 211;
        const auto which = static_cast<Which>(random_() % 3);
        EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
          kernels.add_squares(as<float>(at(g)), count, as<double>(at(squares)), stream);
          Gradient gradient;
          gradient.reduced = as<float>(at(g));
          kernels.add_gradient_sums(p, gradient, as<double>(at(reduced)), stream);
          gradient.kind = Gradient::Kind::Estimate;
          gradient.estimate = {source, numbers, scalars, 3, 0.3f, {which, 0.4f}, 0.2f, 0.1f};
          kernels.add_gradient_sums(p, gradient, as<double>(at(estimated)), stream);
          gradient.reduced = nullptr;
          gradient.estimate.entries = {};
          kernels.add_gradient_sums(p, gradient, as<double>(at(alone)), stream);
          kernels.add_direction_sums(p, source, 20, {which, 0.4f}, as<float>(at(g)), as<double>(at(directions)), stream);
        }));
      });
}

// Neither what lies around in the scratch memory nor the number of blocks is in the sums.
TEST_F(CudaKernels, SumsAreRepeated) {
  constexpr int64_t kCount = 600000;
  TwinMemory twin(device_, int64_t{4} << 20);
  const int64_t g = twin.place(values(kCount, 0.5f), DType::F32);
  std::vector<int64_t> sums;
  for (int i = 0; i < 3; ++i) sums.push_back(twin.place_sums({0, 0, 0}, 1e-12));
  const NoiseSource source = noise(NoiseKind::Rademacher);
  const uint32_t number = 3;
  const float scalar = 0.7f;
  EXPECT_TRUE(twin.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
    for (const int64_t sum : sums) {
      const Gradient gradient{Gradient::Kind::Estimate, as<float>(at(g)), {source, &number, &scalar, 1, 1, {}, 0, 0}};
      kernels.add_gradient_sums({5, 0, 0, 3, kCount}, gradient, as<double>(at(sum)), stream);
    }
  }));
  const std::vector<double> first = twin.device_values<double>(sums[0], 3);
  for (const int64_t sum : sums) EXPECT_EQ(twin.device_values<double>(sum, 3), first);
}

TEST_F(CudaKernels, CountsUnchangedElements) {
  for (const NoiseKind kind : {NoiseKind::Gaussian, NoiseKind::Rademacher})
    for (const DType type : kTypes)
      for_slices([&](bool is_aligned, int64_t count) {
        const int64_t base = place(values(count, 0.1f), is_aligned), unchanged = twin_.place(std::vector<int64_t>{3}, DType::F64);
        const NoiseSource source = noise(kind);
        const uint64_t element = first(is_aligned, count);
        EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
          PerturbedPiece piece;
          piece.base = at(base);
          piece.target_type = type;
          piece.first = element;
          piece.count = count;
          piece.epsilon = 1e-4f;
          kernels.count_unchanged(piece, source, as<int64_t>(at(unchanged)), stream);
        }));
      });
}

TEST_F(CudaKernels, EnergyByMagnitude) {
  for (const int coarse_bin : {-1, 0x3F8, 0, 0xFF0})
    for (const bool is_nasty : {false, true})
      for_slices([&](bool is_aligned, int64_t count) {
        std::vector<float> all = values(count, 1);
        for (size_t i = 0; is_nasty && i < all.size(); i += 3) all[i] = nth(test::kNasty, (i / 3) % test::kNasty.size());
        const int64_t g = place(all, is_aligned), bins = twin_.place_sums(std::vector<double>(kEnergyBins, 0.5), 1e-12);
        EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
          kernels.add_energy(as<float>(at(g)), count, coarse_bin, as<double>(at(bins)), stream);
        }));
      });
}

// Partial sums of streams that run beside each other, of one device or of two that are the same GPU, lie in memory of each stream's own.
TEST_F(CudaKernels, StreamsSumBesideEachOther) {
  constexpr int64_t kCount = 20000;
  const Device same_gpu = Device::cuda(0);
  const Device* const devices[] = {&device_, &device_, &same_gpu};
  Arena memory = device_.memory("memory", 1 << 20), pinned = device_.memory("pinned", 1 << 20, MemoryKind::PinnedHost);
  auto* const values = static_cast<float*>(memory.allocate(4 * kCount * 3, "values"));
  auto* const sums = static_cast<double*>(memory.allocate(64, "sums"));
  auto* const given = static_cast<float*>(pinned.allocate(4 * kCount * 3, "given"));
  auto* const found = static_cast<double*>(pinned.allocate(64, "found"));
  for (int64_t i = 0; i < 3 * kCount; ++i) given[i] = static_cast<float>(1 << (i / kCount));
  Stream copies = device_.stream("copies");
  const Event copied = device_.copy(copies, values, given, 4 * kCount * 3);
  std::vector<Stream> streams;
  for (const Device* device : devices) streams.push_back(device->stream("sums"));
  for (Stream& stream : streams) stream.wait(copied);
  constexpr int kTimes = 50;
  for (int i = 0; i < kTimes; ++i)
    for (size_t s = 0; s < 3; ++s)
      kernels_of(*devices[s]).add_squares(values + static_cast<int64_t>(s) * kCount, kCount, sums + s, streams[s]);
  for (Stream& stream : streams) copies.wait(stream.record());
  device_.copy(copies, found, sums, 64).wait();
  for (int s = 0; s < 3; ++s) EXPECT_EQ(found[s], kTimes * double{kCount} * (1 << (2 * s)));
}

TEST_F(CudaKernels, RunInTheOrderOfAStreamAndWithinALauncher) {
  twin_.clear();
  const int64_t x = place(std::vector<float>(5000, 1.0f), true), y = place(std::vector<float>(5000, 0.0f), true);
  EXPECT_TRUE(twin_.is_same_after([&](const FlatKernels& kernels, const At& at, const Stream& stream) {
    for (int i = 0; i < 20; ++i) {
      kernels.cast(at(x), DType::F32, at(y), DType::F32, 5000, stream);
      Stream(stream).launch([&] { kernels.add(as<float>(at(y)), as<float>(at(x)), 5000, stream); });
    }
  }));
  EXPECT_EQ(twin_.device_values<float>(x, 5000), std::vector<float>(5000, 0x1p20f));
}

TEST_F(CudaKernels, RefuseMisuse) {
  const FlatKernels& kernels = kernels_of(device_);
  EXPECT_EQ(&kernels, &kernels_of(device_));
  EXPECT_EQ(&kernels_of(Device::cpu()), &host_kernels());
  const Stream stream = device_.compute_stream();
  EXPECT_THROW(kernels.cast(nullptr, DType::BF16, nullptr, DType::F16, 1, stream), ProtocolError);
  EXPECT_THROW(kernels.cast(nullptr, DType::F64, nullptr, DType::F32, 1, stream), ProtocolError);
  EXPECT_THROW(kernels.perturb_tile({}, {}), ProtocolError);
  EXPECT_SAYS(message_of([&] { kernels.scale(1, nullptr, 1, device_.host_stream("host")); }), "'host'");
  NoiseSource source;
  source.key.step = uint64_t{1} << 40;
  EXPECT_THROW(kernels.draw({0, 0, 0, 0, 5}, source, nullptr, stream), ProtocolError);
  source.key.step = 0;
  source.rank = 5;
  EXPECT_THROW(kernels.draw({0, 4, 8, 0, 32}, source, nullptr, stream), ProtocolError);
  PieceUpdate update;
  update.piece.count = 1;
  EXPECT_THROW(kernels.update(update, LionParameters{0.9, 0.99}, stream), ProtocolError) << "fp32 without masters";
}

}  // namespace
}  // namespace zerostep
