#include <ATen/Parallel.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/nth.h"
#include "offload/block_sums.h"
#include "offload/flat_kernels.h"
#include "offload/flat_math.h"
#include "offload/host_directions.h"
#include "offload/host_optimizer.h"
#include "offload/host_perturb.h"
#include "offload/newton_schulz.h"

namespace zerostep {
namespace {

using Which = GradientEntries::Which;

// A thread's least work, in elements: of what passes over memory once, and of what draws noise.
constexpr int64_t kPassGrain = int64_t{1} << 16, kNoiseGrain = int64_t{1} << 15;

template <typename Work>
void launch(const Stream& stream, Work work) {
  if (stream.is_current()) return work();
  Stream(stream).enqueue(std::move(work));
}

template <typename T>
T* moved(T* data, int64_t elements, DType type) {
  using Byte = std::conditional_t<std::is_const_v<T>, const std::byte, std::byte>;
  return data == nullptr ? nullptr : static_cast<Byte*>(data) + num_bytes(elements, type);
}
void multiply(float factor, float* values, int64_t count) {
  at::parallel_for(0, count, kPassGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) values[i] *= factor;
  });
}

float* moved(float* data, int64_t elements) { return data == nullptr ? nullptr : data + elements; }
const float* moved(const float* data, int64_t elements) { return data == nullptr ? nullptr : data + elements; }

PerturbedPiece part_of(PerturbedPiece piece, int64_t begin, int64_t count) {
  piece.base = moved(piece.base, begin, piece.base_type);
  piece.plus = moved(piece.plus, begin, piece.target_type);
  piece.minus = moved(piece.minus, begin, piece.target_type);
  piece.first += static_cast<uint64_t>(begin);
  piece.count = count;
  return piece;
}

// The threads share out the elements of all parameters.
void perturb_all(const std::vector<Perturbation>& perturbations, const Direction& direction, float epsilon) {
  const bool instructed = direction.entries.which != Which::None;
  std::vector<int64_t> begins{0};  // of each among the elements of all
  std::vector<std::optional<NoiseReader>> readers(perturbations.size());
  for (size_t p = 0; p < perturbations.size(); ++p) {
    const ParameterPiece& piece = perturbations[p].piece;
    begins.push_back(begins.back() + piece.count);
    if (instructed || direction.noise.is_low_rank(piece)) readers[p].emplace(piece, direction.noise);
  }
  const auto run = [&](size_t p, int64_t begin, int64_t end) {
    const Perturbation& given = perturbations[p];
    PerturbedPiece values = given.values;
    values.first = given.piece.first + static_cast<uint64_t>(given.piece.begin);
    values.epsilon = epsilon;
    if (!readers[p]) return perturb(part_of(values, begin, end - begin), direction.noise.kind, direction.noise.key);
    float z[kBlockElements];
    for (int64_t at = begin; at < end; at += kBlockElements) {
      const int64_t n = std::min(kBlockElements, end - at);
      readers[p]->read(given.piece.begin + at, n, z);
      if (instructed) instruct(direction, given.gradient + at, n, z);
      perturb_with(part_of(values, at, n), z);
    }
  };
  at::parallel_for(0, begins.back(), kNoiseGrain, [&](int64_t begin, int64_t end) {
    for (size_t p = 0; p < perturbations.size(); ++p) {
      const int64_t from = std::max(begin, begins[p]), to = std::min(end, begins[p + 1]);
      if (from < to) run(p, from - begins[p], to - begins[p]);
    }
  });
}

