#include "offload/cuda/cuda_kernels.h"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/cuda/cuda_device.h"
#include "base/cuda/kernel_queue.h"
#include "base/error.h"
#include "offload/cuda/queue.h"
#include "offload/low_rank.h"
#include "offload/newton_schulz.h"

namespace zerostep {
namespace {

class CudaKernels final : public FlatKernels {
 public:
  explicit CudaKernels(const CudaDevice& device) : device_(device) {
    device.context().check(cuda::find_max_blocks(device.context().index(), max_blocks_), "its number of processors cannot be read");
  }

  void keep_to_one_thread(const Stream&) const override {}

  void cast(const void* source, DType source_type, void* target, DType target_type, int64_t count, const Stream& stream) const override {
    if (source_type != target_type && source_type != DType::F32 && target_type != DType::F32)
      fail_protocol("[kernels] no cast from {} to {}", name_of(source_type), name_of(target_type));
    if (source_type == target_type) {
      if (source == target || count == 0) return;
      return run(stream, [&](cuda::Queue& queue) {
        const auto size = static_cast<size_t>(num_bytes(count, source_type));
        queue.error = cudaMemcpyAsync(target, source, size, cudaMemcpyDeviceToDevice, queue.stream);
      });
    }
    if (source_type == DType::F64 || target_type == DType::F64)
      fail_protocol("[kernels] no cast from {} to {}", name_of(source_type), name_of(target_type));
    run(stream, [&](cuda::Queue& queue) { cuda::cast(queue, source, source_type, target, target_type, count); });
  }
  void zero(void* target, DType type, int64_t count, const Stream& stream) const override {
    if (count == 0) return;
    run(stream,
        [&](cuda::Queue& queue) { queue.error = cudaMemsetAsync(target, 0, static_cast<size_t>(num_bytes(count, type)), queue.stream); });
  }
  void add(const float* source, float* target, int64_t count, const Stream& stream) const override {
    run(stream, [&](cuda::Queue& queue) { cuda::add(queue, source, target, count); });
  }
  void scale(float factor, float* values, int64_t count, const Stream& stream) const override {
    run(stream, [&](cuda::Queue& queue) { cuda::scale(queue, factor, values, count); });
  }
  void add_squares(const float* values, int64_t count, double* sum, const Stream& stream) const override {
    run_with_scratch(stream, false, [&](cuda::Queue& queue) { cuda::add_squares(queue, values, count, sum); });
  }

  void draw(const ParameterPiece& piece, const NoiseSource& noise, float* out, const Stream& stream) const override {
    check(piece, noise);
    run_with_noise(stream, piece, noise, [&](cuda::Queue& queue) { cuda::draw(queue, piece, noise, out); });
  }
  void perturb(std::span<const Perturbation> perturbations, const Direction& direction, float epsilon,
               const Stream& stream) const override {
    bool is_low_rank = false;
    for (const Perturbation& given : perturbations) {
      check_types(given.values);
      check(given.piece, direction.noise);
      is_low_rank = is_low_rank || direction.noise.is_low_rank(given.piece);
    }
    const auto put = [&](cuda::Queue& queue) { cuda::perturb(queue, perturbations, direction, epsilon); };
    is_low_rank ? run_with_scratch(stream, true, put) : run(stream, put);
  }
  void perturb_tile(const PerturbedTile&, const NoiseSource&) const override {
    fail_protocol("[{}] a GPU makes no tiles for products of the host", device_.name());
  }
  void low_rank_factors(std::span<const LowRankFactors> factors, const Stream& stream) const override {
    for (const LowRankFactors& f : factors) check(f.piece, f.noise);
    run(stream, [&](cuda::Queue& queue) {
      for (const LowRankFactors& f : factors) cuda::low_rank_factors(queue, f);
    });
  }
  void count_unchanged(const PerturbedPiece& piece, const NoiseSource& noise, int64_t* unchanged, const Stream& stream) const override {
    check_types(piece);
    check_noise_range(noise.key, piece.first, piece.count);
    run_with_scratch(stream, false, [&](cuda::Queue& queue) { cuda::count_unchanged(queue, piece, noise, unchanged); });
  }

