#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

#include "offload/device_locker.h"
#include "offload/pinned_memory.h"
#include "runtime/timing/measuring.h"

namespace zerostep {
namespace {

// AdamW of fp32 parameters reads its four arrays and writes three of them.
constexpr double kUpdatePasses = 7;

struct AdamPiece {
  // `arrays`: values, a gradient, and zeros.
  AdamPiece(const std::array<float*, 4>& arrays, int64_t count) {
    update.piece.count = count;
    update.gradient.reduced = arrays[1];
    update.masters = arrays[0];
    update.states = {arrays[2], arrays[3]};
    update.lr = 1e-3f;
  }
  PieceUpdate update;
  AdamParameters formula{.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step_size = 1e-3, .inv_sqrt_bias_correction2 = 1, .decoupled = true};
};

std::array<float*, 4> arrays_in(Arena& memory, int64_t array_bytes) {
  std::array<float*, 4> out{};
  for (float*& array : out) array = static_cast<float*>(memory.allocate(array_bytes, "array"));
  return out;
}

}  // namespace

void measure_flat_kernels(Measuring& m, double seconds) {
  constexpr double kMemory = 0.35, kNoise = 0.18, kUpdates = 0.47;  // of the time
  Arena memory = m.device.memory("measurement", 4 * m.array_bytes);
  const std::array<float*, 4> arrays = arrays_in(memory, m.array_bytes);
  const StreamDrain drain(m.stream);
  const auto count = m.array_bytes / static_cast<int64_t>(sizeof(float));
  const auto bytes = static_cast<double>(m.array_bytes);
  const double passes = m.meter.seconds_of(
      figures::kMemory, kMemory * seconds,
      [&] {
        m.kernels.cast(arrays[0], DType::F32, arrays[1], DType::BF16, count, m.stream);
        m.kernels.cast(arrays[2], DType::F32, arrays[3], DType::F32, count, m.stream);
        m.kernels.zero(arrays[1], DType::F32, count, m.stream);
      },
      m.timer);
  m.machine().memory_bytes_per_second = 4.5 * bytes / passes;

  // A processor makes them where they are used, in a cache; a GPU is busy with more of them at a time.
  const int64_t drawn = m.device.is_host() ? std::min(count, kMiB) : count;
  const ParameterPiece piece{.count = drawn};
  const auto noise_rate = [&](const PerturbedPiece& values) {
    const Perturbation perturbation{.piece = piece, .values = values};
    const double taken = m.meter.seconds_of(
        figures::kNoise, kNoise / 2 * seconds,
        [&] {
          m.kernels.perturb({&perturbation, 1}, {}, 1e-3f, m.stream);
        },
        m.timer);
    return static_cast<double>(drawn) / taken;
  };
  m.machine().noise_elements_per_second = noise_rate({.base = arrays[0], .plus = arrays[1]});
  m.machine().noise_16bit_elements_per_second =
      noise_rate({.base = arrays[0], .plus = arrays[1], .minus = arrays[2], .target_type = DType::BF16});

  m.kernels.zero(arrays[2], DType::F32, count, m.stream);
  const AdamPiece adam(arrays, count);
  m.kernels.draw(adam.update.piece, {}, arrays[1], m.stream);
  const double updating = m.meter.seconds_of(
      figures::kUpdates, kUpdates * seconds, [&] { m.kernels.update(adam.update, adam.formula, m.stream); }, m.timer);
  m.machine().update_bytes_per_second = kUpdatePasses * bytes / updating;
  if (m.device.is_host()) m.machine().host_update_bytes_per_second = m.machine().update_bytes_per_second;
  m.stream.synchronize();
}

// Through memory of the host that is pinned as the tiers pin it, each way on a lane's stream.
void measure_copies(Measuring& m, double seconds) {
  const int64_t large = round_up(m.array_bytes / 4, kAlignmentBytes), small = 4096;
  std::string warning;
  PinnedMemory pinned({.locker = page_locker(m.device), .warn = [&](const std::string& text) { warning = text; }});
  Arena host = pinned.memory("measurement", large), device = m.device.memory("measurement", large);
  auto* const on_host = static_cast<std::byte*>(host.allocate(large, "copies"));
  auto* const on_device = static_cast<std::byte*>(device.allocate(large, "copies"));
  pinned.warn_of_pageable();
  m.measured.copies = warning.empty() ? "through pinned memory" : warning;
  for (const bool is_up : {true, false}) {
    Stream lane = m.device.stream(is_up ? "host to device" : "device to host");
    const StreamDrain drain(lane);
    const CallTimer timer = stream_timer(lane);
    const auto seconds_of = [&](int64_t bytes, double share) {
      return m.meter.seconds_of(
          is_up ? figures::kCopiesToDevice : figures::kCopiesToHost, share * seconds,
          [&] { is_up ? m.device.copy(lane, on_device, on_host, bytes) : m.device.copy(lane, on_host, on_device, bytes); }, timer);
    };
    const double of_large = seconds_of(large, 0.4), of_small = seconds_of(small, 0.1);
    (is_up ? m.machine().host_to_device : m.machine().device_to_host) =
        link_of(static_cast<double>(small), of_small, static_cast<double>(large), of_large);
  }
}

// On a thread of the host's own, which the lane of the host's updates is.
void measure_host_updates(Measuring& m, double seconds) {
  const int64_t array_bytes = std::min(m.array_bytes, 64 * kMiB), count = array_bytes / static_cast<int64_t>(sizeof(float));
  PinnedMemory pinned({.locker = page_locker(m.device), .warn = [](const std::string&) {}});  // which measure_copies() tells
  Arena memory = pinned.memory("measurement", 4 * array_bytes);
  const std::array<float*, 4> arrays = arrays_in(memory, array_bytes);
  const FlatKernels& kernels = host_kernels();
  Stream lane = m.device.host_stream("host updates");
  const StreamDrain drain(lane);
  const auto on_lane = [&](const std::function<void()>& work) { lane.launch(work).wait(); };
  const AdamPiece adam(arrays, count);
  on_lane([&] { kernels.draw(adam.update.piece, {}, arrays[1], lane); });
  const double updating =
      m.meter.seconds_of(figures::kHostUpdates, seconds, [&] { on_lane([&] { kernels.update(adam.update, adam.formula, lane); }); });
  m.machine().host_update_bytes_per_second = kUpdatePasses * static_cast<double>(array_bytes) / updating;
}

}  // namespace zerostep
