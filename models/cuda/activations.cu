#include "base/cuda/launch.cuh"
#include "base/cuda/row_vectors.cuh"
#include "base/exponential.h"
#include "models/cuda/activations.h"

namespace zerostep::cuda {
namespace {

// 1 / (1 + exp(-x)); the exponential is kept finite so that products with it never meet 0 * inf.
ZEROSTEP_HOST_DEVICE float sigmoid(float x) {
  const float y = -x > 87.0f ? 87.0f : -x;
  return ieee_div(1.0f, ieee_add(1.0f, exponential(y)));
}

template <class As>
struct SwigluBody {
  using T = typename As::T;
  const T *gate, *up;
  T* out;
  int64_t count;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    for (int64_t j = static_cast<int64_t>(index.thread) * 8; j < count; j += static_cast<int64_t>(index.num_threads) * 8) {
      float x[8], y[8];
      load_eight<As>(gate, j, count, 0.0f, x);
      load_eight<As>(up, j, count, 0.0f, y);
#pragma unroll
      for (int n = 0; n < 8; ++n) x[n] = ieee_mul(ieee_mul(x[n], sigmoid(x[n])), y[n]);
      store_eight<As>(x, out, j, count);
    }
  }
};

template <class As>
struct SwigluBackwardBody {
  using T = typename As::T;
  T *gate, *up, *gradient;
  int64_t count;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    for (int64_t j = static_cast<int64_t>(index.thread) * 8; j < count; j += static_cast<int64_t>(index.num_threads) * 8) {
      float x[8], y[8], g[8];
      load_eight<As>(gate, j, count, 0.0f, x);
      load_eight<As>(up, j, count, 0.0f, y);
      load_eight<As>(gradient, j, count, 0.0f, g);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const float s = sigmoid(x[n]), silu = ieee_mul(x[n], s), slope = ieee_fma(silu, ieee_sub(1.0f, s), s);
        const float of_gate = ieee_mul(ieee_mul(g[n], y[n]), slope);
        x[n] = ieee_mul(silu, y[n]);
        y[n] = ieee_mul(g[n], silu);
        g[n] = of_gate;
      }
      store_eight<As>(x, gate, j, count);
      store_eight<As>(y, up, j, count);
      store_eight<As>(g, gradient, j, count);
    }
  }
};

// A thread takes eight pairs of one head.
template <class As>
struct RotateBody {
  typename As::T* rows;
  int64_t num_heads, heads, half, positions;  // num_heads: of all rows
  const float *cosine, *sine;
  float direction;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    const auto vectors = static_cast<uint64_t>((half + 7) / 8);
    for (uint64_t i = index.thread; i < static_cast<uint64_t>(num_heads) * vectors; i += index.num_threads) {
      const auto head = static_cast<int64_t>(i / vectors), j = static_cast<int64_t>(i % vectors) * 8;
      typename As::T *const first = rows + head * 2 * half, *const second = first + half;
      const int64_t place = head / heads % positions * half;
      float x[8], y[8], c[8], s[8];
      load_eight<As>(first, j, half, 0.0f, x);
      load_eight<As>(second, j, half, 0.0f, y);
      load_eight<AsF32>(cosine + place, j, half, 0.0f, c);
      load_eight<AsF32>(sine + place, j, half, 0.0f, s);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const float turn = ieee_mul(direction, s[n]), turned = ieee_fma(-y[n], turn, ieee_mul(x[n], c[n]));
        y[n] = ieee_fma(x[n], turn, ieee_mul(y[n], c[n]));
        x[n] = turned;
      }
      store_eight<As>(x, first, j, half);
      store_eight<As>(y, second, j, half);
    }
  }
};

}  // namespace

cudaError_t swiglu(const KernelQueue& queue, DType type, const void* gate, const void* up, void* out, int64_t count) {
  return with_elements(type, [&](auto as) {
    using T = typename decltype(as)::T;
    return launch_threads(queue, (count + 7) / 8,
                          SwigluBody<decltype(as)>{static_cast<const T*>(gate), static_cast<const T*>(up), static_cast<T*>(out), count});
  });
}

cudaError_t swiglu_backward(const KernelQueue& queue, DType type, void* gate, void* up, void* gradient, int64_t count) {
  return with_elements(type, [&](auto as) {
    using T = typename decltype(as)::T;
    return launch_threads(queue, (count + 7) / 8,
                          SwigluBackwardBody<decltype(as)>{static_cast<T*>(gate), static_cast<T*>(up), static_cast<T*>(gradient), count});
  });
}

cudaError_t rotate(const KernelQueue& queue, const RotatedRows& r) {
  return with_elements(r.type, [&](auto as) {
    using As = decltype(as);
    return launch_threads(queue, r.count * r.heads * ((r.half + 7) / 8),
                          RotateBody<As>{static_cast<typename As::T*>(r.rows), r.count * r.heads, r.heads, r.half, r.positions, r.cosine,
                                         r.sine, r.direction});
  });
}

}  // namespace zerostep::cuda
