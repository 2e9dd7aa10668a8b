#pragma once
#include <cstdint>
#include <span>

#include "base/device.h"
#include "base/stream.h"
#include "offload/flat_operands.h"

namespace zerostep {

// Arithmetic on flat arrays, where their memory is: one implementation a backend. Every operation is put on a stream and, where the calling
// thread runs that stream's work (Stream::is_current()), done when the call returns; a host shares the longer ones out among the threads
// that LibTorch has for the stream's thread. Memory, what pointers in operands point at, and results belong to the caller, who keeps them
// until the stream is there. Results are read after Stream::synchronize(). One fixed IEEE sequence an element, and fixed orders of sums:
// bits depend neither on backend, instruction set and threads nor on how an array is cut (but for add_squares()). Wrong types are a
// ProtocolError.
class FlatKernels {
 public:
  // What a GPU's kernels keep for a stream that sums, and for one that draws directions of low rank, adds up more directions than these or
  // makes matrices orthogonal.
  static constexpr int64_t kSumScratchBytes = 4325376, kPartScratchBytes = 8388608, kMostDirectionsTogether = 384;

  virtual ~FlatKernels() = default;

  // Memory of the device that these kernels keep by now.
  virtual int64_t scratch_bytes() const { return 0; }
  // Takes the memory that a stream's kernels of a GPU keep: that of sums, and that of parts besides. What is not taken here is taken at the
  // first call that needs it. RunError where there is none.
  virtual void take_scratch(bool /*has_parts*/, const Stream& /*stream*/) const {}

  // From here on the stream's thread does alone what it takes: it works beside the compute stream, whose threads the cores are for.
  virtual void keep_to_one_thread(const Stream& stream) const = 0;

  // Between equal types (a copy within the device's memory; Device::copy goes between memories), and fp32 and 16 bits: round to nearest
  // even, NaN stays NaN.
  virtual void cast(const void* source, DType source_type, void* target, DType target_type, int64_t count, const Stream& stream) const = 0;
  virtual void zero(void* target, DType type, int64_t count, const Stream& stream) const = 0;
  // target += source, and values *= factor, in fp32.
  virtual void add(const float* source, float* target, int64_t count, const Stream& stream) const = 0;
  virtual void scale(float factor, float* values, int64_t count, const Stream& stream) const = 0;
  // Adds the sum of squares to *sum: not finite where a value is not.
  virtual void add_squares(const float* values, int64_t count, double* sum, const Stream& stream) const = 0;

  // z of a piece.
  virtual void draw(const ParameterPiece& piece, const NoiseSource& noise, float* out, const Stream& stream) const = 0;
  // plus = round(fma(epsilon, d, base)), minus = round(fma(-epsilon, d, base)).
  virtual void perturb(std::span<const Perturbation> perturbations, const Direction& direction, float epsilon,
                       const Stream& stream) const = 0;
  // The same of a tile, along noise of full rank, by the calling thread: for products of the host that make their tiles as they go.
  virtual void perturb_tile(const PerturbedTile& tile, const NoiseSource& noise) const = 0;
  virtual void low_rank_factors(std::span<const LowRankFactors> factors, const Stream& stream) const = 0;
  // Adds to *unchanged how many elements keep their value: round(fma(epsilon, z, base)) == round(base), along noise of full rank.
  virtual void count_unchanged(const PerturbedPiece& piece, const NoiseSource& noise, int64_t* unchanged, const Stream& stream) const = 0;

  // The values of a gradient. `out` may be where it was reduced to.
  virtual void estimate(const ParameterPiece& piece, const Gradient& gradient, float* out, const Stream& stream) const = 0;
  virtual void update(const PieceUpdate& given, const OptimizerFormula& formula, const Stream& stream) const = 0;
  virtual void matrix_direction(const MatrixMoments& moments, const Stream& stream) const = 0;
  // newton_schulz.h says what, and how large the scratch is.
  virtual void newton_schulz(float* matrix, int64_t rows, int64_t columns, float* scratch, const Stream& stream) const = 0;

  // Adds <g, e>, ||g||^2 and ||e||^2 of a gradient e and the reduced one g to sums[3]; without a reduced one, ||e||^2 alone.
  virtual void add_gradient_sums(const ParameterPiece& piece, const Gradient& gradient, double* sums, const Stream& stream) const = 0;
  // Adds <z, g> and <z, z> of directions 0, 1, ... over the entries that noise is left in, and last the squares of those kept (Largest):
  // 2 sums a direction and one. g: reduced, from the piece's first element on.
  virtual void add_direction_sums(const ParameterPiece& piece, const NoiseSource& noise, int64_t num_directions,
                                  const GradientEntries& entries, const float* g, double* sums, const Stream& stream) const = 0;
  // Adds squares by magnitude to kEnergyBins bins: one for every value of the 12 bits below the sign (coarse_bin -1), or, of values in that
  // bin, one for every value of the next 12.
  virtual void add_energy(const float* values, int64_t count, int coarse_bin, double* bins, const Stream& stream) const = 0;
};

// In SIMD on this machine's processor.
const FlatKernels& host_kernels();
// Those of a device, which live as long as it does. A GPU's are queued at once, within a launch of the stream or outside (RunError where
// they cannot be), whatever has failed before; host pointers in operands (numbers, scalars and signs) are read during the call. They make
// no tiles. A stream gets memory for partial sums, and for rows and columns of directions of low rank, by take_scratch() or at the first
// call that needs it.
const FlatKernels& kernels_of(const Device& device);

}  // namespace zerostep
