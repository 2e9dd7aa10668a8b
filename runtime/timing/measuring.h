#pragma once
#include <array>
#include <cstdint>
#include <functional>

#include "base/device.h"
#include "offload/flat_kernels.h"
#include "runtime/timing/call_meter.h"
#include "runtime/timing/measure_machine.h"

namespace zerostep {

inline constexpr std::array kMeasuredTypes{DType::F32, DType::BF16, DType::F16};
constexpr int64_t kMiB = int64_t{1} << 20;

// What the parts of measure_machine() share. Each of them writes its figures, in about as many seconds as it is given, on every rank at
// once.
struct Measuring {
  const MeasureOptions& options;
  const Device& device;
  const FlatKernels& kernels;
  Stream stream;    // the device's compute stream
  CallTimer timer;  // of what is queued there
  CallMeter meter;
  MeasuredMachine measured = {};
  double least = 1;         // share of the whole work that is done at a time where there is less time or memory
  int64_t array_bytes = 0;  // of the larger things measured: more than caches hold

  Machine& machine() { return measured.machine; }
  // Runs what makes tensors of the device; blocks.
  void on_device(const std::function<void()>& work) { stream.launch(work).wait(); }
  // Of so many bytes, a rank's share on the rank that has least of them, of which `ranks` have a share each.
  int64_t least_capacity(int64_t bytes, int ranks) {
    return static_cast<int64_t>(meter.least_of(static_cast<double>(capacity_of(bytes, ranks))));
  }
};

// What transfers of two sizes take, in bytes and seconds, gives what those of every size take: at least 10 ns and a tenth of the larger
// one's seconds for the bytes that it has more.
Link link_of(double small_bytes, double small_seconds, double large_bytes, double large_seconds);

// With LibTorch.
void measure_products(Measuring& m, DType type, double seconds);
void measure_operations(Measuring& m, double seconds);
// Flat kernels: memory, noise and updates of the device.
void measure_flat_kernels(Measuring& m, double seconds);
// Between the device and the host, where these are two; and updates of what rests there.
void measure_copies(Measuring& m, double seconds);
void measure_host_updates(Measuring& m, double seconds);
void measure_files(Measuring& m, double seconds);
void measure_between_hosts(Measuring& m, double seconds);
void measure_within_host(Measuring& m, double seconds);

}  // namespace zerostep
