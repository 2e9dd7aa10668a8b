#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "base/cuda/elements.cuh"
#include "base/dtype.h"
#include "base/noise_math.h"

namespace zerostep::cuda {

// Which elements of an array one thread works on: jobs of kVectors vectors of kWidth neighbours each, vector v of a job from element
// first(job) + v * stride() on. Elements outside [0, count) are left out. Neighbouring threads take neighbouring jobs, so that the vectors
// of a warp fill whole sectors of memory.

// Of arrays without noise.
struct Neighbours {
  static constexpr int kVectors = 2, kWidth = 4;
  int64_t count;

  Neighbours() = default;
  explicit Neighbours(int64_t elements) : count(elements) {}
  ZEROSTEP_HOST_DEVICE int64_t num_jobs() const { return (count + 255) / 256 * 32; }
  ZEROSTEP_HOST_DEVICE int64_t first(int64_t job) const { return job / 32 * 256 + job % 32 * 4; }
  ZEROSTEP_HOST_DEVICE static constexpr int64_t stride() { return 128; }
  int64_t first_aligned() const { return 0; }
};

// Of the tiles of bits and normals (noise_math.h): four of a tile's sixteen blocks, so four neighbours of each word.
struct NormalTiles {
  static constexpr int kVectors = 4, kWidth = 4;
  uint64_t element;  // of the noise, the array's element 0
  int64_t count;

  NormalTiles() = default;
  NormalTiles(uint64_t first_element, int64_t elements) : element(first_element), count(elements) {}
  ZEROSTEP_HOST_DEVICE int64_t num_jobs() const { return (skipped() + count + 63) / 64 * 4; }
  ZEROSTEP_HOST_DEVICE int64_t first(int64_t job) const { return job / 4 * 64 + job % 4 * 4 - skipped(); }
  ZEROSTEP_HOST_DEVICE static constexpr int64_t stride() { return 16; }
  // The first of the job's four blocks.
  ZEROSTEP_HOST_DEVICE uint64_t block(int64_t job) const {
    return element / kNoiseTile * kNoiseBlocksPerTile + static_cast<uint64_t>(job) * 4;
  }
  int64_t first_aligned() const { return -skipped() & 3; }

 private:
  ZEROSTEP_HOST_DEVICE int64_t skipped() const { return static_cast<int64_t>(element % kNoiseTile); }
};

// Of the tiles of signs: one word of a block.
struct SignTiles {
  static constexpr int kVectors = 32, kWidth = 1;
  uint64_t element;
  int64_t count;

  SignTiles() = default;
  SignTiles(uint64_t first_element, int64_t elements) : element(first_element), count(elements) {}
  ZEROSTEP_HOST_DEVICE int64_t num_jobs() const { return (skipped() + count + 2047) / 2048 * 64; }
  ZEROSTEP_HOST_DEVICE int64_t first(int64_t job) const { return job / 64 * 2048 + word(job) * 512 + job % 16 - skipped(); }
  ZEROSTEP_HOST_DEVICE static constexpr int64_t stride() { return 16; }
  ZEROSTEP_HOST_DEVICE uint64_t block(int64_t job) const {
    return element / kNoiseSignTile * kNoiseBlocksPerTile + static_cast<uint64_t>(job / 64 * 16 + job % 16);
  }
  ZEROSTEP_HOST_DEVICE static int64_t word(int64_t job) { return job / 16 % 4; }
  int64_t first_aligned() const { return 0; }

 private:
  ZEROSTEP_HOST_DEVICE int64_t skipped() const { return static_cast<int64_t>(element % kNoiseSignTile); }
};

// Of a rectangle of a row-major matrix: four rows of one column. The array has elements [0, count) behind `begin` elements of the matrix.
struct Rectangle {
  static constexpr int kVectors = 4, kWidth = 1;
  int64_t columns;         // of the matrix
  int64_t row, column;     // the rectangle's first
  uint32_t height, width;  // height a multiple of 4, or up to the last row
  int64_t begin, count;

