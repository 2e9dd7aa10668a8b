#pragma once
#include <c10/core/Device.h>

#include <cstdint>

namespace zerostep {

// Newton-Schulz's quintic iteration as Muon has it (Keller Jordan 2024): five times X <- a X + (b A + c A^2) X with A = X X^T and
// (a, b, c) = (3.4445, -4.7750, 2.0315), from X / (||X||_F + 1e-7). Every singular value goes near 1, the vectors stay. In fp32, in place;
// `matrix` is row-major [rows, columns], `scratch` holds newton_schulz_scratch() values. On LibTorch's threads.
void newton_schulz(float* matrix, int64_t rows, int64_t columns, float* scratch);
// The iteration alone, by LibTorch on a device: from what the scratch memory begins with, already divided, to the matrix.
void iterate_newton_schulz(float* matrix, int64_t rows, int64_t columns, float* scratch, c10::Device device);
int64_t newton_schulz_scratch(int64_t rows, int64_t columns);
constexpr int kNewtonSchulzSteps = 5;
constexpr double kNewtonSchulzEpsilon = 1e-7;

}  // namespace zerostep
