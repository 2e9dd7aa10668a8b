#pragma once
#include <cstdint>

#include "base/cuda/launch.cuh"
#include "offload/cuda/low_rank.h"
#include "offload/cuda/queue.h"
#include "offload/cuda/sources.cuh"

namespace zerostep::cuda {

// Queues a body for `num_threads` threads, or for fewer ones that take several places each.
template <class Body>
void put(Queue& queue, int64_t num_threads, const Body& body) {
  static_assert(sizeof(Body) <= 4096, "a kernel's arguments");
  if (queue.error == cudaSuccess) queue.error = launch_threads({queue.stream, queue.max_blocks}, num_threads, body);
}

// Calls use(job) for every job of the thread.
template <class Use>
ZEROSTEP_HOST_DEVICE inline void for_jobs(const ThreadIndex& index, int64_t num_jobs, const Use& use) {
  for (auto job = static_cast<int64_t>(index.thread); job < num_jobs; job += static_cast<int64_t>(index.num_threads)) use(job);
}

// Calls use(source, cells) with the noise of a piece: once, or, where it is of low rank, for each of the rectangles whose factors fit into
// the scratch memory, when they have been drawn for directions `numbers`.
template <class Use>
void with_noise(Queue& queue, const ParameterPiece& piece, const NoiseSource& noise, std::span<const uint32_t> numbers, const Use& use) {
  const uint64_t first = piece.first + static_cast<uint64_t>(piece.begin);
  if (!noise.is_low_rank(piece) || numbers.empty()) {
    if (noise.kind == NoiseKind::Gaussian) return use(Normals{noise.key}, NormalTiles(first, piece.count));
    return use(Signs{noise.key}, SignTiles(first, piece.count));
  }
  for (const Rectangle& rectangle : rectangles_of(piece, noise.rank, static_cast<int64_t>(numbers.size())))
    use(draw_factors(queue, piece, noise, numbers, rectangle), rectangle);
}

}  // namespace zerostep::cuda