  void estimate(const ParameterPiece& piece, const Gradient& gradient, float* out, const Stream& stream) const override {
    if (gradient.kind == Gradient::Kind::Reduced) return cast(gradient.reduced, DType::F32, out, DType::F32, piece.count, stream);
    check(piece, gradient);
    run_with_scratch(stream, needs_parts(piece, gradient), [&](cuda::Queue& queue) { cuda::estimate(queue, piece, gradient, out); });
  }
  void update(const PieceUpdate& given, const OptimizerFormula& formula, const Stream& stream) const override {
    check(given.piece, given.gradient);
    const bool is_rounded = given.masters == nullptr;
    if (is_rounded ? !is_16bit(given.type) : given.parameters != nullptr && given.type == DType::F64)
      fail_protocol("[kernels] no update of parameters in {} {} masters", name_of(given.type), is_rounded ? "without" : "with");
    if (is_rounded) check_noise_range(given.rounding, given.piece.first + static_cast<uint64_t>(given.piece.begin), given.piece.count);
    const auto put = [&](cuda::Queue& queue) { cuda::update(queue, given, formula); };
    needs_parts(given.piece, given.gradient) ? run_with_scratch(stream, true, put) : run(stream, put);
  }
  void matrix_direction(const MatrixMoments& moments, const Stream& stream) const override {
    run_with_scratch(stream, true, [&](cuda::Queue& queue) { cuda::matrix_direction(queue, moments); });
  }
  int64_t scratch_bytes() const override {
    static_assert(kSumScratchBytes == cuda::kSumScratchBytes && kPartScratchBytes == cuda::kPartScratchBytes &&
                  kMostDirectionsTogether == cuda::kMaxDirections);
    std::lock_guard lock(mutex_);
    int64_t bytes = 0;
    for (const Arena& arena : arenas_) bytes += arena.capacity_bytes();
    return bytes;
  }
  void take_scratch(bool has_parts, const Stream& stream) const override {
    cuda::Queue queue = queue_of(stream);
    give_scratch(queue, has_parts);
  }
  void newton_schulz(float* matrix, int64_t rows, int64_t columns, float* scratch, const Stream& stream) const override {
    // LibTorch launches on its current stream.
    Stream(stream).launch([=, this] {
      const int64_t elements = rows * columns;
      run_with_scratch(stream, true, [&](cuda::Queue& queue) {
        // The sum of squares lies where the iteration begins to write later.
        auto* const squares = reinterpret_cast<double*>(queue.estimate);
        queue.error = cudaMemsetAsync(squares, 0, sizeof *squares, queue.stream);
        cuda::add_squares(queue, matrix, elements, squares);
        cuda::normalise(queue, matrix, squares, kNewtonSchulzEpsilon, scratch, elements);
      });
      iterate_newton_schulz(matrix, rows, columns, scratch,
                            c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(device_.context().index())));
    });
  }

  void add_gradient_sums(const ParameterPiece& piece, const Gradient& gradient, double* sums, const Stream& stream) const override {
    check(piece, gradient);
    run_with_scratch(stream, needs_parts(piece, gradient),
                     [&](cuda::Queue& queue) { cuda::add_gradient_sums(queue, piece, gradient, sums); });
  }
  void add_direction_sums(const ParameterPiece& piece, const NoiseSource& noise, int64_t num_directions, const GradientEntries& entries,
                          const float* g, double* sums, const Stream& stream) const override {
    NoiseSource last = noise;
    last.key.stream = static_cast<uint32_t>(std::max<int64_t>(0, num_directions - 1));
    check(piece, last);
    run_with_scratch(stream, noise.is_low_rank(piece),
                     [&](cuda::Queue& queue) { cuda::add_direction_sums(queue, piece, noise, num_directions, entries, g, sums); });
  }
  void add_energy(const float* values, int64_t count, int coarse_bin, double* bins, const Stream& stream) const override {
    run_with_scratch(stream, false, [&](cuda::Queue& queue) { cuda::add_energy(queue, values, count, coarse_bin, bins); });
  }

