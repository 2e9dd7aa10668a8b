#include "runtime/timing/measure_machine.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/nth.h"
#include "models/affine.h"
#include "models/attention.h"
#include "models/gelu.h"
#include "models/layer_norm.h"
#include "offload/scratch_files.h"
#include "runtime/memory/machine_description.h"
#include "runtime/timing/call_meter.h"
#include "runtime/timing/measured_parts.h"

namespace zerostep {
namespace {

constexpr std::array kMeasuredTypes{DType::F32, DType::BF16, DType::F16};
constexpr std::array<int64_t, 5> kRows{16, 64, 256, 1024, 4096}, kWidths{256, 512, 1024, 2048, 4096};  // rows: at most kWidths.back()
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr double kWholeSeconds = 20;  // of a measurement that takes all the memory it would
constexpr double kLeastLatency = 10e-9;
constexpr int64_t kWeightBlock = kMiB, kWeightBlocks = kWidths.back() * kWidths.back() / kWeightBlock;  // elements, and blocks of them

// Shares of the time. Where nothing is disturbed two thirds of it are taken, and the rest is for what was.
constexpr double kProductShare = 0.13, kElementwiseShare = 0.12, kAttentionShare = 0.03, kOperationShare = 0.01, kFlatShare = 0.06,
                 kNoiseShare = 0.03, kUpdateShare = 0.08, kFileShare = 0.14, kCollectiveShare = 0.12;
// What takes the same time again and again on a machine with nothing else to do.
constexpr std::array kSteadyFigures{figures::kNoise, figures::kMemory, figures::kUpdates};
// Of work that is done between parts: longer than the slices of time that programs take turns in.
constexpr double kProbeShare = 0.004, kLeastProbeSeconds = 0.015;
constexpr int64_t kProbeElements = int64_t{1} << 17;  // a thread

at::ScalarType scalar_type(DType type) { return type == DType::F32 ? at::kFloat : type == DType::BF16 ? at::kBFloat16 : at::kHalf; }

// What two sizes take gives what every size takes.
Link link_of(double small_bytes, double small_seconds, double large_bytes, double large_seconds) {
  const double seconds_per_byte = std::max(large_seconds - small_seconds, 0.1 * large_seconds) / (large_bytes - small_bytes);
  return {std::max(kLeastLatency, small_seconds - small_bytes * seconds_per_byte), 1 / seconds_per_byte};
}

class Measurement {
 public:
  Measurement(const Communicator& ranks, const MeasureOptions& options, const Device& device, const FlatKernels& kernels)
      : options_(options), device_(device), kernels_(kernels), stream_(device.compute_stream()), meter_(ranks) {
    machine_.name = processor_name().empty() ? "this machine" : processor_name();
    machine_.ranks_per_host = options.ranks_per_host;
    machine_.threads_per_rank = at::get_num_threads();
    machine_.cores_per_rank = options.cores;
    machine_.measured_seconds = options.seconds;
    const auto share = least_capacity(device.memory_info().free_bytes);
    machine_.device_bytes = machine_.host_bytes = share;
    // Larger than the caches, of which ranks that run alone have most for themselves.
    least_ = std::min({1.0, options.seconds * std::min(1.0, options.cores) / kWholeSeconds,
                       static_cast<double>(share) / static_cast<double>(16 * 64 * kMiB)});
    weight_blocks_ = static_cast<int64_t>(std::ceil(least_ * kWeightBlocks));
    array_bytes_ = round_up(std::max(kMiB, static_cast<int64_t>(least_ * 64 * static_cast<double>(kMiB))), kMiB);
    probe_elements_ = kProbeElements * at::get_num_threads();
    probe_memory_.emplace(device.memory("measurement", 2 * num_bytes(probe_elements_, DType::F32)));
    for (float*& array : probe_arrays_) {
      array = static_cast<float*>(probe_memory_->allocate(num_bytes(probe_elements_, DType::F32), "probe"));
      kernels.zero(array, DType::F32, probe_elements_, stream_);
    }
  }

