#include <algorithm>

#include "offload/cuda/gradient.cuh"
#include "offload/cuda/lanes.cuh"

namespace zerostep::cuda {
namespace {

constexpr int64_t kTogetherFolded = 64;

struct FoldBody {
  const double* from;
  int64_t rows, length, left;  // of a row, before and after
  double* to;                  // nullptr: to the totals
  Totals totals;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    for_jobs(index, rows * left, [&](int64_t place) {
      const int64_t row = place / left;
      double sum = 0;
      for (int64_t i = place % left; i < length; i += left) sum += from[row * length + i];
      if (to != nullptr)
        to[place] = sum;
      else if (totals.sums != nullptr)
        totals.sums[row] += sum;
      else
        *totals.count += static_cast<int64_t>(sum);
    });
  }
};

// Products of a reduced gradient, where there is one, and what is taken for the gradient, as FlatKernels::add_gradient_sums() says.
template <class Source>
struct ProductTerm {
  using Cells = typename Source::Cells;
  static constexpr int kSums = 3, kTaken = kTogether<Cells>, kElements = kTaken * Cells::kWidth;
  GradientValues<Source> given;
  const float* g;
  bool is_aligned;

  ZEROSTEP_HOST_DEVICE int64_t num_jobs() const { return given.cells.num_jobs(); }
  ZEROSTEP_HOST_DEVICE static int64_t num_repeats() { return 1; }
  ZEROSTEP_HOST_DEVICE void add(int64_t job, int, double* sums) const {
    const Cells& cells = given.cells;
    with_wholeness(cells, job, is_aligned, [&](auto whole, int64_t first) {
      constexpr bool kWhole = decltype(whole)::value;
      float total[kNumElements<Cells>] = {};
      given.template add_directions<kWhole>(job, first, total);
#pragma unroll
      for (int v = 0; v < Cells::kVectors; v += kTaken) {
        float x[kElements] = {}, y[kElements] = {};
        if (g != nullptr) load_as<AsF32, kWhole, kTaken>(cells, first, v, g, x);
        given.template fill<kWhole, kTaken>(first, v, total + v * Cells::kWidth, y);
#pragma unroll
        for (int n = 0; n < kElements; ++n) {
          if (!kWhole && !is_within(cells, first, v, n)) continue;
          const double of_g = x[n], of_e = y[n];
          sums[0] += of_g * of_e;
          sums[1] += of_g * of_g;
          sums[2] += of_e * of_e;
        }
      }
    });
  }
};

struct SquareTerm {
  static constexpr int kSums = 1;
  Neighbours cells;
  const float* values;
  bool is_aligned;

  ZEROSTEP_HOST_DEVICE int64_t num_jobs() const { return cells.num_jobs(); }
  ZEROSTEP_HOST_DEVICE static int64_t num_repeats() { return 1; }
  ZEROSTEP_HOST_DEVICE void add(int64_t job, int, double* sums) const {
    with_wholeness(cells, job, is_aligned, [&](auto whole, int64_t first) {
      float x[8];
      load_as<AsF32, decltype(whole)::value, 2>(cells, first, 0, values, x);
#pragma unroll
      for (int n = 0; n < 8; ++n) sums[0] += double{x[n]} * double{x[n]};
    });
  }
};

// The squares of the gradient's largest entries.
struct KeptTerm {
  static constexpr int kSums = 1;
  Neighbours cells;
  const float* g;
  GradientEntries entries;

  ZEROSTEP_HOST_DEVICE int64_t num_jobs() const { return cells.num_jobs(); }
  ZEROSTEP_HOST_DEVICE static int64_t num_repeats() { return 1; }
  ZEROSTEP_HOST_DEVICE void add(int64_t job, int, double* sums) const {
    const int64_t first = cells.first(job);
#pragma unroll
    for (int v = 0; v < 2; ++v) {
      float x[4];
      load_as<AsF32, false, 1>(cells, first, v, g, x);
#pragma unroll
      for (int n = 0; n < 4; ++n)
        if (entries.keeps(x[n])) sums[0] += double{x[n]} * double{x[n]};
    }
  }
};

// <z, g> and <z, z> of directions from number `begin` on, over the entries that noise is left in.
template <class Source>
struct DirectionTerm {
  using Cells = typename Source::Cells;
  static constexpr int kSums = 2, kTaken = kTogether<Cells>, kElements = kTaken * Cells::kWidth;
  Source source;
  Cells cells;
  int begin, num_directions;
  const float* g;
  GradientEntries entries;
  bool is_aligned;

  ZEROSTEP_HOST_DEVICE int64_t num_jobs() const { return cells.num_jobs(); }
  ZEROSTEP_HOST_DEVICE int64_t num_repeats() const { return num_directions; }
  ZEROSTEP_HOST_DEVICE void add(int64_t job, int d, double* sums) const {
    float z[kNumElements<Cells>];
    source.fill(cells, job, d, static_cast<uint32_t>(begin + d), z);
    with_wholeness(cells, job, is_aligned, [&](auto whole, int64_t first) {
      constexpr bool kWhole = decltype(whole)::value;
#pragma unroll
      for (int v = 0; v < Cells::kVectors; v += kTaken) {
        float x[kElements];
        load_as<AsF32, kWhole, kTaken>(cells, first, v, g, x);
#pragma unroll
        for (int n = 0; n < kElements; ++n) {
          const bool is_left = !(entries.which == GradientEntries::Which::Largest && entries.keeps(x[n]));
          if (!is_left || (!kWhole && !is_within(cells, first, v, n))) continue;
          const double value = z[v * Cells::kWidth + n];
          sums[0] += value * double{x[n]};
          sums[1] += value * value;
        }
      }
    });
  }
};

template <class Source>
struct UnchangedTerm {
  using Cells = typename Source::Cells;
  static constexpr int kSums = 1, kTaken = kTogether<Cells>, kElements = kTaken * Cells::kWidth;
  Source source;
  Cells cells;
  uint32_t number;
  PerturbedPiece piece;

