#include <algorithm>

#include "offload/cuda/put.cuh"

namespace zerostep::cuda {
namespace {

template <class Source>
struct DrawBody {
  using Cells = typename Source::Cells;
  Source source;
  Cells cells;
  uint32_t number;
  float* out;
  bool is_aligned;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    for_jobs(index, cells.num_jobs(), [&](int64_t job) {
      float z[kNumElements<Cells>];
      source.fill(cells, job, 0, number, z);
      with_wholeness(cells, job, is_aligned,
                     [&](auto whole, int64_t first) { store_as<AsF32, decltype(whole)::value, Cells::kVectors>(cells, first, 0, z, out); });
    });
  }
};

template <class Cells>
struct PerturbPart {
  Cells cells;
  const void* base;
  void *plus, *minus;
  const float* gradient;
  int64_t end_job;  // of all parts up to this one
  DType base_type, target_type;
  bool is_aligned;
};

// Several parameters along one direction. Every thread goes through the parts once, as its jobs do.
template <class Source>
struct PerturbBody {
  using Cells = typename Source::Cells;
  static constexpr int kMaxParts = std::is_same_v<Source, LowRank> ? 1 : 32;
  static constexpr int kTaken = kTogether<Cells>, kElements = kTaken * Cells::kWidth;
  Source source;
  uint32_t number;
  float epsilon;
  GradientEntries entries;
  float gradient_weight, noise_weight;
  int num_parts = 0;
  PerturbPart<Cells> parts[kMaxParts];

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    int p = 0;
    int64_t begin = 0;
    for_jobs(index, parts[num_parts - 1].end_job, [&](int64_t job) {
      while (job >= parts[p].end_job) begin = parts[p++].end_job;
      const PerturbPart<Cells>& part = parts[p];
      float z[kNumElements<Cells>];
      source.fill(part.cells, job - begin, 0, number, z);
      with_wholeness(part.cells, job - begin, part.is_aligned, [&](auto whole, int64_t first) {
#pragma unroll
        for (int v = 0; v < Cells::kVectors; v += kTaken) take<decltype(whole)::value>(part, first, v, z + v * Cells::kWidth);
      });
    });
  }

 private:
  template <bool kWhole>
  ZEROSTEP_HOST_DEVICE void take(const PerturbPart<Cells>& part, int64_t first, int v, float* d) const {
    if (entries.which != GradientEntries::Which::None) {
      float g[kElements];
      load_as<AsF32, kWhole, kTaken>(part.cells, first, v, part.gradient, g);
      const bool is_split = entries.which == GradientEntries::Which::Largest;
#pragma unroll
      for (int n = 0; n < kElements; ++n)
        d[n] = is_split ? split_direction(entries, gradient_weight, noise_weight, g[n], d[n])
                        : mixed_direction(gradient_weight, noise_weight, g[n], d[n]);
    }
    float base[kElements], moved[kElements];
    load<kWhole, kTaken>(part.cells, first, v, part.base, part.base_type, base);
    if (part.plus != nullptr) {
#pragma unroll
      for (int n = 0; n < kElements; ++n) moved[n] = ieee_fma(epsilon, d[n], base[n]);
      store<kWhole, kTaken>(part.cells, first, v, moved, part.plus, part.target_type);
    }
    if (part.minus != nullptr) {
#pragma unroll
      for (int n = 0; n < kElements; ++n) moved[n] = ieee_fma(-epsilon, d[n], base[n]);
      store<kWhole, kTaken>(part.cells, first, v, moved, part.minus, part.target_type);
    }
  }
};

template <class Source>
class Perturbing {
 public:
  Perturbing(Queue& queue, const Source& source, const Direction& direction, float epsilon) : queue_(queue) {
    body_.source = source;
    body_.number = direction.noise.key.stream;
    body_.epsilon = epsilon;
    body_.entries = direction.entries;
    body_.gradient_weight = direction.gradient_weight;
    body_.noise_weight = direction.noise_weight;
  }
  void add(const typename Source::Cells& cells, const Perturbation& given) {
    if (cells.num_jobs() == 0) return;
    const PerturbedPiece& values = given.values;
    const bool is_instructed = body_.entries.which != GradientEntries::Which::None;
    const bool is_aligned = are_vectors_aligned(cells, values.base, values.base_type) &&
                            are_vectors_aligned(cells, values.plus, values.target_type) &&
                            are_vectors_aligned(cells, values.minus, values.target_type) &&
                            are_vectors_aligned(cells, is_instructed ? given.gradient : nullptr, DType::F32);
    const int64_t before = body_.num_parts == 0 ? 0 : body_.parts[body_.num_parts - 1].end_job;
    body_.parts[body_.num_parts++] = {
        cells,     values.base, values.plus, values.minus, given.gradient, before + cells.num_jobs(), values.base_type, values.target_type,
        is_aligned};
    if (body_.num_parts == body_.kMaxParts) put_all();
  }
  void put_all() {
    if (body_.num_parts > 0) put(queue_, body_.parts[body_.num_parts - 1].end_job, body_);
    body_.num_parts = 0;
  }

 private:
  Queue& queue_;
  PerturbBody<Source> body_;
};

template <class Source>
void perturb_full_rank(Queue& queue, const Source& source, std::span<const Perturbation> perturbations, const Direction& direction,
                       float epsilon) {
  Perturbing<Source> all(queue, source, direction, epsilon);
  for (const Perturbation& given : perturbations) {
    if (direction.noise.is_low_rank(given.piece)) continue;
    all.add({given.piece.first + static_cast<uint64_t>(given.piece.begin), given.piece.count}, given);
  }
  all.put_all();
}

}  // namespace

void draw(Queue& queue, const ParameterPiece& piece, const NoiseSource& noise, float* out) {
  with_noise(queue, piece, noise, {&noise.key.stream, 1}, [&](const auto& source, const auto& cells) {
    put(queue, cells.num_jobs(),
        DrawBody<std::decay_t<decltype(source)>>{source, cells, noise.key.stream, out, are_vectors_aligned(cells, out, DType::F32)});
  });
}

void perturb(Queue& queue, std::span<const Perturbation> perturbations, const Direction& direction, float epsilon) {
  if (direction.noise.kind == NoiseKind::Gaussian)
    perturb_full_rank(queue, Normals{direction.noise.key}, perturbations, direction, epsilon);
  else
    perturb_full_rank(queue, Signs{direction.noise.key}, perturbations, direction, epsilon);
  for (const Perturbation& given : perturbations) {
    if (!direction.noise.is_low_rank(given.piece)) continue;
    for (const Rectangle& rectangle : rectangles_of(given.piece, direction.noise.rank, 1)) {
      const LowRank source = draw_factors(queue, given.piece, direction.noise, {&direction.noise.key.stream, 1}, rectangle);
      Perturbing<LowRank>(queue, source, direction, epsilon).add(rectangle, given);
    }
  }
}

}  // namespace zerostep::cuda
