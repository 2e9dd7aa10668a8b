#include "base/gpu_load.h"

#include <dlfcn.h>

#include <array>

#include "base/steady_seconds.h"

namespace zerostep {
namespace {

// As nvml.h declares them; 0 is success everywhere.
struct Utilization {
  unsigned gpu, memory;  // percent
};
struct Memory {
  unsigned long long total, free, used;
};

// NVML, opened once and never closed. `is_open`: it has all of these functions and has begun.
struct Nvml {
  int (*begin)() = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*by_index)(unsigned, void**) = nullptr;
  int (*by_bus)(const char*, void**) = nullptr;
  int (*utilization)(void*, Utilization*) = nullptr;
  int (*memory)(void*, Memory*) = nullptr;
  int (*name)(void*, char*, unsigned) = nullptr;
  bool is_open = false;
};

template <typename Function>
bool find(void* library, const char* name, Function& out) {
  out = reinterpret_cast<Function>(dlsym(library, name));
  return out != nullptr;
}

const Nvml& nvml() {
  static const Nvml opened = [] {
    Nvml n;
    void* const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    n.is_open = library != nullptr && find(library, "nvmlInit_v2", n.begin) && find(library, "nvmlDeviceGetCount_v2", n.count) &&
                find(library, "nvmlDeviceGetHandleByIndex_v2", n.by_index) && find(library, "nvmlDeviceGetHandleByPciBusId_v2", n.by_bus) &&
                find(library, "nvmlDeviceGetUtilizationRates", n.utilization) && find(library, "nvmlDeviceGetMemoryInfo", n.memory) &&
                find(library, "nvmlDeviceGetName", n.name) && n.begin() == 0;
    return n;
  }();
  return opened;
}

std::optional<GpuLoad> load_of(void* gpu) {
  const Nvml& n = nvml();
  Memory memory{};
  if (gpu == nullptr || n.memory(gpu, &memory) != 0) return std::nullopt;
  GpuLoad out;
  out.used_bytes = static_cast<int64_t>(memory.used);
  out.total_bytes = static_cast<int64_t>(memory.total);
  Utilization utilization{};
  if (n.utilization(gpu, &utilization) == 0) out.busy = utilization.gpu / 100.0;  // parts of a GPU (MIG) have none
  std::array<char, 96> name{};
  if (n.name(gpu, name.data(), name.size() - 1) == 0) out.name = name.data();
  return out;
}

// Where on the bus CUDA's GPU of this number lies; "": the driver does not say.
std::string bus_of(int cuda_index) {
  int (*begin)(unsigned) = nullptr;
  int (*device)(int*, int) = nullptr;
  int (*bus)(char*, int, int) = nullptr;
  void* const library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  int number = 0;
  std::array<char, 32> text{};
  if (library == nullptr || !find(library, "cuInit", begin) || !find(library, "cuDeviceGet", device) ||
      !find(library, "cuDeviceGetPCIBusId", bus) || begin(0) != 0 || device(&number, cuda_index) != 0 ||
      bus(text.data(), static_cast<int>(text.size()), number) != 0)
    return "";
  return text.data();
}

}  // namespace

std::vector<GpuLoad> gpu_loads() {
  std::vector<GpuLoad> out;
  unsigned count = 0;
  if (!nvml().is_open || nvml().count(&count) != 0) return out;
  for (unsigned i = 0; i < count; ++i) {
    void* gpu = nullptr;
    if (nvml().by_index(i, &gpu) != 0) continue;
    if (const std::optional<GpuLoad> load = load_of(gpu)) out.push_back(*load);
  }
  return out;
}

GpuMeter::GpuMeter(const std::string& device_name) {
  if (!nvml().is_open) return;
  const size_t colon = device_name.find(':');
  const std::string bus = colon == std::string::npos ? "" : bus_of(std::stoi(device_name.substr(colon + 1)));
  if (bus.empty() || nvml().by_bus(bus.c_str(), &gpu_) != 0) gpu_ = nullptr;
}

std::optional<GpuLoad> GpuMeter::now() {
  constexpr double kSeconds = 0.2;
  if (gpu_ == nullptr) return std::nullopt;
  const double now = steady_seconds();
  if (read_at_ >= 0 && now - read_at_ < kSeconds) return last_;
  last_ = load_of(gpu_);
  read_at_ = now;
  return last_;
}

}  // namespace zerostep