  ZEROSTEP_HOST_DEVICE int64_t num_jobs() const { return cells.num_jobs(); }
  ZEROSTEP_HOST_DEVICE static int64_t num_repeats() { return 1; }
  ZEROSTEP_HOST_DEVICE void add(int64_t job, int, double* sums) const {
    float z[kNumElements<Cells>];
    source.fill(cells, job, 0, number, z);
    const int64_t first = cells.first(job);
    int unchanged = 0;
#pragma unroll
    for (int v = 0; v < Cells::kVectors; v += kTaken) {
      float base[kElements];
      load<false, kTaken>(cells, first, v, piece.base, piece.base_type, base);
#pragma unroll
      for (int n = 0; n < kElements; ++n) {
        if (!is_within(cells, first, v, n)) continue;
        const float moved = ieee_fma(piece.epsilon, z[v * Cells::kWidth + n], base[n]);
        unchanged += rounded(moved) == rounded(base[n]) ? 1 : 0;
      }
    }
    sums[0] += unchanged;
  }

 private:
  ZEROSTEP_HOST_DEVICE float rounded(float x) const {
    if (piece.target_type == DType::F32) return x;
    return piece.target_type == DType::BF16 ? fp32_from_bf16(bf16_from_fp32(x)) : fp32_from_fp16(fp16_from_fp32(x));
  }
};

}  // namespace

const double* fold(Queue& queue, int64_t rows, int64_t length, const Totals& totals) {
  const bool has_totals = totals.sums != nullptr || totals.count != nullptr;
  double *from = queue.sums, *to = queue.folded_sums;
  do {
    const int64_t left = (length + kTogetherFolded - 1) / kTogetherFolded;
    put(queue, rows * left, FoldBody{from, rows, length, left, left == 1 && has_totals ? nullptr : to, totals});
    std::swap(from, to);
    length = left;
  } while (length > 1);
  return from;
}

void add_squares(Queue& queue, const float* values, int64_t count, double* sum) {
  const Neighbours cells(count);
  add_sums(queue, SquareTerm{cells, values, are_vectors_aligned(cells, values, DType::F32)}, {.sums = sum});
}

void add_gradient_sums(Queue& queue, const ParameterPiece& piece, const Gradient& gradient, double* sums) {
  const float* const g = gradient.reduced;
  const auto add = [&](const float* reduced, const auto& source, const auto& cells, const Sum& sum) {
    using Source = std::decay_t<decltype(source)>;
    add_sums(queue,
             ProductTerm<Source>{{source, cells, sum}, reduced, is_aligned(sum, cells) && are_vectors_aligned(cells, reduced, DType::F32)},
             {.sums = sums});
  };
  if (gradient.kind == Gradient::Kind::Reduced) return add(g, NoNoise(), Neighbours(piece.count), Sum(g));
  const NoiseEstimate& e = gradient.estimate;
  if (e.num_directions <= directions_together(piece, e.noise)) {
    const Sum sum(e, g, 0, e.num_directions);
    return with_noise(queue, piece, e.noise, sum.numbers_of_all(),
                      [&](const auto& source, const auto& cells) { add(g, source, cells, sum); });
  }
  for (int64_t begin = 0; begin < piece.count; begin += kScratchPart) {
    Gradient of_part = gradient;
    if (g != nullptr) of_part.reduced += begin;
    ParameterPiece part = piece;
    part.begin += begin;
    part.count = std::min(kScratchPart, piece.count - begin);
    estimate(queue, part, of_part, queue.estimate);
    add(of_part.reduced, NoNoise(), Neighbours(part.count), Sum(queue.estimate));
  }
}

void add_direction_sums(Queue& queue, const ParameterPiece& piece, const NoiseSource& noise, int64_t num_directions,
                        const GradientEntries& entries, const float* g, double* sums) {
  constexpr int64_t kMaxTogether = 16;
  const int64_t together = std::min<int64_t>(kMaxTogether, directions_together(piece, noise));
  for (int64_t begin = 0; begin < num_directions; begin += together) {
    uint32_t numbers[kMaxTogether];
    const auto n = static_cast<int>(std::min(together, num_directions - begin));
    for (int d = 0; d < n; ++d) numbers[d] = static_cast<uint32_t>(begin + d);
    with_noise(queue, piece, noise, {numbers, static_cast<size_t>(n)}, [&](const auto& source, const auto& cells) {
      const bool is_aligned = are_vectors_aligned(cells, g, DType::F32);
      add_sums(queue, DirectionTerm<std::decay_t<decltype(source)>>{source, cells, static_cast<int>(begin), n, g, entries, is_aligned},
               {.sums = sums + 2 * begin});
    });
  }
  if (entries.which != GradientEntries::Which::Largest) return;
  add_sums(queue, KeptTerm{Neighbours(piece.count), g, entries}, {.sums = sums + 2 * num_directions});
}

void count_unchanged(Queue& queue, const PerturbedPiece& piece, const NoiseSource& noise, int64_t* unchanged) {
  if (noise.kind == NoiseKind::Gaussian)
    add_sums(queue, UnchangedTerm<Normals>{{noise.key}, {piece.first, piece.count}, noise.key.stream, piece}, {.count = unchanged});
  else
    add_sums(queue, UnchangedTerm<Signs>{{noise.key}, {piece.first, piece.count}, noise.key.stream, piece}, {.count = unchanged});
}

}  // namespace zerostep::cuda
