#include "base/cuda/row_vectors.cuh"
#include "base/cuda/rows.cuh"
#include "models/cuda/branches.h"

namespace zerostep::cuda {
namespace {

constexpr int kRanksTogether = 4;

template <class As>
struct ProjectBody {
  static constexpr unsigned kLanes = kWarp;
  struct Sums {
    float of_rank[kRanksTogether];
  };
  const typename As::T* rows;
  int64_t width, rows_each, rank, first;  // of the ranks that this launch takes
  const float* factor;
  float* out;

  ZEROSTEP_HOST_DEVICE Sums sums(int64_t row, unsigned lane) const {
    Sums all{};
    const float* const of_branch = factor + (row / rows_each * rank + first) * width;
    for_vectors<kLanes>(width, lane, [&](int64_t j) {
      float x[8];
      load_eight<As>(rows + row * width, j, width, 0.0f, x);
#pragma unroll
      for (int r = 0; r < kRanksTogether; ++r) {
        if (first + r >= rank) continue;
        float f[8];
        load_eight<AsF32>(of_branch + r * width, j, width, 0.0f, f);
#pragma unroll
        for (int n = 0; n < 8; ++n) f[n] = ieee_mul(x[n], f[n]);
        all.of_rank[r] = ieee_add(all.of_rank[r], sum_of_eight(f));
      }
    });
    return all;
  }
  ZEROSTEP_HOST_DEVICE static void add(Sums& sums, const Sums& others) {
#pragma unroll
    for (int r = 0; r < kRanksTogether; ++r) sums.of_rank[r] = ieee_add(sums.of_rank[r], others.of_rank[r]);
  }
  ZEROSTEP_HOST_DEVICE void finish(int64_t row, unsigned lane, const Sums& all) const {
    if (lane != 0) return;
#pragma unroll
    for (int r = 0; r < kRanksTogether; ++r)
      if (first + r < rank) out[row * rank + first + r] = all.of_rank[r];
  }
};

// A thread takes eight columns of a row. The same sums in the same order as SumRows' kernel for the CPU.
template <class As>
struct SumBody {
  BranchRows given;
  BranchTerms terms;
  typename As::T* out;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    const int64_t width = given.width;
    const auto vectors = static_cast<uint64_t>((width + 7) / 8);
    for (uint64_t i = index.thread; i < static_cast<uint64_t>(given.count) * vectors; i += index.num_threads) {
      const auto row = static_cast<int64_t>(i / vectors), j = static_cast<int64_t>(i % vectors) * 8, branch = row / given.rows_each;
      float all[8] = {}, x[8];
      if (terms.offset != nullptr) load_eight<AsF32>(terms.offset + branch * terms.offset_stride, j, width, 0.0f, all);
      if (terms.base != nullptr) {
        load_eight<As>(static_cast<const typename As::T*>(terms.base) + row % terms.base_rows * width, j, width, 0.0f, x);
#pragma unroll
        for (int n = 0; n < 8; ++n) all[n] = ieee_add(all[n], x[n]);
      }
      for (int64_t k = 0; k < given.rank; ++k) {
        const float coefficient = terms.coefficients[row * given.rank + k];
        load_eight<AsF32>(given.factor + (branch * given.rank + k) * width, j, width, 0.0f, x);
#pragma unroll
        for (int n = 0; n < 8; ++n) all[n] = ieee_fma(coefficient, x[n], all[n]);
      }
      store_eight<As>(all, out + row * width, j, width);
    }
  }
};

}  // namespace

cudaError_t branch_project(const KernelQueue& queue, const BranchRows& r, const void* values, float* out) {
  return with_elements(r.type, [&](auto as) {
    using As = decltype(as);
    const auto* rows = static_cast<const typename As::T*>(values);
    cudaError_t error = cudaSuccess;
    for (int64_t first = 0; first < r.rank && error == cudaSuccess; first += kRanksTogether)
      error = launch_rows(queue, r.count, ProjectBody<As>{rows, r.width, r.rows_each, r.rank, first, r.factor, out});
    return error;
  });
}

cudaError_t branch_sum(const KernelQueue& queue, const BranchRows& r, const BranchTerms& terms, void* out) {
  return with_elements(r.type, [&](auto as) {
    using As = decltype(as);
    return launch_threads(queue, r.count * ((r.width + 7) / 8), SumBody<As>{r, terms, static_cast<typename As::T*>(out)});
  });
}

}  // namespace zerostep::cuda