// Both signs have the right factor, and left factors of opposite signs.
void write_factors(const LowRankFactors& f) {
  const int64_t rows = f.piece.rows, rank = f.noise.rank, left_size = rank * rows, right_size = rank * f.piece.columns;
  std::vector<float> left(static_cast<size_t>(left_size)), right(static_cast<size_t>(right_size));
  if (std::any_of(f.signs.begin(), f.signs.end(), [](int sign) { return sign != 0; })) {
    const NoiseKey& key = f.noise.key;
    const LowRankDirection direction({f.piece.first, rows, f.piece.columns, rank}, key.seed, key.step, f.noise.refresh, key.stream);
    const float scale = static_cast<float>(f.epsilon / std::sqrt(static_cast<double>(rank)));
    std::vector<float> u(left.size());
    direction.fill_u(u.data());
    for (int64_t k = 0; k < rank; ++k)
      for (int64_t i = 0; i < rows; ++i) nth(left, k * rows + i) = scale * nth(u, i * rank + k);
    right = direction.v_transposed();
  }
  float *left_out = f.left, *right_out = f.right;
  for (const int sign : f.signs) {
    if (sign > 0)
      std::copy(left.begin(), left.end(), left_out);
    else if (sign < 0)
      std::transform(left.begin(), left.end(), left_out, std::negate<>());
    else
      std::fill_n(left_out, left_size, 0.0f);
    std::copy(right.begin(), right.end(), right_out);
    left_out += left_size;
    right_out += right_size;
  }
}

void step(const OptimizerPiece& piece, float* state0, float* state1, const OptimizerFormula& formula) {
  if (const auto* adam = std::get_if<AdamParameters>(&formula)) return adam_step(piece, state0, state1, *adam);
  if (const auto* sgd = std::get_if<SgdParameters>(&formula)) return sgd_step(piece, state0, *sgd);
  lion_step(piece, state0, std::get<LionParameters>(formula));
}

// At once when gradient and masters lie in memory, else in blocks that stay in the first caches.
void update_all(const PieceUpdate& all, const OptimizerFormula& formula) {
  const bool rounded = all.masters == nullptr;
  std::optional<EstimateReader> estimate;
  if (all.gradient.kind == Gradient::Kind::Estimate) estimate.emplace(all.piece, all.gradient.estimate);
  at::parallel_for(0, all.piece.count, kPassGrain, [&](int64_t first, int64_t last) {
    const int64_t block = estimate || rounded ? kBlockElements : last - first;
    alignas(kAlignmentBytes) float gradient[kBlockElements], master[kBlockElements];
    for (int64_t at = first; at < last; at += block) {
      const int64_t begin = all.piece.begin + at;
      OptimizerPiece part;
      part.count = std::min(block, last - at);
      part.gradient = moved(all.gradient.reduced, at);
      part.gradient_scale = all.gradient_scale;
      part.lr = all.lr;
      part.weight_decay = all.weight_decay;
      if (estimate) {
        estimate->read(begin, part.count, part.gradient, gradient);
        part.gradient = gradient;
      }
      void* parameters = moved(all.parameters, at, all.type);
      if (rounded) {
        cast_to_fp32(parameters, all.type, master, part.count);
        part.master = master;
      } else {
        part.master = all.masters + at;
        part.compute = parameters;
        part.compute_type = all.type;
      }
      step(part, moved(all.states[0], at), moved(all.states[1], at), formula);
      if (rounded)
        round_stochastically(master, parameters, all.type, all.rounding, all.piece.first + static_cast<uint64_t>(begin), part.count);
    }
  });
}

// Entries that a cautious update leaves in.
int64_t advance_moments(const MatrixMoments& all, int64_t first, int64_t last) {
  const MatrixMath math(all);
  float g[kBlockElements];
  int64_t kept = 0;
  for (int64_t at = first; at < last; at += kBlockElements) {
    const int64_t count = std::min(kBlockElements, last - at);
    for (int64_t i = 0; i < count; ++i) g[i] = all.gradient[at + i] * all.gradient_scale;
    float* const u = all.direction + at;
    float* const m = all.first_moment + at;
    for (int64_t i = 0; i < count; ++i) m[i] = math.momentum(m[i], g[i]);
    if (all.second_moment == nullptr) {
      for (int64_t i = 0; i < count; ++i) u[i] = all.nesterov ? math.nesterov(m[i], g[i]) : m[i];
      continue;
    }
    float* const v = all.second_moment + at;
    for (int64_t i = 0; i < count; ++i) {
      v[i] = math.second_moment(v[i], g[i]);
      u[i] = math.quotient(m[i], v[i]);
    }
    if (!all.cautious) continue;
    for (int64_t i = 0; i < count; ++i) {
      const bool keep = MatrixMath::keeps(m[i], g[i]);
      kept += keep ? 1 : 0;
      u[i] = keep ? u[i] : 0.0f;
    }
  }
  return kept;
}

