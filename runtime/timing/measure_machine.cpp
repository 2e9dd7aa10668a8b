#include "runtime/timing/measure_machine.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <optional>
#include <vector>

#include "models/fused_attention.h"
#include "runtime/memory/machine_description.h"
#include "runtime/timing/measured_parts.h"
#include "runtime/timing/measuring.h"

namespace zerostep {
namespace {

constexpr double kWholeSeconds = 20;  // of a measurement that takes all the memory it would

// Shares of the time. Where nothing is disturbed two thirds of it are taken, and the rest is for what was.
constexpr double kProductShare = 0.13, kProductShareOfGpu = 0.1, kOperationsShare = 0.16, kFlatShare = 0.17, kCopyShare = 0.06,
                 kHostUpdateShare = 0.05, kFileShare = 0.14, kCollectiveShare = 0.12;
// What takes the same time again and again on a machine with nothing else to do.
constexpr std::array kSteadyFigures{figures::kNoise, figures::kMemory, figures::kUpdates, figures::kHostUpdates};
// Of work that is done between parts: longer than the slices of time that programs take turns in.
constexpr double kProbeShare = 0.004, kLeastProbeSeconds = 0.015;

class Measurement {
 public:
  Measurement(const Communicator& ranks, const MeasureOptions& options, const Device& device, const FlatKernels& kernels)
      : m_{.options = options,
           .device = device,
           .kernels = kernels,
           .stream = device.compute_stream(),
           .timer = stream_timer(device.compute_stream()),
           .meter = CallMeter(ranks)} {
    const bool is_host = device.is_host();
    Machine& machine = m_.machine();
    machine.name = !is_host ? device.model() : processor_name().empty() ? "this machine" : processor_name();
    machine.ranks_per_host = options.ranks_per_host;
    machine.threads_per_rank = at::get_num_threads();
    machine.cores_per_rank = options.cores;
    machine.lanes_share_cores = machine.host_is_device = is_host;
    machine.multiprocessors = device.multiprocessors();
    machine.measured_seconds = options.seconds;
    machine.host_bytes = m_.least_capacity(Device::cpu().memory_info().free_bytes, options.ranks_per_host);
    machine.device_bytes = is_host ? machine.host_bytes : m_.least_capacity(device.memory_info().free_bytes, options.ranks_of_device);
    // Larger than the caches, of which ranks that run alone have most for themselves.
    const int64_t whole_array = is_host ? 64 * kMiB : 256 * kMiB;
    const double speed = is_host ? std::min(1.0, options.cores) : 1.0 / options.ranks_of_device;
    const auto share = [&](int64_t capacity) { return static_cast<double>(capacity) / static_cast<double>(16 * whole_array); };
    m_.least = std::min({1.0, options.seconds * speed / kWholeSeconds, share(machine.device_bytes), share(machine.host_bytes)});
    m_.array_bytes = round_up(std::max(kMiB, static_cast<int64_t>(m_.least * static_cast<double>(whole_array))), kMiB);
    // In the caches of a processor; on a GPU, work that a launch does not outlast.
    constexpr int64_t kProbeOfCore = int64_t{1} << 17, kProbeOfGpu = int64_t{1} << 22;
    probe_elements_ = is_host
                          ? kProbeOfCore * at::get_num_threads()
                          : std::max(kProbeOfCore, static_cast<int64_t>(m_.least * static_cast<double>(kProbeOfGpu)) & -kAlignmentBytes);
    probe_memory_.emplace(device.memory("measurement", 2 * num_bytes(probe_elements_, DType::F32)));
    for (float*& array : probe_arrays_) {
      array = static_cast<float*>(probe_memory_->allocate(num_bytes(probe_elements_, DType::F32), "probe"));
      kernels.zero(array, DType::F32, probe_elements_, m_.stream);
    }
  }

