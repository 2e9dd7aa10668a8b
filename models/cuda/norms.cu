#include "base/cuda/row_vectors.cuh"
#include "base/cuda/rows.cuh"
#include "models/cuda/norms.h"

namespace zerostep::cuda {
namespace {

constexpr int64_t kRowsOfGroup = 32;
// Above this width a block has a row.
constexpr int64_t kWidthOfWarp = 1024;

ZEROSTEP_HOST_DEVICE float not_a_number() { return float_of_bits(0x7FC00000u); }

// Of some values of a row: how many, their mean, and the sum of the squares of their distances from it.
struct Moments {
  float count, mean, squares;
};
ZEROSTEP_HOST_DEVICE Moments joined(const Moments& a, const Moments& b) {
  const float count = ieee_add(a.count, b.count);
  if (count == 0) return a;
  const float mean = ieee_div(ieee_add(ieee_mul(a.count, a.mean), ieee_mul(b.count, b.mean)), count);
  const float distance = ieee_sub(a.mean, b.mean), weight = ieee_div(ieee_mul(a.count, b.count), count);
  return {count, mean, ieee_add(ieee_add(a.squares, b.squares), ieee_mul(ieee_mul(distance, distance), weight))};
}

// 1 / sqrt(sum / width + epsilon).
ZEROSTEP_HOST_DEVICE float reciprocal_root(float sum, int64_t width, float epsilon) {
  return ieee_div(1.0f, ieee_sqrt(ieee_add(ieee_div(sum, static_cast<float>(width)), epsilon)));
}

// What all bodies have of the rows.
template <class As>
struct Rows {
  using T = typename As::T;
  const T* rows;
  int64_t width, rows_each;
  const float *gain, *offset;
  int64_t gain_stride, offset_stride;
  float epsilon;

  explicit Rows(const NormRows& r)
      : rows(static_cast<const T*>(r.rows)),
        width(r.width),
        rows_each(r.rows_each),
        gain(r.gain),
        offset(r.offset),
        gain_stride(r.gain_stride),
        offset_stride(r.offset_stride),
        epsilon(r.epsilon) {}
  ZEROSTEP_HOST_DEVICE const T* row(int64_t i) const { return rows + i * width; }
  ZEROSTEP_HOST_DEVICE const float* gain_of(int64_t i) const { return gain + i / rows_each * gain_stride; }
  ZEROSTEP_HOST_DEVICE const float* offset_of(int64_t i) const { return offset + i / rows_each * offset_stride; }
};

template <class As, unsigned kLanesOfRow>
struct LayerNormBody {
  static constexpr unsigned kLanes = kLanesOfRow;
  using Sums = Moments;
  using T = typename As::T;
  Rows<As> given;
  T* out;
  float *mean, *rstd;

  ZEROSTEP_HOST_DEVICE Sums sums(int64_t row, unsigned lane) const {
    Moments all{0, 0, 0};
    for_vectors<kLanes>(given.width, lane, [&](int64_t j) {
      float x[8];
      load_eight<As>(given.row(row), j, given.width, 0.0f, x);
      const int64_t left = given.width - j;
      const auto count = static_cast<float>(left < 8 ? left : 8);
      const float mean_here = ieee_div(sum_of_eight(x), count);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const float distance = n < left ? ieee_sub(x[n], mean_here) : 0.0f;
        x[n] = ieee_mul(distance, distance);
      }
      all = joined(all, {count, mean_here, sum_of_eight(x)});
    });
    return all;
  }
  ZEROSTEP_HOST_DEVICE static void add(Sums& sums, const Sums& others) { sums = joined(sums, others); }
  ZEROSTEP_HOST_DEVICE void finish(int64_t row, unsigned lane, const Sums& all) const {
    const float root = reciprocal_root(all.squares, given.width, given.epsilon);
    if (lane == 0 && mean != nullptr) {
      mean[row] = all.mean;
      rstd[row] = root;
    }
    const float *const gain = given.gain_of(row), *const offset = given.offset_of(row);
    for_vectors<kLanes>(given.width, lane, [&](int64_t j) {
      float x[8], g[8], o[8];
      load_eight<As>(given.row(row), j, given.width, 0.0f, x);
      load_eight<AsF32>(gain, j, given.width, 0.0f, g);
      load_eight<AsF32>(offset, j, given.width, 0.0f, o);
#pragma unroll
      for (int n = 0; n < 8; ++n) x[n] = ieee_fma(ieee_mul(ieee_sub(x[n], all.mean), root), g[n], o[n]);
      store_eight<As>(x, out + row * given.width, j, given.width);
    });
  }
};

// Adds to a group's sums, which its first row begins.
ZEROSTEP_HOST_DEVICE void add_eight(const float* values, float* sums, int64_t j, int64_t width, bool is_first) {
  float all[8] = {};
  if (!is_first) load_eight<AsF32>(sums, j, width, 0.0f, all);
#pragma unroll
  for (int n = 0; n < 8; ++n) all[n] = ieee_add(all[n], values[n]);
  store_eight<AsF32>(all, sums, j, width);
}

// As LayerNormRows' kernel for the CPU.
template <class As>
struct LayerNormBackwardBody {
  static constexpr unsigned kLanes = kThreadsPerBlock;
  static constexpr int64_t kRowsTogether = kRowsOfGroup;
  struct Sums {
    float h, hn;
  };
  using T = typename As::T;
  Rows<As> given;
  const T* gradient;
  const float *mean, *rstd;
  T* out;
  float* partial;