  MeasuredMachine run() {
    const at::NoGradGuard no_graph;
    MeasuredParts all{.parts = parts(),
                      .seconds = options_.seconds,
                      .elapsed = [this] { return meter_.most_of(seconds_since(start_)); },
                      .disturbance = [this] { return disturbance(); },
                      .keep = [this] { kept_ = measured_; },
                      .restore = [this] { measured_ = kept_; },
                      .begins = options_.begins};
    std::vector<std::string> disturbed = measure_parts(all);
    machine_.is_unsteady = !disturbed.empty();
    measured_.disturbed = std::move(disturbed);
    return measured_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

  // Of so many bytes of a host, a rank's share on the host with least.
  int64_t least_capacity(int64_t bytes) {
    return static_cast<int64_t>(meter_.least_of(static_cast<double>(capacity_of(bytes, options_.ranks_per_host))));
  }

  std::vector<MeasuredPart> parts() {
    std::vector<MeasuredPart> out;
    const auto add = [&](const std::string& what, double share, const std::function<void()>& measure) {
      out.push_back({what, share, [this, share, measure](double seconds) {
                       whole_seconds_ = seconds / share;
                       measure();
                       return take_spreads();
                     }});
    };
    for (const DType type : kMeasuredTypes)
      add(fmt::format("products in {}", name_of(type)), kProductShare, [=, this] { measure_products(type); });
    add("other operations of LibTorch", kElementwiseShare + kAttentionShare + kOperationShare, [this] { measure_operations(); });
    add("memory, noise and updates", kFlatShare + kNoiseShare + kUpdateShare, [this] { measure_flat_kernels(); });
    add("files", kFileShare, [this] { measure_files(); });
    if (has_hosts()) add("collectives between hosts", kCollectiveShare, [this] { measure_between_hosts(); });
    if (options_.ranks_per_host > 1) add("collectives within a host", kCollectiveShare, [this] { measure_within_host(); });
    return out;
  }

  // Of what was measured since the last call; gives the largest of the steady figures.
  double take_spreads() {
    double out = 0;
    for (const auto& [figure, spread] : meter_.take_spreads()) {
      measured_.spreads[figure] = spread;
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
    const double enough = std::max(kLeastProbeSeconds, kProbeShare * options_.seconds);
    const auto seconds_of_call = [&] {
      const auto start = Clock::now();
      kernels_.perturb({&perturbation, 1}, {}, 1e-3f, stream_);
      stream_.synchronize();
      return seconds_since(start);
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
    return meter_.most_of(sum / (calls * least_probe_) - 1);
  }

  // Every product has weights that are in no cache, as a model has more of them than a cache holds.
  void measure_products(DType type) {
    std::erase_if(machine_.gemm, [&](const GemmRate& rate) { return rate.type == type; });
    const at::Tensor block = at::randn({kWeightBlock}).to(scalar_type(type));
    at::Tensor weights = block.repeat({weight_blocks_});
    const double share = kProductShare * whole_seconds_, budget = share / (kRows.size() * kWidths.size());
    const auto start = Clock::now();
    // Where other programs hold this one up, wide products are left out.
    const auto is_late = [&] { return meter_.any(seconds_since(start) > 1.5 * share); };
    double narrower = 0;  // seconds of an operation of the narrower products of fewest rows
    for (const int64_t width : kWidths) {
      double known = narrower;
      for (const int64_t rows : kRows) {
        const double flops = 2.0 * static_cast<double>(rows * width * width);
        // More rows are as fast as those that fill the time already.
        if (known * flops > budget / 2 && rows > kRows.front()) break;
        if (known > 0 && (known * flops > 2 * budget || is_late())) return;
        if (const int64_t needed = std::max(rows, width) * width; weights.numel() < needed) weights = block.repeat({needed / kWeightBlock});
        const at::Tensor x = weights.narrow(0, 0, rows * width).view({rows, width});
        const int64_t count = weights.numel() / (width * width);
        int64_t next = 0;
        const double seconds = meter_.seconds_of(figure_of(figures::kProducts, type), budget, [&] {
          affine(x, weights.narrow(0, next++ % count * width * width, width * width).view({width, width}), {});
        });
        machine_.gemm.push_back({type, rows, width, flops / seconds});
        known = seconds / flops;
        if (rows == kRows.front()) narrower = known;
      }
    }
  }

  void measure_operations() {
    machine_.elementwise.clear();
    for (const DType type : kMeasuredTypes) measure_elementwise(type);
    const at::Tensor few = at::ones({16});
    machine_.operation_seconds =
        meter_.seconds_of(figures::kOperation, kOperationShare * whole_seconds_, [&] { return static_cast<void>(at::add(few, few)); });
  }

  // What a block of GPT-2 does beside products, forward and backward, in tensors as large as its own.
  void measure_elementwise(DType type) {
    constexpr int64_t kWidth = 768, kRowsOfFew = 128;
    const auto numbers = at::TensorOptions(scalar_type(type));
    const double share = kElementwiseShare * whole_seconds_ / kMeasuredTypes.size();
    const auto start = Clock::now();
    const at::Tensor few = at::randn({kRowsOfFew, 4 * kWidth}).to(numbers);
    double bytes = 0, seconds = 0;
    for (const int64_t rows : {kRowsOfFew, 8 * kRowsOfFew}) {
      if (seconds > 0 && meter_.any(seconds_since(start) > share)) break;
      const at::Tensor wide = few.repeat({rows / kRowsOfFew, 1}), x = wide.narrow(1, 0, kWidth).contiguous(),
                       bias = at::ones({kWidth}, numbers), wide_bias = at::ones({4 * kWidth}, numbers);
      const Norm norm{bias, bias};
      constexpr int64_t kWritten = 1 + 1 + 1 + 4 + 4 + 8 + 8;  // widths of a row
      seconds += meter_.seconds_of(figure_of(figures::kOperations, type), share / 2, [&] {
        normalise(x, norm);
        at::add(x, bias);
        at::softmax(x, -1);
        const at::Tensor hidden = wide_bias.expand({rows, 4 * kWidth}).clone();
        tanh_gelu(hidden);
        const at::Tensor input = wide.clone(), gradient = wide.clone();
        tanh_gelu_backward_(input, gradient);
      });
      bytes += static_cast<double>(rows * kWidth * kWritten) * static_cast<double>(size_of(type));
    }
    ElementwiseRate rate{type, bytes / seconds};
    measure_attention(rate);
    machine_.elementwise.push_back(rate);
  }

  // Heads 64 wide, each token attending to itself and those before it, in samples of two lengths: what they take gives what every one
  // takes.
  void measure_attention(ElementwiseRate& rate) {
    constexpr int64_t kShort = 64, kLong = 256, kHeads = 8, kHeadWidth = 64;
    const int64_t samples = least_ < 0.25 ? 1 : 2, few = std::min<int64_t>(kHeads, std::max(2, at::get_num_threads()));
    const int64_t num_heads = samples == 1 ? few : kHeads;
    const double budget = kAttentionShare * whole_seconds_ / (4 * kMeasuredTypes.size());
    std::array<double, 2> forward{}, backward{}, flops{};  // of a head
    for (const bool is_long : {false, true}) {
      const int64_t length = is_long ? kLong : kShort;
      const auto heads = [&] {
        return at::randn({samples, length, num_heads, kHeadWidth}).to(at::TensorOptions(scalar_type(rate.type))).transpose(1, 2);
      };
      const AttentionInput input{heads(), heads(), heads(), {}, true};
      const at::Tensor gradient = heads();
      const std::string figure = figure_of(figures::kAttention, rate.type);
      const auto of_head = [&](double seconds) { return seconds / static_cast<double>(samples * num_heads); };
      forward[is_long] = of_head(meter_.seconds_of(figure, budget, [&] { attend(input); }));
      const double both = of_head(meter_.seconds_of(figure, budget, [&] { attend_backward(gradient, input, attend(input)); }));
      backward[is_long] = std::max(both - forward[is_long], 0.1 * both);
      flops[is_long] = 2.0 * static_cast<double>(length * (length + 1) * kHeadWidth);
    }
    const auto rate_of = [](const std::array<double, 2>& work, const std::array<double, 2>& seconds) {
      const double flops_per_second = (work[1] - work[0]) / std::max(seconds[1] - seconds[0], 0.5 * seconds[1]);
      return AttentionRate{flops_per_second, std::max(0.0, seconds[0] - work[0] / flops_per_second)};
    };
    rate.attention = rate_of(flops, forward);
    rate.attention_backward = rate_of({2 * flops[0], 2 * flops[1]}, backward);
  }

  void measure_flat_kernels() {
    Arena memory = device_.memory("measurement", 4 * array_bytes_);
    std::array<float*, 4> arrays{};
    for (float*& array : arrays) array = static_cast<float*>(memory.allocate(array_bytes_, "array"));
    const auto count = array_bytes_ / static_cast<int64_t>(sizeof(float));
    const auto bytes = static_cast<double>(array_bytes_);
    const double passes = meter_.seconds_of(figures::kMemory, kFlatShare * whole_seconds_, [&] {
      kernels_.cast(arrays[0], DType::F32, arrays[1], DType::BF16, count, stream_);
      kernels_.cast(arrays[2], DType::F32, arrays[3], DType::F32, count, stream_);
      kernels_.zero(arrays[1], DType::F32, count, stream_);
      stream_.synchronize();
    });
    machine_.memory_bytes_per_second = 4.5 * bytes / passes;

    const int64_t drawn = std::min(count, kMiB);
    const ParameterPiece piece{.count = drawn};
    const Perturbation perturbation{.piece = piece, .values = {.base = arrays[0], .plus = arrays[1]}};
    const double perturbing = meter_.seconds_of(figures::kNoise, kNoiseShare / 2 * whole_seconds_, [&] {
      kernels_.perturb({&perturbation, 1}, {}, 1e-3f, stream_);
      stream_.synchronize();
    });
    machine_.noise_elements_per_second = static_cast<double>(drawn) / perturbing;
    const Perturbation copies{.piece = piece,
                              .values = {.base = arrays[0], .plus = arrays[1], .minus = arrays[2], .target_type = DType::BF16}};
    const double copying = meter_.seconds_of(figures::kNoise, kNoiseShare / 2 * whole_seconds_, [&] {
      kernels_.perturb({&copies, 1}, {}, 1e-3f, stream_);
      stream_.synchronize();
    });
    machine_.noise_16bit_elements_per_second = static_cast<double>(drawn) / copying;

    PieceUpdate update;
    update.piece.count = count;
    update.gradient.reduced = arrays[1];
    update.masters = arrays[0];
    update.states = {arrays[2], arrays[3]};  // both are zeros so far
    update.lr = 1e-3f;
    kernels_.draw(update.piece, {}, arrays[1], stream_);
    const AdamParameters adam{
        .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step_size = 1e-3, .inv_sqrt_bias_correction2 = 1, .decoupled = true};
    const double updating = meter_.seconds_of(figures::kUpdates, kUpdateShare * whole_seconds_, [&] {
      kernels_.update(update, adam, stream_);
      stream_.synchronize();
    });
    machine_.update_bytes_per_second = machine_.host_update_bytes_per_second = 7 * bytes / updating;
  }

  // In chunks as a plan has them, one after the other as its lanes do.
  void measure_files() {
    constexpr int64_t kChunk = 16 * kMiB, kSmallChunk = 64 << 10;
    const int64_t chunks = std::max<int64_t>(2, array_bytes_ / (4 * kMiB));
    std::string failure;
    const auto guarded = [&](const auto& work) {
      try {
        if (failure.empty()) work();
      } catch (const std::exception& error) {
        failure = error.what();
      }
    };
    Arena memory = device_.memory("measurement", kChunk, MemoryKind::PinnedHost);
    auto* const chunk = static_cast<std::byte*>(memory.allocate(kChunk, "chunk"));
    std::unique_ptr<ScratchFiles> files;
    const int64_t room = free_room({&options_.scratch_folder, 1});
    machine_.file_bytes = least_capacity(room == INT64_MAX ? 0 : room);
    guarded([&] {
      ScratchOptions options;
      options.key = "--scratch";
      options.folders = {options_.scratch_folder};
      options.rank = meter_.ranks().rank();
      options.warn = [](const std::string&) {};
      files = std::make_unique<ScratchFiles>(
          options, std::vector<FileBuffer>{{"large", chunks * kChunk, kChunk}, {"small", chunks * kSmallChunk, kSmallChunk}});
    });
    if (meter_.any(!failure.empty())) return leave_out_files(failure);
    Stream lane = Stream::inline_stream();
    // The first write of a place in a new file takes longer than those that follow, which are what training waits for. A slow disk has
    // fewer places.
    const auto start = Clock::now();
    int places = 0;
    do guarded([&] { files->write(lane, 0, places, chunk).wait(); });
    while (++places < chunks && seconds_since(start) < 0.2 * kFileShare * whole_seconds_);
    const auto seconds_of = [&](bool is_write, int buffer) {
      int next = 0;
      return meter_.seconds_of(
          is_write ? figures::kFileWrites : figures::kFileReads, kFileShare * whole_seconds_ * (buffer == 0 ? 0.4 : 0.1), [&] {
            const int at = next++ % places;
            guarded([&] { (is_write ? files->write(lane, buffer, at, chunk) : files->read(lane, buffer, at, chunk)).wait(); });
          });
    };
    for (const bool is_write : {true, false}) {
      const double large = seconds_of(is_write, 0), small = seconds_of(is_write, 1);
      (is_write ? machine_.file_write : machine_.file_read) =
          link_of(static_cast<double>(kSmallChunk), small, static_cast<double>(kChunk), large);
    }
    if (meter_.any(!failure.empty())) return leave_out_files(failure);
    measured_.disk = fmt::format("{}: {}", options_.scratch_folder, files->description());
  }
  void leave_out_files(const std::string& failure) {
    machine_.file_read = machine_.file_write = {};
    measured_.disk =
        fmt::format("left out, so that plans with files have no times: {}", failure.empty() ? "another rank has failed" : failure);
  }

  bool has_hosts() const { return meter_.ranks().size() > options_.ranks_per_host; }
  void measure_between_hosts() {
    Communicator ranks = meter_.ranks();
    measure_links(ranks, machine_.gather_across_hosts, figures::kGathersBetweenHosts, machine_.reduce_across_hosts,
                  figures::kReductionsBetweenHosts);
  }
  void measure_within_host() {
    Communicator ranks = meter_.ranks();
    Communicator host = has_hosts() ? ranks.split(options_.first_of_host, ranks.rank()) : ranks;
    measure_links(host, machine_.gather_in_host, figures::kGathersInHost, machine_.reduce_in_host, figures::kReductionsInHost);
    machine_.agreement_seconds = meter_.seconds_of(figures::kAgreements, 0.1 * kCollectiveShare * whole_seconds_, [&] {
      std::array<double, 4> values{};
      host.all_reduce_scalars(values, ReduceOp::Sum, "measurement");
    });
  }

  // Messages of memory that is not in a cache.
  void measure_links(Communicator& group, Link& gather, const char* gathers_figure, Link& reduce, const char* reductions_figure) {
    const int64_t size = group.size(), large = round_up(array_bytes_ / (4 * (size - 1)), kAlignmentBytes), small = kAlignmentBytes;
    const auto buffer = group.allocate(static_cast<size_t>(2 * size * large), "measurement");
    auto* const whole = static_cast<std::byte*>(buffer->data());
    Stream stream = Stream::inline_stream();
    int64_t half = 0;
    const auto seconds_of = [&](bool gathers, int64_t bytes) {
      return meter_.seconds_of(gathers ? gathers_figure : reductions_figure, 0.2 * kCollectiveShare * whole_seconds_, [&] {
        std::byte* const all = whole + (half ^= 1) * size * large;
        std::byte* const own = all + group.rank() * bytes;
        const Segment segment = gathers ? Segment{own, all, bytes / 4} : Segment{all, own, bytes / 4};
        (gathers ? group.all_gather({&segment, 1}, DType::F32, stream, "measurement")
                 : group.reduce_scatter({&segment, 1}, DType::F32, DType::F32, false, stream, "measurement"))
            .wait();
      });
    };
    const auto received = [&](int64_t bytes) { return static_cast<double>((size - 1) * bytes); };
    for (const bool gathers : {true, false}) {
      const double large_seconds = seconds_of(gathers, large);
      (gathers ? gather : reduce) = link_of(received(small), seconds_of(gathers, small), received(large), large_seconds);
    }
  }

  const MeasureOptions& options_;
  const Device& device_;
  const FlatKernels& kernels_;
  Stream stream_;
  CallMeter meter_;
  const Clock::time_point start_ = Clock::now();
  MeasuredMachine measured_, kept_;
  Machine& machine_ = measured_.machine;
  double whole_seconds_ = 0;   // of which parts take their shares
  double least_ = 1;           // share of the whole work that is done at a time where there is less time or memory
  int64_t array_bytes_ = 0;    // of the larger things measured
  int64_t weight_blocks_ = 1;  // that products have at least
  std::optional<Arena> probe_memory_;
  std::array<float*, 2> probe_arrays_{};
  int64_t probe_elements_ = 0;
  double least_probe_ = std::numeric_limits<double>::infinity();  // seconds
};

}  // namespace

std::string figure_of(const char* figure, DType type) { return fmt::format("{}, {}", figure, name_of(type)); }

MeasuredMachine measure_machine(const Communicator& ranks, const MeasureOptions& options, const Device& device,
                                const FlatKernels& kernels) {
  return Measurement(ranks, options, device, kernels).run();
}

}  // namespace zerostep
