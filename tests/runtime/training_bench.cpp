// Training speed against a plain LibTorch loop measured in the same run, in turns. Run by hand:
//   OMP_NUM_THREADS=1 mpirun -np 2 --bind-to none build/tests/training_bench [samples a rank] [tokens a sample] [rounds]
// The model is GPT-2 of 8 layers, 512 wide, 25.6 M parameters, AdamW. The limit is W times one plain process that has the machine to
// itself: what W independent processes could do at best. With one rank the last column is the engine's overhead.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "runtime/engine/engine.h"
#include "sharding/mpi_session.h"
#include "tests/support/plain_gpt2.h"
#include "tests/support/timing.h"

namespace {

using namespace zerostep;
using testing::median;
using testing::seconds_of;

// What a user would write with torch::nn: whole graph, gradients freed after the step, fused AdamW.
struct PlainModel : testing::PlainGpt2 {
  explicit PlainModel(const Gpt2Options& options) : PlainGpt2(options) {
    for (const auto& p : parameters()) {
      weights.push_back(p);
      moments.push_back(at::zeros_like(p));
      squares.push_back(at::zeros_like(p));
      steps.push_back(at::zeros({}));
    }
  }
  void step(const Batch& batch) {
    at::cross_entropy_loss(logits(batch.tokens).flatten(0, 1), batch.labels.flatten()).backward();
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> gradients;
    for (auto& p : weights) gradients.push_back(p.grad());
    for (auto& s : steps) s.add_(1);
    at::_fused_adamw_(weights, gradients, moments, squares, {}, steps, 1e-4, 0.9, 0.999, 0.01, 1e-8, false, false);
    for (auto& p : weights) p.mutable_grad() = at::Tensor();
  }
  std::vector<at::Tensor> weights, moments, squares, steps;
};

Batch random_batch(int64_t samples, int64_t tokens, int64_t vocabulary, int world) {
  Batch batch;
  batch.tokens = at::randint(vocabulary, {samples, tokens}, at::kLong);
  batch.labels = at::randint(vocabulary, {samples, tokens}, at::kLong);
  for (int64_t i = 0; i < samples; ++i) batch.sample_ids.push_back(i);
  batch.valid_tokens = samples * tokens;
  batch.global_valid_tokens = batch.valid_tokens * world;
  return batch;
}

}  // namespace

int main(int argc, char** argv) {
  MpiSession session(&argc, &argv);
  Communicator world = make_mpi_communicator(session, {});
  const int64_t samples = argc > 1 ? std::atoll(argv[1]) : 4, tokens = argc > 2 ? std::atoll(argv[2]) : 256;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 9;
  at::set_num_threads(std::getenv("OMP_NUM_THREADS") != nullptr ? std::atoi(std::getenv("OMP_NUM_THREADS")) : 1);

  const Gpt2Options options = testing::benchmark_gpt2();
  const auto model = make_gpt2(options);
  const auto objective = make_cross_entropy();
  const Batch batch = random_batch(samples, tokens, options.vocab_size, world.size());

  // The plain loop gets LibTorch's own allocator, as a user has it: its tensors are made before ours is installed, and it is measured
  // first.
  std::map<std::string, std::vector<double>> times;
  const std::string plain = "plain LibTorch, one process alone";
  if (world.rank() == 0) {
    PlainModel reference(options);
    for (int i = 0; i < rounds + 2; ++i) {
      const double s = seconds_of([&] { reference.step(batch); });
      if (i >= 2) times[plain].push_back(s);
    }
  }
  double done = 0;
  world.all_reduce_scalars({&done, 1}, ReduceOp::Sum, "plain loop");

  install_metered_allocator();
  std::vector<std::pair<std::string, std::unique_ptr<Engine>>> engines;
  for (const DType type : {DType::F32, DType::BF16})
    for (const int stage : {0, 1, 2, 3}) {
      if (type == DType::BF16 && stage != 3) continue;
      Config config;
      config.zero.stage = stage;
      config.zero.overlap_comm = stage == 3;
      config.gradient_clipping = 1.0;
      config.precision.compute = type;
      config.batch = {samples * world.size(), samples, 1};
      engines.emplace_back(
          std::string("stage ") + std::to_string(stage) + " " + name_of(type),
          std::make_unique<Engine>(
              config, *model, *objective, plan_training(config, *model, *objective, world.size()),
              [&](const ParameterInfo& info, int64_t begin, int64_t count, float* out) { initial_values(info, 1, begin, count, out); },
              world));
    }
  for (int round = 0; round < rounds + 2; ++round)
    for (auto& [name, engine] : engines) {
      const double s = seconds_of([&] { engine->train_step(round, [&](int64_t) { return batch; }); });
      if (round >= 2) times[name].push_back(s);
    }
  // The plain loop again, at the end: the machine may have changed.
  if (world.rank() == 0) {
    PlainModel reference(options);
    for (int i = 0; i < rounds + 2; ++i) {
      const double s = seconds_of([&] { reference.step(batch); });
      if (i >= 2) times[plain + ", our allocator"].push_back(s);
    }
  }
  world.all_reduce_scalars({&done, 1}, ReduceOp::Sum, "plain loop");
  if (world.rank() != 0) return 0;
  const double limit =
      world.size() * static_cast<double>(samples * tokens) / std::min(median(times[plain]), median(times[plain + ", our allocator"]));
  std::printf("GPT-2 8 x 512, %d ranks x %d threads, %ld tokens a rank and step, %s\n", world.size(), at::get_num_threads(),
              static_cast<long>(samples * tokens), world.backend());
  std::printf("%-50s %10s %12s %10s\n", "", "ms/step", "tokens/s", "of limit");
  for (const auto& [name, values] : times) {
    const double s = median(values), rate = static_cast<double>(samples * tokens) / s * (name.starts_with("plain") ? 1 : world.size());
    std::printf("%-50s %10.2f %12.0f %10.3f\n", name.c_str(), s * 1e3, rate, rate / limit);
  }
  std::printf("bf16 over fp32, stage 3: %.2f x\n", median(times["stage 3 fp32"]) / median(times["stage 3 bf16"]));
  return 0;
}
