// The flat kernels and those of the cross-entropy on a GPU, taken in turns in one run with what they are compared with: a copy within the
// device's memory, and noise that is drawn alone. Figures of the fake GPU mean nothing. 128 million elements need 4 GB; takes about 5
// seconds. usage: cuda_bench [millions of elements, default 128] [rounds, default 9]
#include <ATen/ops/from_blob.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "base/cuda/cuda_library.h"
#include "base/error.h"
#include "models/cuda/cuda_model_kernels.h"
#include "offload/flat_kernels.h"
#include "tests/support/timing.h"

namespace zerostep {
namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess) fail_run("benchmark: {}", cudaGetErrorString(error));
}

struct Row {
  std::string name;
  double bytes_per_element;
  double normals_per_element;  // 0: not compared with the noise
  double least;                // share of what bounds it
  std::function<void()> work;
  std::vector<double> seconds = {};
};

// `n` logits in bf16, rows of a vocabulary of 32,768 words, each row's label its first one.
class CrossEntropy {
 public:
  CrossEntropy(const Device& gpu, Arena& memory, int64_t n) {
    const int64_t rows = n / kWords;
    const at::Device device(gpu.name());
    const auto tensor = [&](const std::vector<int64_t>& sizes, at::ScalarType type) {
      int64_t bytes = static_cast<int64_t>(at::elementSize(type));
      for (const int64_t size : sizes) bytes *= size;
      const auto nothing = [](void*) {};
      return at::from_blob(memory.allocate(bytes, "cross-entropy"), sizes, nothing, at::TensorOptions(type).device(device), device);
    };
    part_ = {tensor({rows, kWords}, at::kBFloat16), tensor({rows}, at::kLong), 0};
    gradient_ = tensor({rows, kWords}, at::kBFloat16);
    statistics_ = tensor({rows, 3}, at::kFloat);
    factor_ = tensor({}, at::kFloat);
  }
  void* logits() const { return part_.logits.data_ptr(); }
  void add_logits(Stream& stream) const {
    stream.launch([&] { kernels_.add_logits(part_, statistics_); });
  }
  void differentiate(Stream& stream) const {
    stream.launch([&] { kernels_.logits_gradient(part_, statistics_, factor_, gradient_); });
  }

 private:
  static constexpr int64_t kWords = 1 << 15;
  const DeviceKernels& kernels_ = reinterpret_cast<CudaModelKernels*>(function_of_cuda_library(kCudaModelKernels))();
  LogitsPart part_;
  at::Tensor gradient_, statistics_, factor_;
};

