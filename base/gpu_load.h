#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace zerostep {

// What a GPU does at a moment, whoever uses it, as NVIDIA's management library (NVML) tells it.
struct GpuLoad {
  std::string name;
  double busy = 0;  // share of the last moments (up to a second) in which some kernel ran, from 0 to 1
  int64_t used_bytes = 0, total_bytes = 0;
};

// Of every GPU of this host, by NVML's numbers, which are not always CUDA's. None where libnvidia-ml.so.1, which comes with the driver,
// cannot be opened, or does not answer.
std::vector<GpuLoad> gpu_loads();

// Of the GPU that this process knows as "cuda:N", a number that CUDA_VISIBLE_DEVICES changes: it is found by its place on the bus. Nothing
// where the driver or NVML does not answer. Readings are made at most five times a second, which is as often as NVML's own change.
class GpuMeter {
 public:
  explicit GpuMeter(const std::string& device_name);
  std::optional<GpuLoad> now();

 private:
  void* gpu_ = nullptr;  // NVML's handle, which lives as long as the process
  std::optional<GpuLoad> last_;
  double read_at_ = -1;
};

}  // namespace zerostep
