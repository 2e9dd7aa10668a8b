#include <bit>
#include <limits>

#include "offload/cuda/lanes.cuh"

namespace zerostep::cuda {
namespace {

struct CastBody {
  Neighbours cells;
  const void* source;
  void* target;
  DType source_type, target_type;
  bool is_aligned;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    for_jobs(index, cells.num_jobs(), [&](int64_t job) {
      with_wholeness(cells, job, is_aligned, [&](auto whole, int64_t first) {
        constexpr bool kWhole = decltype(whole)::value;
        float x[8];
        load<kWhole, 2>(cells, first, 0, source, source_type, x);
        store<kWhole, 2>(cells, first, 0, x, target, target_type);
      });
    });
  }
};

// target = source + target, or factor * source, or source over (the root of *squares + epsilon).
struct ArithmeticBody {
  Neighbours cells;
  const float* source;
  float* target;
  bool is_sum;
  float factor;
  const double* squares;
  double epsilon;
  bool is_aligned;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    const float by = squares == nullptr ? factor : static_cast<float>(1 / (sqrt(*squares) + epsilon));
    for_jobs(index, cells.num_jobs(), [&](int64_t job) {
      with_wholeness(cells, job, is_aligned, [&](auto whole, int64_t first) {
        constexpr bool kWhole = decltype(whole)::value;
        float x[8], y[8] = {};
        load_as<AsF32, kWhole, 2>(cells, first, 0, source, x);
        if (is_sum) load_as<AsF32, kWhole, 2>(cells, first, 0, target, y);
#pragma unroll
        for (int n = 0; n < 8; ++n) y[n] = is_sum ? ieee_add(y[n], x[n]) : ieee_mul(x[n], by);
        store_as<AsF32, kWhole, 2>(cells, first, 0, y, target);
      });
    });
  }
};

void put_arithmetic(Queue& queue, ArithmeticBody body) {
  body.is_aligned = are_vectors_aligned(body.cells, body.source, DType::F32) && are_vectors_aligned(body.cells, body.target, DType::F32);
  put(queue, body.cells.num_jobs(), body);
}

// Advances the moments and writes the direction; the sum is that of the entries which a cautious update leaves in.
struct MomentTerm {
  static constexpr int kSums = 1;
  Neighbours cells;
  MatrixMath math;
  const float* gradient;
  float *first_moment, *second_moment, *direction;
  float gradient_scale;
  bool is_nesterov, is_cautious, is_aligned;

  ZEROSTEP_HOST_DEVICE int64_t num_jobs() const { return cells.num_jobs(); }
  ZEROSTEP_HOST_DEVICE static int64_t num_repeats() { return 1; }
  ZEROSTEP_HOST_DEVICE void add(int64_t job, int, double* sums) const {
    with_wholeness(cells, job, is_aligned, [&](auto whole, int64_t first) {
      constexpr bool kWhole = decltype(whole)::value;
      float g[8], m[8], v[8] = {}, u[8];
      load_as<AsF32, kWhole, 2>(cells, first, 0, gradient, g);
      load_as<AsF32, kWhole, 2>(cells, first, 0, first_moment, m);
      if (second_moment != nullptr) load_as<AsF32, kWhole, 2>(cells, first, 0, second_moment, v);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        g[n] = ieee_mul(g[n], gradient_scale);
        m[n] = math.momentum(m[n], g[n]);
        if (second_moment == nullptr) {
          u[n] = is_nesterov ? math.nesterov(m[n], g[n]) : m[n];
          continue;
        }
        v[n] = math.second_moment(v[n], g[n]);
        u[n] = math.quotient(m[n], v[n]);
        if (!is_cautious) continue;
        const bool is_kept = MatrixMath::keeps(m[n], g[n]);  // never where there is no entry, which is 0
        u[n] = is_kept ? u[n] : 0.0f;
        sums[0] += is_kept ? 1 : 0;
      }
      store_as<AsF32, kWhole, 2>(cells, first, 0, m, first_moment);
      if (second_moment != nullptr) store_as<AsF32, kWhole, 2>(cells, first, 0, v, second_moment);
      store_as<AsF32, kWhole, 2>(cells, first, 0, u, direction);
    });
  }
};

struct RescaleBody {
  const double* num_kept;
  float* values;
  int64_t count;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    const float factor = MatrixMath::rescaling(*num_kept, static_cast<double>(count));
    for_jobs(index, count, [&](int64_t i) { values[i] = ieee_mul(values[i], factor); });
  }
};

// Squares of values in one bin are exact multiples of one power of 2, and are counted as integers: in any order the sums are the same. A
// bin has the lower 32 bits and those above, in kCopies places, so that threads rarely meet.
struct EnergyBody {
  static constexpr int kCopies = 32;
  const float* values;
  int64_t count;
  int coarse_bin;
  unsigned long long* counters;  // [kCopies, 2, kEnergyBins]