void run(int64_t n, int rounds) {
  constexpr int64_t kRows = 4096;
  const Device gpu = Device::cuda(0);
  gpu.load_operators();
  Stream stream = gpu.stream("kernels");
  const FlatKernels& kernels = kernels_of(gpu);
  Arena memory = gpu.memory("arrays", 7 * 4 * n + (1 << 20) + n / 512);
  const auto array = [&](int64_t bytes) { return memory.allocate(bytes * n, "array"); };
  const auto floats = [&] { return static_cast<float*>(array(4)); };
  float *const p = floats(), *const g = floats(), *const m = floats(), *const v = floats(), *const out = floats();
  void *const plus = array(2), *const minus = array(2);
  auto* const sum = static_cast<double*>(memory.allocate(64, "sum"));
  const ParameterPiece piece{0, kRows, n / kRows, 0, n};
  std::vector<uint32_t> numbers;
  for (uint32_t d = 0; d < 8; ++d) numbers.push_back(d);
  const std::vector<float> scalars(8, 0.5f);
  const NoiseSource gaussian{}, rademacher{NoiseKind::Rademacher, {}, 0, 1}, low_rank{NoiseKind::Gaussian, {}, 4, 1};
  const OptimizerFormula adamw = AdamParameters{0.9, 0.999, 1e-8, 1e-6, 1, true}, sgd = SgdParameters{0, 0, false, false};

  const auto perturb = [&](const NoiseSource& noise, DType base) {
    Perturbation given{piece, {}, nullptr};
    given.values.base = p;
    given.values.base_type = base;
    given.values.plus = plus;
    given.values.minus = minus;
    given.values.target_type = DType::BF16;
    kernels.perturb({&given, 1}, Direction{noise, {}, 0, 1}, 1e-3f, stream);
  };
  const auto update = [&](const OptimizerFormula& formula, const NoiseSource& noise, int64_t q) {
    PieceUpdate given;
    given.piece = piece;
    given.gradient.reduced = g;
    if (q > 0) given.gradient = {Gradient::Kind::Estimate, nullptr, {noise, numbers.data(), scalars.data(), q, 0.1f, {}, 0, 0}};
    given.masters = p;
    given.parameters = plus;
    given.type = DType::BF16;
    given.states = {m, v};
    given.lr = 1e-6f;
    kernels.update(given, formula, stream);
  };
  const CrossEntropy entropy(gpu, memory, n);
  kernels.draw(piece, gaussian, out, stream);
  kernels.cast(out, DType::F32, entropy.logits(), DType::BF16, n, stream);
  std::vector<Row> rows;
  rows.push_back({"copy", 8, 0, 0, [&] { gpu.copy(stream, out, p, 4 * n); }});
  rows.push_back({"gaussian noise alone", 4, 1, 0, [&] { kernels.draw(piece, gaussian, out, stream); }});
  rows.push_back({"cast fp32 to bf16", 6, 0, 0.85, [&] { kernels.cast(p, DType::F32, plus, DType::BF16, n, stream); }});
  rows.push_back({"norm", 4, 0, 0.85, [&] { kernels.add_squares(p, n, sum, stream); }});
  rows.push_back({"AdamW", 30, 0, 0.85, [&] { update(adamw, gaussian, 0); }});
  rows.push_back({"perturb gaussian, fp32 to bf16", 8, 0, 0.85, [&] { perturb(gaussian, DType::F32); }});
  rows.push_back({"perturb rademacher, fp32 to bf16", 8, 0, 0.85, [&] { perturb(rademacher, DType::F32); }});
  rows.push_back({"perturb rademacher, bf16", 6, 0, 0.85, [&] { perturb(rademacher, DType::BF16); }});
  for (const int64_t q : {1, 8}) {
    const auto name = [q](const char* what) { return fmt::format("{}, q = {}", what, q); };
    const double normals = q == 1 ? 0 : static_cast<double>(q);
    rows.push_back({name("SGD gaussian"), 10, normals, q == 1 ? 0.85 : 0.8, [&, q] { update(sgd, gaussian, q); }});
    rows.push_back({name("SGD rademacher"), 10, 0, 0.85, [&, q] { update(sgd, rademacher, q); }});
    rows.push_back({name("SGD of rank 4"), 10, 0, 0, [&, q] { update(sgd, low_rank, q); }});
    rows.push_back({name("AdamW gaussian"), 26, normals, q == 1 ? 0.85 : 0.8, [&, q] { update(adamw, gaussian, q); }});
    rows.push_back({name("AdamW rademacher"), 26, 0, 0.85, [&, q] { update(adamw, rademacher, q); }});
  }
  rows.push_back({"cross-entropy, bf16", 2, 0, 0, [&] { entropy.add_logits(stream); }});
  rows.push_back({"its gradient, bf16", 4, 0, 0, [&] { entropy.differentiate(stream); }});

  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  const auto handle = static_cast<cudaStream_t>(stream.native_handle());
  for (int round = -1; round < rounds; ++round)
    for (Row& row : rows) {
      check(cudaEventRecord(begin, handle));
      row.work();
      check(cudaEventRecord(end, handle));
      stream.synchronize();
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, begin, end));
      if (round >= 0) row.seconds.push_back(1e-3 * static_cast<double>(milliseconds));
    }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);

  const auto rate = [&](const Row& row, double per_element) {
    return per_element * static_cast<double>(n) / std::max(1e-9, testing::median(row.seconds));
  };
  const double copied = rate(rows[0], rows[0].bytes_per_element), drawn = rate(rows[1], 1);
  fmt::print("{} elements; medians of {} rounds; the bound is the copy's rate, or the noise's where that is less\n\n", n, rounds);
  fmt::print("{:<34} {:>8} {:>8} {:>9} {:>9} {:>7}\n", "", "ms", "GB/s", "/ copy", "/ bound", "floor");
  for (const Row& row : rows) {
    const double elements = rate(row, 1), of_copy = elements * row.bytes_per_element / copied;
    const double of_noise = elements * row.normals_per_element / drawn, of_bound = std::max(of_copy, of_noise);
    fmt::print("{:<34} {:>8.3f} {:>8.0f} {:>9.2f} {:>9.2f} {:>7}\n", row.name, 1e3 * testing::median(row.seconds),
               1e-9 * elements * row.bytes_per_element, of_copy, of_bound,
               row.least == 0 ? std::string() : fmt::format("{:.2f}{}", row.least, of_bound < row.least ? " !" : ""));
  }
}

}  // namespace
}  // namespace zerostep

int main(int argc, char** argv) {
  const int64_t millions = argc > 1 ? std::atoll(argv[1]) : 128;
  zerostep::run(std::max<int64_t>(1, millions) << 20, argc > 2 ? std::max(1, std::atoi(argv[2])) : 9);
  return 0;
}
