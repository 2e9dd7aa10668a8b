#include "base/cuda/row_vectors.cuh"
#include "base/cuda/rows.cuh"
#include "models/cross_entropy_math.h"
#include "models/cuda/cross_entropy.h"

namespace zerostep::cuda {
namespace {

constexpr int64_t kLargest = LogitStatistic::kLargest, kSum = LogitStatistic::kSum, kLabel = LogitStatistic::kLabel;
constexpr int64_t kStatistics = LogitStatistic::kNumber;

template <class As>
struct AddLogitsBody {
  static constexpr unsigned kLanes = kThreadsPerBlock;
  using Sums = LogitSums;
  const typename As::T* logits;
  const int64_t* labels;
  int64_t columns, first;
  float* statistics;

  ZEROSTEP_HOST_DEVICE Sums sums(int64_t row, unsigned lane) const {
    const typename As::T* values = logits + row * columns;
    LogitSums all = no_logits();
    for_vectors<kLanes>(columns, lane, [&](int64_t j) {
      float x[8];
      load_eight<As>(values, j, columns, float_of_bits(0xFF800000u), x);  // what is beyond: -inf
      float largest = all.largest;
#pragma unroll
      for (float v : x) largest = v > largest ? v : largest;
      if (largest > all.largest) all = {largest, ieee_mul(all.sum, rescaling(all.largest, largest))};
#pragma unroll
      for (float& v : x) v = rescaling(v, largest);
      all.sum = ieee_add(all.sum, sum_of_eight(x));
    });
    return all;
  }
  ZEROSTEP_HOST_DEVICE static void add(Sums& sums, const Sums& others) { sums = joined(sums, others); }
  ZEROSTEP_HOST_DEVICE void finish(int64_t row, unsigned lane, const Sums& all) const {
    if (lane != 0) return;
    float* const of_row = statistics + row * kStatistics;
    const int64_t label = labels[row], place = label - first;
    // A label that no logit has leaves a loss that is not a number.
    float of_label = first > 0 ? of_row[kLabel] : label == kIgnoredLabel ? 0.0f : float_of_bits(0x7FC00000u);
    if (place >= 0 && place < columns) of_label = As::value(logits[row * columns + place]);
    const LogitSums sums = first > 0 ? joined({of_row[kLargest], of_row[kSum]}, all) : all;
    of_row[kLargest] = sums.largest;
    of_row[kSum] = sums.sum;
    of_row[kLabel] = of_label;
  }
};

// One row, whose lanes take rows of statistics in turn.
struct SumLossesBody {
  static constexpr unsigned kLanes = kThreadsPerBlock;
  struct Sums {
    double loss;
  };
  const float* statistics;
  const int64_t* labels;
  int64_t rows;
  double* total;

  ZEROSTEP_HOST_DEVICE Sums sums(int64_t, unsigned lane) const {
    Sums out{0};
    for (int64_t row = lane; row < rows; row += kLanes) {
      const float* of_row = statistics + row * kStatistics;
      if (labels[row] != kIgnoredLabel) out.loss += row_loss({of_row[kLargest], of_row[kSum]}, of_row[kLabel]);
    }
    return out;
  }
  ZEROSTEP_HOST_DEVICE static void add(Sums& sums, const Sums& others) { sums.loss += others.loss; }
  ZEROSTEP_HOST_DEVICE void finish(int64_t, unsigned lane, const Sums& all) const {
    if (lane == 0) *total = all.loss;
  }
};

template <class As>
struct LogitsGradientBody {
  static constexpr unsigned kLanes = kThreadsPerBlock;
  struct Sums {};
  const typename As::T* logits;
  const int64_t* labels;
  int64_t columns, first;
  const float *statistics, *factor;
  typename As::T* gradient;

  ZEROSTEP_HOST_DEVICE Sums sums(int64_t, unsigned) const { return {}; }
  ZEROSTEP_HOST_DEVICE void finish(int64_t row, unsigned lane, const Sums&) const {
    const typename As::T* values = logits + row * columns;
    const int64_t label = labels[row], place = label - first;
    const bool is_ignored = label == kIgnoredLabel;
    const float* const of_row = statistics + row * kStatistics;
    const float largest = of_row[kLargest], share = ieee_div(*factor, of_row[kSum]), whole = *factor;
    for_vectors<kLanes>(columns, lane, [&](int64_t j) {
      float x[8];
      load_eight<As>(values, j, columns, 0.0f, x);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        x[n] = ieee_mul(rescaling(x[n], largest), share);
        if (place == j + n) x[n] = ieee_sub(x[n], whole);
        if (is_ignored) x[n] = 0;
      }
      store_eight<As>(x, gradient + row * columns, j, columns);
    });
  }
};

}  // namespace

cudaError_t add_logits(const KernelQueue& queue, const LogitsPart& p, float* statistics) {
  return with_elements(p.type, [&](auto as) {
    using As = decltype(as);
    const auto* logits = static_cast<const typename As::T*>(p.logits);
    return launch_rows(queue, p.rows, AddLogitsBody<As>{logits, p.labels, p.columns, p.first, statistics});
  });
}

cudaError_t sum_losses(const KernelQueue& queue, const float* statistics, const int64_t* labels, int64_t rows, double* total) {
  return launch_rows(queue, 1, SumLossesBody{statistics, labels, rows, total});
}

cudaError_t logits_gradient(const KernelQueue& queue, const LogitsPart& p, const float* statistics, const float* factor, void* gradient) {
  return with_elements(p.type, [&](auto as) {
    using As = decltype(as);
    using T = typename As::T;
    return launch_rows(queue, p.rows,
                       LogitsGradientBody<As>{static_cast<const T*>(p.logits), p.labels, p.columns, p.first, statistics, factor,
                                              static_cast<T*>(gradient)});
  });
}

}  // namespace zerostep::cuda