double product_sum(const float* a, const float* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

void sum_gradient(const ParameterPiece& piece, const Gradient& gradient, double* sums) {
  const EstimateReader estimate(piece, gradient.estimate);
  const bool is_estimate = gradient.kind == Gradient::Kind::Estimate;
  add_block_sums(piece.count, {sums, 3}, [&](int64_t begin, int64_t n, std::span<double> partial) {
    std::vector<float> values(static_cast<size_t>(is_estimate ? n : 0));
    const float *g = moved(gradient.reduced, begin), *e = is_estimate ? values.data() : g;
    if (is_estimate) estimate.read(piece.begin + begin, n, g, values.data());
    if (g != nullptr) partial[0] += product_sum(g, e, n);
    if (g != nullptr) partial[1] += sum_of_squares(g, n);
    partial[2] += sum_of_squares(e, n);
  });
}

void sum_directions(const ParameterPiece& piece, NoiseSource noise, int64_t num_directions, const GradientEntries& entries,
                    const float* gradient, double* sums) {
  std::vector<NoiseReader> readers;
  for (int64_t d = 0; d < num_directions; ++d) {
    noise.key.stream = static_cast<uint32_t>(d);
    readers.emplace_back(piece, noise);
  }
  add_block_sums(piece.count, {sums, 2 * readers.size() + 1}, [&](int64_t begin, int64_t n, std::span<double> partial) {
    const float* g = gradient + begin;
    const auto kept = [&](int64_t i) { return entries.which == Which::Largest && entries.keeps(g[i]); };
    for (int64_t i = 0; i < n; ++i)
      if (kept(i)) partial.back() += static_cast<double>(g[i]) * static_cast<double>(g[i]);
    std::vector<float> z(static_cast<size_t>(n));
    for (size_t d = 0; d < readers.size(); ++d) {
      readers[d].read(piece.begin + begin, n, z.data());
      double zg = 0, zz = 0;
      for (int64_t i = 0; i < n; ++i) {
        if (kept(i)) continue;
        const double value = static_cast<double>(nth(z, i));
        zg += value * static_cast<double>(g[i]);
        zz += value * value;
      }
      partial[2 * d] += zg;
      partial[2 * d + 1] += zz;
    }
  });
}

class HostKernels final : public FlatKernels {
 public:
  void keep_to_one_thread(const Stream& stream) const override {
    launch(stream, [] {
      // This library and LibTorch each set the number of a new thread at its first use: that is done before.
      at::internal::lazy_init_num_threads();
      at::get_num_threads();
      omp_set_num_threads(1);
    });
  }
  void cast(const void* source, DType source_type, void* target, DType target_type, int64_t count, const Stream& stream) const override {
    if (source_type != target_type && source_type != DType::F32 && target_type != DType::F32)
      fail_protocol("[kernels] no cast from {} to {}", name_of(source_type), name_of(target_type));
    launch(stream, [=] {
      at::parallel_for(0, count, kPassGrain, [&](int64_t begin, int64_t end) {
        const void* from = moved(source, begin, source_type);
        void* to = moved(target, begin, target_type);
        if (source_type == target_type)
          std::memmove(to, from, static_cast<size_t>(num_bytes(end - begin, source_type)));
        else if (source_type == DType::F32)
          cast_from_fp32(static_cast<const float*>(from), to, target_type, end - begin);
        else
          cast_to_fp32(from, source_type, static_cast<float*>(to), end - begin);
      });
    });
  }
  void zero(void* target, DType type, int64_t count, const Stream& stream) const override {
    launch(stream, [=] {
      at::parallel_for(0, count, kPassGrain, [&](int64_t begin, int64_t end) {
        std::memset(moved(target, begin, type), 0, static_cast<size_t>(num_bytes(end - begin, type)));
      });
    });
  }
  void add(const float* source, float* target, int64_t count, const Stream& stream) const override {
    launch(stream, [=] {
      at::parallel_for(0, count, kPassGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) target[i] += source[i];
      });
    });
  }
  void scale(float factor, float* values, int64_t count, const Stream& stream) const override {
    launch(stream, [=] { multiply(factor, values, count); });
  }
  void add_squares(const float* values, int64_t count, double* sum, const Stream& stream) const override {
    launch(stream, [=] { *sum += sum_of_squares(values, count); });
  }

  void draw(const ParameterPiece& piece, const NoiseSource& noise, float* out, const Stream& stream) const override {
    launch(stream, [=] { NoiseReader(piece, noise).read(piece.begin, piece.count, out); });
  }
  void perturb(std::span<const Perturbation> perturbations, const Direction& direction, float epsilon,
               const Stream& stream) const override {
    launch(stream, [=, all = std::vector(perturbations.begin(), perturbations.end())] { perturb_all(all, direction, epsilon); });
  }
  void perturb_tile(const PerturbedTile& tile, const NoiseSource& noise) const override {
    zerostep::perturb_tile(tile, noise.kind, noise.key);
  }
  void low_rank_factors(std::span<const LowRankFactors> factors, const Stream& stream) const override {
    launch(stream, [all = std::vector(factors.begin(), factors.end())] {
      at::parallel_for(0, static_cast<int64_t>(all.size()), 1, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) write_factors(nth(all, i));
      });
    });
  }
  void count_unchanged(const PerturbedPiece& piece, const NoiseSource& noise, int64_t* unchanged, const Stream& stream) const override {
    launch(stream, [=] {
      std::atomic<int64_t> sum{0};
      at::parallel_for(0, piece.count, kNoiseGrain, [&](int64_t begin, int64_t end) {
        sum += zerostep::count_unchanged(part_of(piece, begin, end - begin), noise.kind, noise.key);
      });
      *unchanged += sum;
    });
  }

  void estimate(const ParameterPiece& piece, const Gradient& gradient, float* out, const Stream& stream) const override {
    if (gradient.kind == Gradient::Kind::Reduced) return cast(gradient.reduced, DType::F32, out, DType::F32, piece.count, stream);
    launch(stream, [=] {
      const EstimateReader estimate(piece, gradient.estimate);
      at::parallel_for(0, piece.count, kNoiseGrain, [&](int64_t begin, int64_t end) {
        estimate.read(piece.begin + begin, end - begin, moved(gradient.reduced, begin), out + begin);
      });
    });
  }
  void update(const PieceUpdate& given, const OptimizerFormula& formula, const Stream& stream) const override {
    launch(stream, [=] { update_all(given, formula); });
  }
  void matrix_direction(const MatrixMoments& moments, const Stream& stream) const override {
    launch(stream, [=] {
      std::atomic<int64_t> kept{0};
      at::parallel_for(0, moments.count, kNoiseGrain, [&](int64_t first, int64_t last) { kept += advance_moments(moments, first, last); });
      if (moments.second_moment == nullptr || !moments.cautious || !moments.rescales) return;
      multiply(MatrixMath::rescaling(static_cast<double>(kept), static_cast<double>(moments.count)), moments.direction, moments.count);
    });
  }
  void newton_schulz(float* matrix, int64_t rows, int64_t columns, float* scratch, const Stream& stream) const override {
    launch(stream, [=] { zerostep::newton_schulz(matrix, rows, columns, scratch); });
  }

  void add_gradient_sums(const ParameterPiece& piece, const Gradient& gradient, double* sums, const Stream& stream) const override {
    launch(stream, [=] { sum_gradient(piece, gradient, sums); });
  }
  void add_direction_sums(const ParameterPiece& piece, const NoiseSource& noise, int64_t num_directions, const GradientEntries& entries,
                          const float* g, double* sums, const Stream& stream) const override {
    launch(stream, [=] { sum_directions(piece, noise, num_directions, entries, g, sums); });
  }
  void add_energy(const float* values, int64_t count, int coarse_bin, double* bins, const Stream& stream) const override {
    launch(stream, [=] {
      add_block_sums(count, {bins, kEnergyBins}, [&](int64_t begin, int64_t n, std::span<double> partial) {
        for (int64_t i = begin; i < begin + n; ++i) {
          const int bin = energy_bin(values[i], coarse_bin);
          if (bin >= 0) nth(partial, bin) += static_cast<double>(values[i]) * static_cast<double>(values[i]);
        }
      });
    });
  }
};

}  // namespace

const FlatKernels& host_kernels() {
  static const HostKernels kernels;
  return kernels;
}

}  // namespace zerostep
