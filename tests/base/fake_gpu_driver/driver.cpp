// A driver of two GPUs that compute nothing, as far as base/gpu_load.cpp asks it: built once as libcuda.so.1 and once as libnvidia-ml.so.1.
#include <cstring>

namespace {

constexpr int kGpus = 2;
constexpr const char* kBus[kGpus] = {"0000:1A:00.0", "0000:3B:00.0"};

int number_of(const void* gpu) { return static_cast<int>(static_cast<const char*>(gpu) - static_cast<const char*>(nullptr)) - 1; }

}  // namespace

extern "C" {

// CUDA numbers the GPUs the other way round.
int cuInit(unsigned) { return 0; }
int cuDeviceGet(int* device, int ordinal) {
  *device = kGpus - 1 - ordinal;
  return ordinal < kGpus ? 0 : 101;
}
int cuDeviceGetPCIBusId(char* text, int size, int device) {
  std::strncpy(text, kBus[device], static_cast<size_t>(size));
  return 0;
}

int nvmlInit_v2() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = kGpus;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** gpu) {
  *gpu = static_cast<char*>(nullptr) + index + 1;
  return 0;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus, void** gpu) {
  for (int i = 0; i < kGpus; ++i)
    if (std::strcmp(bus, kBus[i]) == 0) return nvmlDeviceGetHandleByIndex_v2(static_cast<unsigned>(i), gpu);
  return 6;
}
int nvmlDeviceGetUtilizationRates(void* gpu, unsigned* percent) {
  percent[0] = number_of(gpu) == 0 ? 25 : 75;
  percent[1] = 0;
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* gpu, unsigned long long* bytes) {
  bytes[0] = 1000;
  bytes[2] = number_of(gpu) == 0 ? 100 : 700;
  bytes[1] = bytes[0] - bytes[2];
  return 0;
}
int nvmlDeviceGetName(void* gpu, char* name, unsigned size) {
  std::strncpy(name, number_of(gpu) == 0 ? "Fake A" : "Fake B", size);
  return 0;
}

}  // extern "C"
