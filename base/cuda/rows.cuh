#pragma once
#include <algorithm>
#include <array>
#include <cstring>

#include "base/cuda/elements.cuh"
#include "base/cuda/launch.cuh"
#include "base/cuda/rows_queue.h"

namespace zerostep::cuda {

// Kernels that work on rows with sums over each. A body has
//   kLanes: the threads that share a row, 32 (a warp) or kThreadsPerBlock
//   Sums: what is summed, of 4-byte values; an empty struct: nothing
//   Sums sums(row, lane): what a lane has of it
//   static void add(Sums& sums, const Sums& others): the same bits in either order of the two
//   void finish(row, lane, const Sums& all): what a lane does when the row's sums are there
// and, where it has one,
//   kRowsTogether: how many consecutive rows, from a multiple of it on, are done one after the other by the same lanes
// whose functions run on the host and on a GPU. Lanes' sums are added as a tree, so that they depend on the row alone.
constexpr unsigned kWarp = 32;

#ifdef __CUDACC__
template <class Sums>
__device__ inline Sums sums_of_lane(const Sums& own, unsigned distance) {
  constexpr int kWords = sizeof(Sums) / 4;
  uint32_t words[kWords];
  memcpy(words, &own, sizeof own);
#pragma unroll
  for (uint32_t& word : words) word = __shfl_xor_sync(0xFFFFFFFFu, word, distance);
  Sums out;
  memcpy(&out, words, sizeof out);
  return out;
}
#endif

template <class Body>
ZEROSTEP_HOST_DEVICE constexpr int64_t rows_together() {
  if constexpr (requires { Body::kRowsTogether; })
    return Body::kRowsTogether;
  else
    return 1;
}

// A body and its number of rows.
template <class Body>
struct RowsArgument {
  Body body;
  int64_t rows;
};

// The row after `row` of those that a warp or a block takes: the next one of those together, or the first of the next `stride` times as
// many.
template <int64_t kTogether>
ZEROSTEP_HOST_DEVICE inline int64_t next_row(int64_t row, int64_t rows, int64_t stride) {
  const int64_t next = row + 1;
  return next % kTogether != 0 && next < rows ? next : (row / kTogether + stride) * kTogether;
}

template <class Body>
__global__ void __launch_bounds__(kThreadsPerBlock, 2) run_rows(const RowsArgument<Body> argument) {
  using Sums = typename Body::Sums;
  const Body& body = argument.body;
  constexpr unsigned kLanes = Body::kLanes, kRows = kThreadsPerBlock / kLanes;
  const unsigned lane = threadIdx.x % kLanes;
  constexpr int64_t kTogether = rows_together<Body>();
  int64_t row = (blockIdx.x * int64_t{kRows} + threadIdx.x / kLanes) * kTogether;
  for (; row < argument.rows; row = next_row<kTogether>(row, argument.rows, gridDim.x * int64_t{kRows})) {
    Sums sums = body.sums(row, lane);
    if constexpr (!std::is_empty_v<Sums>) {
#pragma unroll
      for (unsigned distance = kWarp / 2; distance > 0; distance /= 2) Body::add(sums, sums_of_lane(sums, distance));
      if constexpr (kLanes > kWarp) {
        __shared__ Sums of_warps[kThreadsPerBlock / kWarp];
        __syncthreads();  // the row before has been read
        if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = sums;
        __syncthreads();
        sums = of_warps[0];
#pragma unroll
        for (unsigned warp = 1; warp < kThreadsPerBlock / kWarp; ++warp) Body::add(sums, of_warps[warp]);
      }
    }
    body.finish(row, lane, sums);
  }
}

template <class Body>
void run_rows_on_host(dim3, dim3, const void* argument) {
  const auto& [body, rows] = *static_cast<const RowsArgument<Body>*>(argument);
  std::array<typename Body::Sums, Body::kLanes> sums;
  for (int64_t row = 0; row < rows; ++row) {
    for (unsigned lane = 0; lane < Body::kLanes; ++lane) sums[lane] = body.sums(row, lane);
    if constexpr (!std::is_empty_v<typename Body::Sums>) {
      for (unsigned warp = 0; warp < Body::kLanes; warp += kWarp)
        for (unsigned distance = kWarp / 2; distance > 0; distance /= 2)
          for (unsigned lane = warp; lane < warp + distance; ++lane) Body::add(sums[lane], sums[lane + distance]);
      for (unsigned warp = kWarp; warp < Body::kLanes; warp += kWarp) Body::add(sums[0], sums[warp]);
    }
    for (unsigned lane = 0; lane < Body::kLanes; ++lane) body.finish(row, lane, sums[0]);
  }
}

// Vectors of eight elements of a row that belong to a lane: use(first element). The last one may be a part of one.
template <unsigned kLanes, class Use>
ZEROSTEP_HOST_DEVICE inline void for_vectors(int64_t width, unsigned lane, const Use& use) {
  for (int64_t j = int64_t{lane} * 8; j < width; j += int64_t{kLanes} * 8) use(j);
}

// Whether vectors of four elements of a row lie where one access reaches them.
template <class As>
ZEROSTEP_HOST_DEVICE inline bool is_aligned(const typename As::T* row) {
  return reinterpret_cast<uintptr_t>(row) % sizeof(typename As::Four) == 0;
}

// Elements [j, j + 8) of a row, of which those from `width` on are `beyond` and are not written.
template <class As>
ZEROSTEP_HOST_DEVICE inline void load_eight(const typename As::T* row, int64_t j, int64_t width, float beyond, float* out) {
  if (j + 8 <= width && is_aligned<As>(row)) {
    const auto* fours = reinterpret_cast<const typename As::Four*>(row + j);
    const typename As::Four a = fours[0], b = fours[1];
    As::values(a, out);
    As::values(b, out + 4);
    return;
  }
#pragma unroll
  for (int n = 0; n < 8; ++n) out[n] = j + n < width ? As::value(row[j + n]) : beyond;
}
template <class As>
ZEROSTEP_HOST_DEVICE inline void store_eight(const float* values, typename As::T* row, int64_t j, int64_t width) {
  if (j + 8 <= width && is_aligned<As>(row)) {
    auto* fours = reinterpret_cast<typename As::Four*>(row + j);
    store_four(As::four(values), fours);
    store_four(As::four(values + 4), fours + 1);
    return;
  }
#pragma unroll
  for (int n = 0; n < 8; ++n)
    if (j + n < width) row[j + n] = As::rounded(values[n]);
}
ZEROSTEP_HOST_DEVICE inline float sum_of_eight(const float* x) {
  return ieee_add(ieee_add(ieee_add(x[0], x[1]), ieee_add(x[2], x[3])), ieee_add(ieee_add(x[4], x[5]), ieee_add(x[6], x[7])));
}

// Queues a body as launch() does, for `num_threads` threads or for fewer that take several places each.
template <class Body>
cudaError_t launch_threads(const RowsQueue& queue, int64_t num_threads, const Body& body) {
  if (num_threads <= 0) return cudaSuccess;
  const int64_t blocks = (num_threads + kThreadsPerBlock - 1) / kThreadsPerBlock;
  return launch(queue.stream, static_cast<unsigned>(std::min<int64_t>(blocks, queue.max_blocks)), body);
}

// Queues a body for `rows` rows. Returns what kept it from being queued.
template <class Body>
cudaError_t launch_rows(const RowsQueue& queue, int64_t rows, const Body& body) {
  static_assert(Body::kLanes == kWarp || Body::kLanes == kThreadsPerBlock, "a warp or a block has a row");
  if (rows <= 0) return cudaSuccess;
  constexpr int64_t kRows = kThreadsPerBlock / Body::kLanes * rows_together<Body>();
  const auto blocks = static_cast<unsigned>(std::min<int64_t>((rows + kRows - 1) / kRows, queue.max_blocks));
  return launch_kernel(reinterpret_cast<const void*>(&run_rows<Body>), &run_rows_on_host<Body>, queue.stream, blocks,
                       RowsArgument<Body>{body, rows});
}

}  // namespace zerostep::cuda
