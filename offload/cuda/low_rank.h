#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "offload/cuda/queue.h"
#include "offload/cuda/sources.cuh"

namespace zerostep::cuda {

// Directions of low rank: their factors are drawn into the stream's scratch memory, and every element is made from them there.

// How many directions' factors lie there together, of noise in a piece.
int directions_together(const ParameterPiece& piece, const NoiseSource& noise);
// Covers a piece with rectangles for which the factors of `num_directions` have room.
std::vector<Rectangle> rectangles_of(const ParameterPiece& piece, int64_t rank, int64_t num_directions);
// Draws the factors of a rectangle of a piece, for directions `numbers`, into the scratch memory.
LowRank draw_factors(Queue& queue, const ParameterPiece& piece, const NoiseSource& noise, std::span<const uint32_t> numbers,
                     const Rectangle& rectangle);

}  // namespace zerostep::cuda