  // The square as a multiple of the square of the last place; infinity is 0 and a NaN more.
  ZEROSTEP_HOST_DEVICE static uint64_t square(float value) {
    const uint32_t exponent = bits_of_float(value) >> 23 & 0xFF, fraction = bits_of_float(value) & 0x7FFFFF;
    if (exponent == 0xFF) return fraction != 0;
    const uint64_t mantissa = exponent == 0 ? fraction : fraction | 0x800000;
    return mantissa * mantissa;
  }
  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    unsigned long long* const mine = counters + index.thread % kCopies * 2 * kEnergyBins;
    for_jobs(index, count, [&](int64_t i) {
      const int bin = energy_bin(values[i], coarse_bin);
      if (bin < 0) return;
      const bool is_finite = (bits_of_float(values[i]) >> 23 & 0xFF) != 0xFF;
      const uint64_t whole = square(values[i]);
      add(mine + bin, is_finite ? whole & 0xFFFFFFFF : whole);
      add(mine + kEnergyBins + bin, is_finite ? whole >> 32 : 1);
    });
  }
  ZEROSTEP_HOST_DEVICE static void add(unsigned long long* to, uint64_t value) {
#ifdef __CUDA_ARCH__
    if (value != 0) atomicAdd(to, static_cast<unsigned long long>(value));
#else
    *to += value;  // the threads of a launch run one after the other
#endif
  }
};

struct EnergyBinsBody {
  const unsigned long long* counters;
  int coarse_bin;
  double* bins;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    for_jobs(index, kEnergyBins, [&](int64_t bin) {
      uint64_t lower = 0, upper = 0;
      for (int copy = 0; copy < EnergyBody::kCopies; ++copy) {
        lower += counters[copy * 2 * kEnergyBins + bin];
        upper += counters[(copy * 2 + 1) * kEnergyBins + bin];
      }
      if (lower == 0 && upper == 0) return;
      const int exponent = (coarse_bin < 0 ? static_cast<int>(bin) : coarse_bin) >> (23 - kCoarseShift);
      if (exponent == 0xFF) {
        bins[bin] += lower == 0 ? double_of_bits(0x7FF0000000000000) : double_of_bits(0x7FF8000000000000);
        return;
      }
      const int power = 2 * ((exponent == 0 ? 1 : exponent) - 150);  // of the square of the last place
      bins[bin] += (static_cast<double>(upper) * 0x1p32 + static_cast<double>(lower)) * power_of_2(power);
    });
  }
  ZEROSTEP_HOST_DEVICE static double power_of_2(int power) { return double_of_bits(static_cast<uint64_t>(power + 1023) << 52); }
  ZEROSTEP_HOST_DEVICE static double double_of_bits(uint64_t bits) {
#ifdef __CUDA_ARCH__
    return __longlong_as_double(static_cast<long long>(bits));
#else
    return std::bit_cast<double>(bits);
#endif
  }
};
static_assert(EnergyBody::kCopies * 2 * kEnergyBins <= kScratchSums);

}  // namespace

void cast(Queue& queue, const void* source, DType source_type, void* target, DType target_type, int64_t count) {
  const Neighbours cells(count);
  const bool is_aligned = are_vectors_aligned(cells, source, source_type) && are_vectors_aligned(cells, target, target_type);
  put(queue, cells.num_jobs(), CastBody{cells, source, target, source_type, target_type, is_aligned});
}

void add(Queue& queue, const float* source, float* target, int64_t count) {
  put_arithmetic(queue, {Neighbours(count), source, target, true, 1, nullptr, 0, false});
}

void scale(Queue& queue, float factor, float* values, int64_t count) {
  put_arithmetic(queue, {Neighbours(count), values, values, false, factor, nullptr, 0, false});
}

void normalise(Queue& queue, const float* from, const double* sum_of_squares, double epsilon, float* to, int64_t count) {
  put_arithmetic(queue, {Neighbours(count), from, to, false, 1, sum_of_squares, epsilon, false});
}

void matrix_direction(Queue& queue, const MatrixMoments& moments) {
  const Neighbours cells(moments.count);
  bool is_aligned = true;
  for (const float* data : {moments.gradient, static_cast<const float*>(moments.first_moment),
                            static_cast<const float*>(moments.second_moment), static_cast<const float*>(moments.direction)})
    is_aligned = is_aligned && are_vectors_aligned(cells, data, DType::F32);
  const double* num_kept = add_sums(queue,
                                    MomentTerm{cells, MatrixMath(moments), moments.gradient, moments.first_moment, moments.second_moment,
                                               moments.direction, moments.gradient_scale, moments.nesterov, moments.cautious, is_aligned},
                                    {});
  if (moments.second_moment == nullptr || !moments.cautious || !moments.rescales) return;
  put(queue, moments.count, RescaleBody{num_kept, moments.direction, moments.count});
}

void add_energy(Queue& queue, const float* values, int64_t count, int coarse_bin, double* bins) {
  auto* const counters = reinterpret_cast<unsigned long long*>(queue.sums);
  if (queue.error == cudaSuccess)
    queue.error = cudaMemsetAsync(counters, 0, sizeof(*counters) * EnergyBody::kCopies * 2 * kEnergyBins, queue.stream);
  put(queue, count, EnergyBody{values, count, coarse_bin, counters});
  put(queue, kEnergyBins, EnergyBinsBody{counters, coarse_bin, bins});
}

}  // namespace zerostep::cuda