 private:
  template <typename Put>
  void run(const Stream& stream, const Put& put) const {
    cuda::Queue queue = queue_of(stream);
    finish(put, queue);
  }
  template <typename Put>
  void run_with_scratch(const Stream& stream, bool has_parts, const Put& put) const {
    cuda::Queue queue = queue_of(stream);
    give_scratch(queue, has_parts);
    finish(put, queue);
  }
  template <typename Put>
  void run_with_noise(const Stream& stream, const ParameterPiece& piece, const NoiseSource& noise, const Put& put) const {
    noise.is_low_rank(piece) ? run_with_scratch(stream, true, put) : run(stream, put);
  }
  static bool needs_parts(const ParameterPiece& piece, const Gradient& gradient) {
    return gradient.kind != Gradient::Kind::Reduced &&
           (gradient.estimate.noise.is_low_rank(piece) || gradient.estimate.num_directions > cuda::kMaxDirections);
  }
  template <typename Put>
  void finish(const Put& put, cuda::Queue& queue) const {
    put(queue);
    device_.context().check(queue.error, "a kernel cannot be queued");
  }

  cuda::Queue queue_of(const Stream& stream) const {
    cuda::Queue queue;
    queue.stream = static_cast<cudaStream_t>(stream.native_handle());
    if (queue.stream == nullptr)
      fail_protocol("[{}] kernels are put on stream '{}', which is none of CUDA's", device_.name(), stream.name());
    queue.max_blocks = max_blocks_;
    device_.context().make_current();
    return queue;
  }
  // A stream that has the handle of one that has ended may go on with its memory: that one's work is done.
  void give_scratch(cuda::Queue& queue, bool has_parts) const {
    std::lock_guard lock(mutex_);
    Scratch& scratch = scratch_[queue.stream];
    const auto memory = [&](void*& data, int64_t bytes) {
      if (data != nullptr) return;
      arenas_.push_back(device_.memory("scratch of kernels", bytes, MemoryKind::Device));
      data = arenas_.back().allocate(bytes, "scratch of kernels");
    };
    memory(scratch.sums, cuda::kSumScratchBytes);
    queue.sums = static_cast<double*>(scratch.sums);
    queue.folded_sums = queue.sums + cuda::kScratchSums;
    if (!has_parts) return;
    memory(scratch.parts, cuda::kPartScratchBytes);
    queue.factors = static_cast<float*>(scratch.parts);
    queue.partial_estimate = queue.factors + cuda::kScratchFactors;
    queue.estimate = queue.partial_estimate + cuda::kScratchPart;
  }

  // Noise of a piece exists.
  static void check(const ParameterPiece& piece, const NoiseSource& noise) {
    if (noise.is_low_rank(piece)) return check_low_rank(piece, noise);
    check_noise_range(noise.key, piece.first + static_cast<uint64_t>(piece.begin), piece.count);
  }
  static void check(const ParameterPiece& piece, const Gradient& gradient) {
    if (gradient.kind == Gradient::Kind::Reduced) return;
    NoiseSource noise = gradient.estimate.noise;
    for (int64_t d = 0; d < gradient.estimate.num_directions; ++d) {
      noise.key.stream = gradient.estimate.numbers[d];
      check(piece, noise);
    }
  }
  static void check_types(const PerturbedPiece& piece) {
    if (piece.base_type == DType::F64 || piece.target_type == DType::F64)
      fail_protocol("[kernels] no perturbing of {} to {}", name_of(piece.base_type), name_of(piece.target_type));
  }

  const CudaDevice& device_;
  unsigned max_blocks_ = 1;
  mutable std::mutex mutex_;
  struct Scratch {
    void *sums = nullptr, *parts = nullptr;
  };
  mutable std::map<cudaStream_t, Scratch> scratch_;
  mutable std::vector<Arena> arenas_;
};

}  // namespace
}  // namespace zerostep

const zerostep::FlatKernels& zerostep_cuda_kernels_2(const zerostep::Device::Impl& device) {
  const auto& gpu = static_cast<const zerostep::CudaDevice&>(device);
  return *static_cast<const zerostep::CudaKernels*>(gpu.kept([&] { return std::make_shared<const zerostep::CudaKernels>(gpu); }));
}