  ZEROSTEP_HOST_DEVICE Sums sums(int64_t row, unsigned lane) const {
    Sums all{0, 0};
    const float of_row = mean[row], root = root_of(row);
    for_vectors<kLanes>(given.width, lane, [&](int64_t j) {
      float x[8], g[8], w[8], hn[8];
      load(row, j, x, g, w);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        hn[n] = ieee_mul(product(x[n], g[n], of_row, root), w[n]);
        g[n] = ieee_mul(g[n], w[n]);
      }
      all.h = ieee_add(all.h, sum_of_eight(g));
      all.hn = ieee_add(all.hn, sum_of_eight(hn));
    });
    return all;
  }
  ZEROSTEP_HOST_DEVICE static void add(Sums& sums, const Sums& others) {
    sums = {ieee_add(sums.h, others.h), ieee_add(sums.hn, others.hn)};
  }
  ZEROSTEP_HOST_DEVICE void finish(int64_t row, unsigned lane, const Sums& all) const {
    const float of_row = mean[row], root = root_of(row), width = static_cast<float>(given.width);
    const float shift = ieee_div(all.h, width), along = ieee_mul(ieee_div(all.hn, width), root);
    for_vectors<kLanes>(given.width, lane, [&](int64_t j) {
      float x[8], g[8], w[8];
      load(row, j, x, g, w);
      if (partial != nullptr) {
        float* const sums = partial + row / kRowsOfGroup * 2 * given.width;
        const bool is_first = row % kRowsOfGroup == 0;
        float products[8];
#pragma unroll
        for (int n = 0; n < 8; ++n) products[n] = product(x[n], g[n], of_row, root);
        add_eight(products, sums, j, given.width, is_first);
        add_eight(g, sums + given.width, j, given.width, is_first);
      }
      if (out == nullptr) return;
#pragma unroll
      for (int n = 0; n < 8; ++n) x[n] = ieee_mul(ieee_fma(-ieee_sub(x[n], of_row), along, ieee_fma(g[n], w[n], -shift)), root);
      store_eight<As>(x, out + row * given.width, j, given.width);
    });
  }

 private:
  // 0 is what a variance beyond fp32 leaves: such a row has no gradient, and says so.
  ZEROSTEP_HOST_DEVICE float root_of(int64_t row) const { return rstd[row] == 0 ? not_a_number() : rstd[row]; }
  ZEROSTEP_HOST_DEVICE static float product(float x, float g, float mean, float root) {
    return ieee_mul(ieee_mul(ieee_sub(x, mean), root), g);
  }
  // What is beyond the row has no gradient.
  ZEROSTEP_HOST_DEVICE void load(int64_t row, int64_t j, float* x, float* g, float* w) const {
    load_eight<As>(given.row(row), j, given.width, 0.0f, x);
    load_eight<As>(gradient + row * given.width, j, given.width, 0.0f, g);
    load_eight<AsF32>(given.gain_of(row), j, given.width, 0.0f, w);
  }
};

template <class As, unsigned kLanesOfRow>
struct RmsNormBody {
  static constexpr unsigned kLanes = kLanesOfRow;
  struct Sums {
    float squares;
  };
  using T = typename As::T;
  Rows<As> given;
  T* out;

  ZEROSTEP_HOST_DEVICE Sums sums(int64_t row, unsigned lane) const {
    Sums all{0};
    for_vectors<kLanes>(given.width, lane, [&](int64_t j) {
      float x[8];
      load_eight<As>(given.row(row), j, given.width, 0.0f, x);
#pragma unroll
      for (float& v : x) v = ieee_mul(v, v);
      all.squares = ieee_add(all.squares, sum_of_eight(x));
    });
    return all;
  }
  ZEROSTEP_HOST_DEVICE static void add(Sums& sums, const Sums& others) { sums.squares = ieee_add(sums.squares, others.squares); }
  ZEROSTEP_HOST_DEVICE void finish(int64_t row, unsigned lane, const Sums& all) const {
    const float root = reciprocal_root(all.squares, given.width, given.epsilon);
    for_vectors<kLanes>(given.width, lane, [&](int64_t j) {
      float x[8], g[8];
      load_eight<As>(given.row(row), j, given.width, 0.0f, x);
      load_eight<AsF32>(given.gain_of(row), j, given.width, 0.0f, g);
#pragma unroll
      for (int n = 0; n < 8; ++n) x[n] = ieee_mul(ieee_mul(x[n], root), g[n]);
      store_eight<As>(x, out + row * given.width, j, given.width);
    });
  }
};

