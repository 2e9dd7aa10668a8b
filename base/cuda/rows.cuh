#pragma once
#include <algorithm>
#include <array>
#include <cstring>

#include "base/cuda/launch.cuh"
#include "base/ieee.h"

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

// Queues a body for `rows` rows. Returns what kept it from being queued.
template <class Body>
cudaError_t launch_rows(const KernelQueue& queue, int64_t rows, const Body& body) {
  static_assert(Body::kLanes == kWarp || Body::kLanes == kThreadsPerBlock, "a warp or a block has a row");
  if (rows <= 0) return cudaSuccess;
  constexpr int64_t kRows = kThreadsPerBlock / Body::kLanes * rows_together<Body>();
  const auto blocks = static_cast<unsigned>(std::min<int64_t>((rows + kRows - 1) / kRows, queue.max_blocks));
  return launch_kernel(reinterpret_cast<const void*>(&run_rows<Body>), &run_rows_on_host<Body>, queue.stream, blocks,
                       RowsArgument<Body>{body, rows});
}

}  // namespace zerostep::cuda