  MeasuredMachine run() {
    const at::NoGradGuard no_graph;
    MeasuredParts all{.parts = parts(),
                      .seconds = m_.options.seconds,
                      .elapsed = [this] { return m_.meter.most_of(seconds_since(start_)); },
                      .disturbance = [this] { return disturbance(); },
                      .keep = [this] { kept_ = m_.measured; },
                      .restore = [this] { m_.measured = kept_; },
                      .begins = m_.options.begins};
    std::vector<std::string> disturbed = measure_parts(all);
    m_.machine().is_unsteady = !disturbed.empty();
    m_.measured.disturbed = std::move(disturbed);
    return m_.measured;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

  std::vector<MeasuredPart> parts() {
    std::vector<MeasuredPart> out;
    const auto add = [&](const std::string& what, double share, const std::function<void(double)>& measure) {
      out.push_back({what, share, [this, measure](double seconds) {
                       measure(seconds);
                       return take_spreads();
                     }});
    };
    const bool is_host = m_.device.is_host();
    for (const DType type : kMeasuredTypes)
      add(fmt::format("products in {}", name_of(type)), is_host ? kProductShare : kProductShareOfGpu,
          [=, this](double seconds) { measure_products(m_, type, seconds); });
    add("other operations of LibTorch", kOperationsShare, [this](double seconds) { measure_operations(m_, seconds); });
    add("memory, noise and updates", kFlatShare, [this](double seconds) { measure_flat_kernels(m_, seconds); });
    if (!is_host) {
      add("copies between host and device", kCopyShare, [this](double seconds) { measure_copies(m_, seconds); });
      add("updates on the host", kHostUpdateShare, [this](double seconds) { measure_host_updates(m_, seconds); });
    }
    add("files", kFileShare, [this](double seconds) { measure_files(m_, seconds); });
    if (m_.meter.ranks().size() > m_.options.ranks_per_host)
      add("collectives between hosts", kCollectiveShare, [this](double seconds) { measure_between_hosts(m_, seconds); });
    if (m_.options.ranks_per_host > 1)
      add("collectives within a host", kCollectiveShare, [this](double seconds) { measure_within_host(m_, seconds); });
    return out;
  }

  // Of what was measured since the last call; gives the largest of the steady figures.
  double take_spreads() {
    double out = 0;
    for (const auto& [figure, spread] : m_.meter.take_spreads()) {
      m_.measured.spreads[figure] = spread;
      if (std::find(kSteadyFigures.begin(), kSteadyFigures.end(), figure) != kSteadyFigures.end()) out = std::max(out, spread);
    }
    return out;
  }

  // How much longer the same work takes now than it can, as a share: on average, since programs that take turns with this one hold up some
  // of its calls and leave others as they are.
  double disturbance() {
    const auto [base, plus] = probe_arrays_;
    const ParameterPiece piece{.count = probe_elements_};
    const Perturbation perturbation{.piece = piece, .values = {.base = base, .plus = plus}};
    const double enough = std::max(kLeastProbeSeconds, kProbeShare * m_.options.seconds);
    // Marks on a GPU's idle stream tell how late the first kernel comes, too.
    const int64_t together = m_.device.is_host() ? 1 : 8;
    const auto seconds_of_call = [&] {
      return m_.timer.seconds_of(together, [&] { m_.kernels.perturb({&perturbation, 1}, {}, 1e-3f, m_.stream); });
    };
    seconds_of_call();  // warms up
    double sum = 0;
    int calls = 0;
    while (sum < enough) {
      const double seconds = seconds_of_call();
      least_probe_ = std::min(least_probe_, seconds);
      sum += seconds;
      ++calls;
    }
    return m_.meter.most_of(sum / (calls * least_probe_) - 1);
  }

  Measuring m_;
  const Clock::time_point start_ = Clock::now();
  MeasuredMachine kept_;
  std::optional<Arena> probe_memory_;
  std::array<float*, 2> probe_arrays_{};
  int64_t probe_elements_ = 0;
  double least_probe_ = std::numeric_limits<double>::infinity();  // seconds
  const StreamDrain drain_{m_.stream};
};

}  // namespace

std::string figure_of(const char* figure, DType type) { return fmt::format("{}, {}", figure, name_of(type)); }

MeasuredMachine measure_machine(const Communicator& ranks, const MeasureOptions& options, const Device& device,
                                const FlatKernels& kernels) {
  if (!device.is_host()) {
    device.load_operators();
    at::globalContext().lazyInitDevice(at::Device(device.name()).type());
    let_attention_repeat(true);  // as runs do unless they are told otherwise
  }
  return Measurement(ranks, options, device, kernels).run();
}

}  // namespace zerostep