// As RmsRows' kernel for the CPU.
template <class As>
struct RmsNormBackwardBody {
  static constexpr unsigned kLanes = kThreadsPerBlock;
  static constexpr int64_t kRowsTogether = kRowsOfGroup;
  struct Sums {
    float squares, products;
  };
  using T = typename As::T;
  Rows<As> given;
  T* gradient;
  float* partial;

  ZEROSTEP_HOST_DEVICE Sums sums(int64_t row, unsigned lane) const {
    Sums all{0, 0};
    for_vectors<kLanes>(given.width, lane, [&](int64_t j) {
      float x[8], g[8], w[8];
      load(row, j, x, g, w);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        g[n] = ieee_mul(ieee_mul(g[n], x[n]), w[n]);
        x[n] = ieee_mul(x[n], x[n]);
      }
      all.squares = ieee_add(all.squares, sum_of_eight(x));
      all.products = ieee_add(all.products, sum_of_eight(g));
    });
    return all;
  }
  ZEROSTEP_HOST_DEVICE static void add(Sums& sums, const Sums& others) {
    sums = {ieee_add(sums.squares, others.squares), ieee_add(sums.products, others.products)};
  }
  ZEROSTEP_HOST_DEVICE void finish(int64_t row, unsigned lane, const Sums& all) const {
    // 0 is what squares beyond fp32 leave: such a row has no gradient, and says so.
    const float found = reciprocal_root(all.squares, given.width, given.epsilon), root = found == 0 ? not_a_number() : found;
    const float along = ieee_mul(ieee_mul(ieee_div(all.products, static_cast<float>(given.width)), root), root);
    for_vectors<kLanes>(given.width, lane, [&](int64_t j) {
      float x[8], g[8], w[8];
      load(row, j, x, g, w);
      if (partial != nullptr) {
        float products[8];
#pragma unroll
        for (int n = 0; n < 8; ++n) products[n] = ieee_mul(ieee_mul(g[n], x[n]), root);
        add_eight(products, partial + row / kRowsOfGroup * given.width, j, given.width, row % kRowsOfGroup == 0);
      }
#pragma unroll
      for (int n = 0; n < 8; ++n) x[n] = ieee_mul(ieee_fma(-x[n], along, ieee_mul(g[n], w[n])), root);
      store_eight<As>(x, gradient + row * given.width, j, given.width);
    });
  }

 private:
  ZEROSTEP_HOST_DEVICE void load(int64_t row, int64_t j, float* x, float* g, float* w) const {
    load_eight<As>(given.row(row), j, given.width, 0.0f, x);
    load_eight<As>(gradient + row * given.width, j, given.width, 0.0f, g);
    load_eight<AsF32>(given.gain_of(row), j, given.width, 0.0f, w);
  }
};

// A body of as many lanes as the width asks for.
template <template <class, unsigned> class Body, class As, class... Operands>
cudaError_t launch_lanes(const KernelQueue& queue, const NormRows& r, const Operands&... operands) {
  if (r.width > kWidthOfWarp) return launch_rows(queue, r.count, Body<As, kThreadsPerBlock>{Rows<As>(r), operands...});
  return launch_rows(queue, r.count, Body<As, kWarp>{Rows<As>(r), operands...});
}

}  // namespace

int64_t norm_groups(int64_t count) { return (count + kRowsOfGroup - 1) / kRowsOfGroup; }

cudaError_t layer_norm(const KernelQueue& queue, const NormRows& r, void* out, float* mean, float* rstd) {
  return with_elements(r.type, [&](auto as) {
    using As = decltype(as);
    return launch_lanes<LayerNormBody, As>(queue, r, static_cast<typename As::T*>(out), mean, rstd);
  });
}

cudaError_t layer_norm_backward(const KernelQueue& queue, const NormRows& r, const void* gradient, const float* mean, const float* rstd,
                                void* out, float* partial) {
  return with_elements(r.type, [&](auto as) {
    using As = decltype(as);
    using T = typename As::T;
    return launch_rows(queue, r.count,
                       LayerNormBackwardBody<As>{Rows<As>(r), static_cast<const T*>(gradient), mean, rstd, static_cast<T*>(out), partial});
  });
}

cudaError_t rms_norm(const KernelQueue& queue, const NormRows& r, void* out) {
  return with_elements(r.type, [&](auto as) {
    using As = decltype(as);
    return launch_lanes<RmsNormBody, As>(queue, r, static_cast<typename As::T*>(out));
  });
}

cudaError_t rms_norm_backward(const KernelQueue& queue, const NormRows& r, void* gradient, float* partial) {
  return with_elements(r.type, [&](auto as) {
    using As = decltype(as);
    return launch_rows(queue, r.count, RmsNormBackwardBody<As>{Rows<As>(r), static_cast<typename As::T*>(gradient), partial});
  });
}

}  // namespace zerostep::cuda
