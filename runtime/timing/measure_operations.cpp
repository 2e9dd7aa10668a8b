#include <ATen/Parallel.h>
#include <ATen/ops/add.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <vector>

#include "models/affine.h"
#include "models/attention.h"
#include "models/gelu.h"
#include "models/layer_norm.h"
#include "models/scalar_type.h"
#include "runtime/timing/measuring.h"

namespace zerostep {
namespace {

// Products that are measured. A GPU has more to do at a time, and larger caches.
struct ProductSizes {
  std::vector<int64_t> rows, widths;
  int64_t weight_elements;
};
ProductSizes product_sizes(const Device& device) {
  if (device.is_host()) return {{16, 64, 256, 1024, 4096}, {256, 512, 1024, 2048, 4096}, 16 * kMiB};
  return {{16, 64, 256, 1024, 4096, 16384}, {256, 512, 1024, 2048, 4096, 8192}, 128 * kMiB};
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

at::TensorOptions numbers_on(const Measuring& m, DType type) {
  return at::TensorOptions(scalar_type(type)).device(at::Device(m.device.name()));
}
// Random numbers, drawn on the host.
at::Tensor drawn(const Measuring& m, DType type, at::IntArrayRef shape) { return at::randn(shape).to(numbers_on(m, type)); }

// Heads 64 wide, each token attending to itself and those before it, in samples of two lengths: what they take gives what every one
// takes.
void measure_attention(Measuring& m, ElementwiseRate& rate, double seconds) {
  const bool is_small = m.device.is_host() || m.least < 0.25;  // a GPU's shorter samples leave most of it idle
  const int64_t lengths[] = {is_small ? 64 : 128, is_small ? 256 : 1024};
  constexpr int64_t kHeads = 8, kHeadWidth = 64;
  const int64_t samples = m.least < 0.25 ? 1 : is_small ? 2 : 16, few = std::min<int64_t>(kHeads, std::max(2, at::get_num_threads()));
  const int64_t num_heads = samples == 1 ? few : kHeads;
  const double budget = seconds / 4;
  std::array<double, 2> forward{}, backward{}, flops{};  // of a head
  for (const bool is_long : {false, true}) {
    const int64_t length = lengths[is_long ? 1 : 0];
    const auto heads = [&] { return drawn(m, rate.type, {samples, length, num_heads, kHeadWidth}).transpose(1, 2); };
    AttentionInput input;
    at::Tensor gradient;
    m.on_device([&] {
      input = {heads(), heads(), heads(), {}, true};
      gradient = heads();
    });
    const std::string figure = figure_of(figures::kAttention, rate.type);
    const auto of_head = [&](double all) { return all / static_cast<double>(samples * num_heads); };
    forward[is_long] = of_head(m.meter.seconds_of(
        figure, budget, [&] { attend(input); }, m.timer));
    const double both = of_head(m.meter.seconds_of(
        figure, budget, [&] { attend_backward(gradient, input, attend(input)); }, m.timer));
    backward[is_long] = std::max(both - forward[is_long], 0.1 * both);
    flops[is_long] = 2.0 * static_cast<double>(length * (length + 1) * kHeadWidth);
  }
  const auto rate_of = [](const std::array<double, 2>& work, const std::array<double, 2>& taken) {
    const double flops_per_second = (work[1] - work[0]) / std::max(taken[1] - taken[0], 0.5 * taken[1]);
    return AttentionRate{flops_per_second, std::max(0.0, taken[0] - work[0] / flops_per_second)};
  };
  rate.attention = rate_of(flops, forward);
  rate.attention_backward = rate_of({2 * flops[0], 2 * flops[1]}, backward);
}

// What a block of GPT-2 does beside products, forward and backward, in tensors as large as its own.
double measure_elementwise(Measuring& m, DType type, double seconds) {
  constexpr int64_t kWidth = 768, kRowsOfFew = 128;
  // A GPU's rate is that of tensors that it is busy with for longer than a launch takes.
  const int64_t large_rows = m.device.is_host()
                                 ? 8 * kRowsOfFew
                                 : round_up(std::max<int64_t>(1, static_cast<int64_t>(m.least * 128)) * kRowsOfFew, 8 * kRowsOfFew);
  const auto numbers = numbers_on(m, type);
  const auto start = std::chrono::steady_clock::now();
  double bytes = 0, taken = 0;
  for (const int64_t rows : {large_rows / 8, large_rows}) {
    if (taken > 0 && m.meter.any(seconds_since(start) > seconds)) break;
    at::Tensor wide, x, bias, wide_bias;
    m.on_device([&] {
      wide = drawn(m, type, {kRowsOfFew, 4 * kWidth}).repeat({rows / kRowsOfFew, 1});
      x = wide.narrow(1, 0, kWidth).contiguous();
      bias = at::ones({kWidth}, numbers), wide_bias = at::ones({4 * kWidth}, numbers);
    });
    const Norm norm{bias, bias};
    constexpr int64_t kWritten = 1 + 1 + 1 + 4 + 4 + 8 + 8;  // widths of a row
    const double of_call = m.meter.seconds_of(
        figure_of(figures::kOperations, type), seconds / 2,
        [&] {
          normalise(x, norm);
          at::add(x, bias);
          at::softmax(x, -1);
          const at::Tensor hidden = wide_bias.expand({rows, 4 * kWidth}).clone();
          tanh_gelu(hidden);
          const at::Tensor input = wide.clone(), gradient = wide.clone();
          tanh_gelu_backward_(input, gradient);
        },
        m.timer);
    const double written = static_cast<double>(rows * kWidth * kWritten) * static_cast<double>(size_of(type));
    if (m.device.is_host())
      bytes += written, taken += of_call;
    else
      bytes = written, taken = of_call;
  }
  return bytes / taken;
}

}  // namespace

// Every product has weights that are in no cache, as a model has more of them than a cache holds.
void measure_products(Measuring& m, DType type, double seconds) {
  std::erase_if(m.machine().gemm, [&](const GemmRate& rate) { return rate.type == type; });
  const ProductSizes sizes = product_sizes(m.device);
  const int64_t weight_blocks = static_cast<int64_t>(std::ceil(m.least * static_cast<double>(sizes.weight_elements / kMiB)));
  at::Tensor block, weights;
  m.on_device([&] {
    block = drawn(m, type, {kMiB});
    weights = block.repeat({weight_blocks});
  });
  const double budget = seconds / static_cast<double>(sizes.rows.size() * sizes.widths.size());
  const auto start = std::chrono::steady_clock::now();
  // Where other programs hold this one up, wide products are left out.
  const auto is_late = [&] { return m.meter.any(seconds_since(start) > 1.5 * seconds); };
  double narrower = 0;  // seconds of an operation of the narrower products of fewest rows
  for (const int64_t width : sizes.widths) {
    double known = narrower;
    for (const int64_t rows : sizes.rows) {
      const double flops = 2.0 * static_cast<double>(rows * width * width);
      // More rows are as fast as those that fill the time already.
      if (known * flops > budget / 2 && rows > sizes.rows.front()) break;
      if (known > 0 && (known * flops > 2 * budget || is_late())) return;
      if (const int64_t needed = std::max(rows, width) * width; weights.numel() < needed)
        m.on_device([&] { weights = block.repeat({(needed + kMiB - 1) / kMiB}); });
      const at::Tensor x = weights.narrow(0, 0, rows * width).view({rows, width});
      const int64_t count = weights.numel() / (width * width);
      int64_t next = 0;
      const double taken = m.meter.seconds_of(
          figure_of(figures::kProducts, type), budget,
          [&] {
            affine(x, weights.narrow(0, next++ % count * width * width, width * width).view({width, width}), {});
          },
          m.timer);
      m.machine().gemm.push_back({type, rows, width, flops / taken});
      known = taken / flops;
      if (rows == sizes.rows.front()) narrower = known;
    }
  }
}

void measure_operations(Measuring& m, double seconds) {
  constexpr double kElementwise = 0.75, kAttention = 0.19;  // of the time; the rest is for an operation
  m.machine().elementwise.clear();
  const auto types = static_cast<double>(kMeasuredTypes.size());
  for (const DType type : kMeasuredTypes) {
    ElementwiseRate rate{type, measure_elementwise(m, type, kElementwise * seconds / types)};
    measure_attention(m, rate, kAttention * seconds / types);
    m.machine().elementwise.push_back(rate);
  }
  at::Tensor few;
  m.on_device([&] { few = at::ones({16}, numbers_on(m, DType::F32)); });
  m.machine().operation_seconds = m.meter.seconds_of(
      figures::kOperation, (1 - kElementwise - kAttention) * seconds, [&] { static_cast<void>(at::add(few, few)); }, m.timer);
}

}  // namespace zerostep