  ZEROSTEP_HOST_DEVICE int64_t num_jobs() const { return int64_t{(height + 3) / 4} * width; }
  ZEROSTEP_HOST_DEVICE int64_t first(int64_t job) const { return (row + 4 * quad(job)) * columns + column + place(job) - begin; }
  ZEROSTEP_HOST_DEVICE int64_t stride() const { return columns; }
  // Which four rows, and which column, counted from the rectangle's first ones. There are less than 2^32 jobs.
  ZEROSTEP_HOST_DEVICE uint32_t quad(int64_t job) const { return static_cast<uint32_t>(job) / width; }
  ZEROSTEP_HOST_DEVICE uint32_t place(int64_t job) const { return static_cast<uint32_t>(job) % width; }
  int64_t first_aligned() const { return 0; }
};

// Whether vectors of four lie where one access reaches them. nullptr is an array that is not there.
template <class Cells>
bool are_vectors_aligned(const Cells& cells, const void* data, DType type) {
  if (data == nullptr || Cells::kWidth == 1) return true;
  const auto size = static_cast<int64_t>(size_of(type));
  return (reinterpret_cast<intptr_t>(data) + cells.first_aligned() * size) % (4 * size) == 0;
}

// Vectors [v, v + kNumber) of a job whose first element is `first`, one after the other. kWhole: all of its elements are within [0, count),
// and vectors of four are aligned. What is not within is read as 0 and not written.
template <class As, bool kWhole, int kNumber, class Cells>
ZEROSTEP_HOST_DEVICE inline void load_as(const Cells& cells, int64_t first, int v, const void* from, float* out) {
  const auto* data = static_cast<const typename As::T*>(from);
#pragma unroll
  for (int n = 0; n < kNumber; ++n) {
    const int64_t i = first + (v + n) * cells.stride();
    float* const to = out + n * Cells::kWidth;
    if constexpr (kWhole && Cells::kWidth == 4) {
      As::values(*reinterpret_cast<const typename As::Four*>(data + i), to);
    } else {
#pragma unroll
      for (int k = 0; k < Cells::kWidth; ++k)
        to[k] = kWhole || static_cast<uint64_t>(i + k) < static_cast<uint64_t>(cells.count) ? As::value(data[i + k]) : 0.0f;
    }
  }
}
template <class As, bool kWhole, int kNumber, class Cells, class Value>
ZEROSTEP_HOST_DEVICE inline void store_as(const Cells& cells, int64_t first, int v, const Value* values, void* to) {
  auto* data = static_cast<typename As::T*>(to);
#pragma unroll
  for (int n = 0; n < kNumber; ++n) {
    const int64_t i = first + (v + n) * cells.stride();
    const Value* const x = values + n * Cells::kWidth;
    if constexpr (kWhole && Cells::kWidth == 4) {
      store_four(As::four(x), reinterpret_cast<typename As::Four*>(data + i));
    } else {
#pragma unroll
      for (int k = 0; k < Cells::kWidth; ++k)
        if (kWhole || static_cast<uint64_t>(i + k) < static_cast<uint64_t>(cells.count)) data[i + k] = As::rounded(x[k]);
    }
  }
}

// The same of a type that is fp32 or one of 16 bits.
template <bool kWhole, int kNumber, class Cells>
ZEROSTEP_HOST_DEVICE inline void load(const Cells& cells, int64_t first, int v, const void* from, DType type, float* out) {
  if (type == DType::F32)
    load_as<AsF32, kWhole, kNumber>(cells, first, v, from, out);
  else if (type == DType::BF16)
    load_as<AsBf16, kWhole, kNumber>(cells, first, v, from, out);
  else
    load_as<AsF16, kWhole, kNumber>(cells, first, v, from, out);
}
template <bool kWhole, int kNumber, class Cells>
ZEROSTEP_HOST_DEVICE inline void store(const Cells& cells, int64_t first, int v, const float* values, void* to, DType type) {
  if (type == DType::F32)
    store_as<AsF32, kWhole, kNumber>(cells, first, v, values, to);
  else if (type == DType::BF16)
    store_as<AsBf16, kWhole, kNumber>(cells, first, v, values, to);
  else
    store_as<AsF16, kWhole, kNumber>(cells, first, v, values, to);
}

// Vectors that are worked on together: eight elements, so that loads of several vectors are under way.
template <class Cells>
constexpr int kTogether = Cells::kVectors* Cells::kWidth < 8 ? Cells::kVectors : 8 / Cells::kWidth;
template <class Cells>
constexpr int kNumElements = Cells::kVectors* Cells::kWidth;

// Whether element n of those from vector v on is there.
template <class Cells>
ZEROSTEP_HOST_DEVICE inline bool is_within(const Cells& cells, int64_t first, int v, int n) {
  const int64_t i = first + (v + n / Cells::kWidth) * cells.stride() + n % Cells::kWidth;
  return static_cast<uint64_t>(i) < static_cast<uint64_t>(cells.count);
}

// Calls use(whole, first), where whole is std::true_type if all of the job is there and vectors of four are aligned.
template <class Cells, class Use>
ZEROSTEP_HOST_DEVICE inline void with_wholeness(const Cells& cells, int64_t job, bool is_aligned, const Use& use) {
  const int64_t first = cells.first(job);
  if (is_aligned && first >= 0 && first + (Cells::kVectors - 1) * cells.stride() + Cells::kWidth <= cells.count)
    return use(std::true_type(), first);
  use(std::false_type(), first);
}

}  // namespace zerostep::cuda
